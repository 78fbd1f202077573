"""The version that the steps of a run compare."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.machine import ROOT

PACKAGES = ("auto_defender", "reports", "remediator", "storage", "scanner")
PRINT = "from auto_defender.distributed.code_version import code_version; print(code_version())"


def version_of(root: Path) -> str:
    command = [sys.executable, "-c", PRINT]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_two_builds_of_one_version_differ(tmp_path: Path) -> None:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    first = version_of(tmp_path)
    assert version_of(tmp_path) == first, "compiling it changes nothing"
    with (tmp_path / "scanner" / "risk" / "engine.py").open("a") as file:
        file.write("# another build\n")
    second = version_of(tmp_path)
    assert second != first
    assert second.partition(", build ")[0] == first.partition(", build ")[0]
