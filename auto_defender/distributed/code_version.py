"""Which build of the code runs: the steps of a run compare it, because each assesses by the checks of its own."""

import hashlib
from functools import cache
from pathlib import Path

from auto_defender import __version__

_PACKAGES = ("auto_defender", "reports", "remediator", "storage", "scanner")


@cache
def code_version() -> str:
    """Return the version and a digest of the packages' files, by which two builds of one version differ."""
    root = Path(__file__).parents[2]
    files = [path for package in _PACKAGES for path in (root / package).rglob("*") if _is_source(path)]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__}, build {digest.hexdigest()[:12]}"


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"
