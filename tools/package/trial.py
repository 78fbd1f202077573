"""Import the Lambda handler from the finished zip, with nothing else on the path, to see that all of it is there."""

from __future__ import annotations

import platform
import subprocess
import tempfile
import zipfile
from pathlib import Path

from tools.package.target import Target

HANDLER_MODULE = "auto_defender.lambda_handler"
IMPORT = f"""
import sys, time
sys.path.insert(0, sys.argv[1])
import {HANDLER_MODULE}
print(time.process_time())
"""


class CannotImport(Exception):
    """The handler does not import from the zip."""


def can_try(target: Target) -> bool:
    """Return whether this machine can run the package: its processor is the target's."""
    return platform.machine() == target.machine


def try_import(path: Path, python: str) -> float:
    """Import the handler's module from the zip at `path` with the interpreter `python`, isolated.

    Return the CPU time in seconds, interpreter included; raise CannotImport where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        # -I and -S: neither this machine's packages nor this folder.
        command = [python, "-I", "-S", "-c", IMPORT, folder]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise CannotImport(f"importing {HANDLER_MODULE} failed: {ended.stderr.strip().splitlines()[-1]}")
    return float(ended.stdout)
