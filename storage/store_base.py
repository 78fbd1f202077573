"""What both kinds of store share: how they fail, and which paths they take."""

from pathlib import PurePosixPath

from scanner.core.errors import AutoDefenderError


class StoreFailed(AutoDefenderError):
    """The store refused or could not be reached after all retries; nothing was lost locally."""


def checked(path: str) -> str:
    """Give the path back; ValueError for one that could leave the store."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"not a path inside the store: {path!r}")
    return path
