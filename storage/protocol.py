"""The protocol that a folder and an S3 prefix share: files by relative path, with conditional creation."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from scanner.core.errors import AutoDefenderError


class StoreFailed(AutoDefenderError):
    """The store rejected a call or could not be reached after all retries; no local file was lost."""


class Store(Protocol):
    """Files by relative path, '/' between parts. It has reports, the lock, journals and the quarantine."""

    def check_writable(self) -> None:
        """Raise BadInput, in one line, unless files can be written. Creates a folder that does not exist."""

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Write one whole file; a reader sees the old or the new one, never a part."""

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Write one whole file, of any size, from a local one."""

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, or None if there is no such file."""

    def append(self, path: str, line: bytes) -> None:
        """Append one line (a newline is added) and return once it is durable. Only one process may append to a path."""

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Create a file; return False if it exists. `body` must be unique to the caller."""

    def delete(self, path: str) -> None:
        """Delete a file; a missing one is no error."""

    def list(self, prefix: str) -> list[str]:
        """Return the sorted paths of all files below a prefix."""

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
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"not a path inside the store: {path!r}")
    return path
