"""Zip a folder so that the same files give the same bytes: entries sorted, one date, one mode, one compression."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

# The oldest date a zip can hold.
DATE = (1980, 1, 1, 0, 0, 0)
READABLE_BY_ALL = 0o100644 << 16
# Lambda's quota for a function's code and layers, unzipped:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNZIPPED_LIMIT_BYTES = 262_144_000


def write_zip(folder: Path, path: Path) -> None:
    """Write every file under `folder` into a new zip at `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(name, DATE)
                entry.external_attr = READABLE_BY_ALL
                entry.create_system = 3  # Unix, on whichever system this runs
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def unzipped_bytes(path: Path) -> int:
    """Return how large the zip's files are together once Lambda has unzipped them."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def sha256(path: Path) -> str:
    """Return the file's SHA-256 digest in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
