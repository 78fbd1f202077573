"""The protocol that a folder and an S3 prefix share: files by relative path, with conditional creation and replacement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from scanner.core.errors import AutoDefenderError

JSON = "application/json"
# Files that are read at once: a read of S3 takes some 30 ms.
READERS = 16


class StoreFailed(AutoDefenderError):
    """The store rejected a call or could not be reached after all retries; no local file was lost."""


@dataclass(frozen=True)
class Tagged:
    """A file's bytes, and the tag that `replace` takes: it differs for every other content."""

    body: bytes
    tag: str


class Store(Protocol):
    """Files by relative path, '/' between parts: reports, the lock, journals and derived state."""

    def check_writable(self) -> None:
        """Raise BadInput, in one line, unless files can be written. Creates a folder that does not exist."""

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, or None if there is no such file."""

    def read_tagged(self, path: str) -> Tagged | None:
        """Return a file's bytes with their tag, or None if there is no such file."""

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Write one whole file; a reader sees the old or the new one, never a part."""

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        """Write one whole file of any size, piece by piece. An error of `chunks` is raised, and no file is written."""

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        """Create a file durably and return its tag; return None if one exists. `body` must be unique to the caller."""

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        """Replace a file durably if it still has this tag, and return its new one; return None otherwise.

        `body` must be unique to the caller.
        """

    def delete(self, path: str) -> None:
        """Delete a file; a missing one is no error."""

    def folders(self, prefix: str) -> list[str]:
        """Return the sorted names of the folders whose paths begin with a prefix and have one part more at most.

        folders("journals/20261124") returns the names below journals/ that begin with 20261124; their files are not read.
        """

    def list(self, prefix: str) -> list[str]:
        """Return the sorted paths of all files whose paths begin with a prefix."""

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Make `target`/ contain exactly the files `names` of `source`/; the last of `names` is written last."""

    def add_to_table(self, source: str, target: str) -> None:
        """Copy a file to `target` for a query engine: a table of Athena is a folder of files of one kind.

        Does nothing in a local folder, where a glob pattern is enough.
        """

    def url(self, path: str) -> str:
        """Return the file's path, or its s3:// address."""

    def link(self, path: str, expires_sec: int) -> str:
        """Return a link that a browser opens without AWS credentials: a presigned https link, or a file:// one."""


def checked(path: str) -> str:
    """Return the path; raise ValueError for one that could leave the store."""
    if not is_inside(path):
        raise ValueError(f"not a path inside the store: {path!r}")
    return path


def is_inside(path: str) -> bool:
    """Return whether a path names a file and can't leave the store."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and path[0] != "/"
        and path[-1] != "/"
        and not {"\\", "\0"} & set(path)
        and ".." not in parts
    )
