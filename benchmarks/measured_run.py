"""One contender in a process of its own, so that its CPU and its memory are its own.

    python -m benchmarks.measured_run naive '{"accounts": 60, "regions": ["us-east-1"], "workers": 32, "functions": 25}'

It prints one line of JSON. Imports are not in ``wall`` and ``cpu``: a run pays for them once, whatever its size.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.answers import account_id
from benchmarks.task import Found, Task

CONTENDERS = {  # each takes a Task and returns a Found; only the one that runs is imported
    "ours": "ours",
    "naive": "contenders",
    "shared_loader": "contenders",
    "botocove": "contenders",
    "floor": "floor",
}


def cpu_seconds() -> float:
    """User and system CPU of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb() -> float:
    """The peak resident memory."""
    scale = 1024 if sys.platform != "darwin" else 1024**2  # kilobytes, but bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main(name: str, size: str) -> None:
    """Run the contender, check that it read everything, print the figures."""
    asked = json.loads(size)
    accounts = tuple(account_id(number) for number in range(asked["accounts"]))
    task = Task(accounts, tuple(asked["regions"]), asked["workers"])
    contender: Callable[[Task], Found] = getattr(
        importlib.import_module(f"benchmarks.{CONTENDERS[name]}"), name
    )
    started, cpu = time.perf_counter(), cpu_seconds()
    found = contender(task)
    wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    units = len(task.accounts) * len(task.regions)
    if found.functions != units * asked["functions"]:
        raise SystemExit(f"{name} read {found.functions} functions of {units * asked['functions']}")
    figures = {"contender": name, "accounts": len(accounts), "units": units, **asdict(found)}
    times = {"wall_s": wall, "cpu_s": cpu, "cpu_ms_a_unit": cpu * 1000 / units}
    print(json.dumps(figures | times | {"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
