"""What tests need that a machine may lack."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
# Program and the Debian package that has it.
PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver", "git": "git", "make": "make"}


def missing_programs() -> dict[str, str]:
    """Return the programs that are not installed, each with its Debian package."""
    return {name: package for name, package in PROGRAMS.items() if shutil.which(name) is None}


def program(name: str) -> str:
    """Return the path of a program of PROGRAMS; without it the test can't run."""
    found = shutil.which(name)
    return found or can_not_run(f"{name} is not installed (Debian: {PROGRAMS[name]})")


def built(path: Path) -> Path:
    """Return the path of something that `make test` builds; without it the test can't run."""
    return path if path.is_file() else can_not_run(f"{path} is missing; run `make test`")


def can_not_run(why: str) -> NoReturn:
    """Skip the test; in CI, where nothing may be missing, fail it."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
