"""Python processes that have loaded the product already: each is forked from one that waits, instead of a second of imports.

What is tested of a process (signals, kills, exit codes, standard streams, the environment) is the same; what loading itself
does is not, and tests of that start an interpreter of their own.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine import ROOT

# Reads requests, one a line, and answers each with a process id and, when that process has ended, its exit code.
_FORKING = """
import gc, importlib, json, os, pkgutil, runpy, signal, sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
for package in ("scanner", "storage", "remediator", "reports", "auto_defender"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.startswith(("auto_defender.demo", "auto_defender.__main__")):
            importlib.import_module(module.name)
gc.freeze()  # a collection in a child would copy every page
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    python = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN if number in request["ignored"] else python)
os.environ.clear()
os.environ.update(request["env"])
os.chdir(request["cwd"])
for descriptor, name in enumerate((os.devnull, request["stdout"], request["stderr"])):
    os.dup2(os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY), descriptor)
option, program, *arguments = request["arguments"]
sys.argv = [option, *arguments]
if option == "-m":
    runpy.run_module(program, run_name="__main__", alter_sys=True)
else:
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
"""


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """Read what --json printed."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def log(self) -> list[dict[str, Any]]:
        """Read the log lines."""
        return [json.loads(line) for line in self.stderr.splitlines()]


@dataclass
class Program:
    """A program under way; its output goes to files."""

    _parent: subprocess.Popen[str]
    _folder: tempfile.TemporaryDirectory[str]
    pid: int = 0
    _done: Done | None = field(default=None)

    @property
    def has_ended(self) -> bool:
        return self._done is not None or bool(select.select([self._parent.stdout], [], [], 0)[0])

    def send_signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            os.kill(self.pid, number)

    def wait(self, timeout_sec: float = 600.0) -> Done:
        """Return how it ended; kill it where it has not in that time."""
        if self._done is None:
            assert self._parent.stdout is not None
            if not select.select([self._parent.stdout], [], [], timeout_sec)[0]:
                os.kill(self.pid, signal.SIGKILL)
                self._parent.stdout.readline()
                raise TimeoutError(f"the program had not ended after {timeout_sec} s")
            exit_code = int(self._parent.stdout.readline())
            _idle.append(self._parent)
            stdout, stderr = ((Path(self._folder.name) / name).read_text("utf-8") for name in _STREAMS)
            self._folder.cleanup()
            self._done = Done(exit_code, stdout, stderr)
        return self._done


_STREAMS = ("stdout", "stderr")
_idle: list[subprocess.Popen[str]] = []


def start(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    ignored: Collection[signal.Signals] = (),
) -> Program:
    """Start `python ARGUMENTS`, -m or -c first. ignored: the signals that the parent ignores."""
    parent = _idle.pop() if _idle else _parent()
    folder = tempfile.TemporaryDirectory()
    streams = {name: f"{folder.name}/{name}" for name in _STREAMS}
    for path in streams.values():
        Path(path).touch()
    request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "ignored": list(ignored), **streams}
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(json.dumps(request) + "\n")
    parent.stdin.flush()
    return Program(parent, folder, int(parent.stdout.readline()))


def _parent() -> subprocess.Popen[str]:
    """Start a process to fork from; it ends with this one."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    atexit.register(parent.communicate)
    return parent
