"""`make` builds the Lambda package again when what goes into it has changed, and only then."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine import ROOT, program

ZIP = "dist/auto-defender-python3.11-x86_64.zip"
# Replaces the interpreter: each build adds a line to the log, and the installation of packages does nothing.
PYTHON = f"""#!/bin/sh
case "$*" in *tools.package*) mkdir -p dist && touch {ZIP} && echo "$@" >> builds.log ;; esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one module in each folder, under a path with a space."""
    folder = tmp_path / "a clone"
    for package in ("auto_defender", "reports", "remediator", "scanner", "storage", "tools/package"):
        (folder / package).mkdir(parents=True)
        (folder / package / "module.py").write_text("A = 1\n")
    for name in ("pyproject.toml", "requirements.txt", "requirements-demo.txt", "requirements-dev.txt"):
        (folder / name).write_text("")
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    for stamp in (".demo", ".dev"):
        (folder / ".venv" / stamp).touch()
    return folder


def package(project: Path) -> str:
    """Run make; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        [program("make"), "--silent", "package"],
        cwd=project,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def builds(project: Path) -> int:
    """Run make; return how often it has built the package so far."""
    package(project)
    return len((project / "builds.log").read_text().splitlines())


def test_it_is_built_once_for_the_runtime_that_was_asked_for(project: Path) -> None:
    assert [builds(project), builds(project)] == [1, 1]
    assert "--runtime python3.11 --arch x86_64" in (project / "builds.log").read_text()


@pytest.mark.parametrize("name", ["scanner/module.py", "requirements.txt", "pyproject.toml"])
def test_it_is_built_again_for_another_content(project: Path, name: str) -> None:
    builds(project)
    (project / name).write_text("B = 2\n")
    assert [builds(project), builds(project)] == [2, 2]


def test_it_is_built_again_without_a_module_and_with_one_more(project: Path) -> None:
    builds(project)
    (project / "scanner/module.py").rename(project / "scanner/other.py")
    assert builds(project) == 2
    (project / "scanner/other.py").unlink()
    assert builds(project) == 3


def test_neither_a_files_time_nor_compiled_modules_count(project: Path) -> None:
    builds(project)
    os.utime(project / "scanner/module.py")
    (project / "scanner/__pycache__").mkdir()
    (project / "scanner/__pycache__/module.cpython-311.pyc").write_bytes(b"compiled")
    assert builds(project) == 1


def test_it_is_built_again_where_it_is_gone(project: Path) -> None:
    builds(project)
    (project / ZIP).unlink()
    assert builds(project) == 2


def test_its_path_and_digest_are_printed_also_where_it_is_not_built_again(project: Path) -> None:
    printed = [package(project), package(project)]
    assert printed == [f"{hashlib.sha256((project / ZIP).read_bytes()).hexdigest()}  {ZIP}\n"] * 2
