"""The protocol that a folder and an S3 prefix share: files by relative path, with conditional creation."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from scanner.core.errors import AutoDefenderError


class StoreFailed(AutoDefenderError):
    """The store refused or could not be reached after all retries; nothing was lost locally."""


class Store(Protocol):
    """Files by relative path, '/' between parts. Reports, the lock, the journal and the quarantine live in it."""

    def check_writable(self) -> None:
        """Raise BadInput, in one clear line, unless files can be written here. Creates the folder if need be."""

    def write(self, path: str, body: bytes, content_type: str) -> None:
        """Write one whole file; a reader sees the old one or the new one, never half of it."""

    def upload(self, path: str, source: Path, content_type: str) -> None:
        """Write one whole file, of any size, from a local one."""

    def read(self, path: str) -> bytes | None:
        """Give a file's bytes, or None if there is no such file."""

    def append(self, path: str, line: bytes) -> None:
        """Add one line (its newline is added) and return once it is durable. One process writes to a path."""

    def create_exclusive(self, path: str, body: bytes) -> bool:
        """Create a file; False if it is there already. `body` must be unique to the caller."""

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is no error."""

    def list(self, prefix: str) -> list[str]:
        """Give the sorted paths of all files below a prefix."""

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        """Make `target`/ hold exactly the files `names` of `source`/, the last of `names` last."""

    def add_to_table(self, source: str, target: str) -> None:
        """Let a query engine find a file, under `target` too: Athena's tables are folders of files of one kind.

        Does nothing in a local folder, which no query engine needs tables for.
        """

    def url(self, path: str) -> str:
        """Give what a person can open or pass to a tool: a file path or an s3:// address."""

    def link(self, path: str, expires_sec: int) -> str:
        """Give what a browser opens without AWS credentials: a presigned https link, or a file:// one."""


def checked(path: str) -> str:
    """Give the path back; ValueError for one that could leave the store."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"not a path inside the store: {path!r}")
    return path
