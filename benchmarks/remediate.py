"""Changes at AWS's rate limit, compared with a plain loop over boto3 on the same server.

    python -m benchmarks.remediate                      50 account-regions x 20 changes
    python -m benchmarks.remediate --units 100
    python -m benchmarks.remediate --latency 0.05       each answer comes 50 ms later

The server (a process of its own) throttles each account-region at 15 calls a second and settles an update in 2 s.
The limit is what those rates allow one account-region: its calls beyond the first second's burst, at the rate, and
the last update's settling. The naive loop (read, update, wait, tag; boto3's defaults) is timed on a few functions and
multiplied. Goals at 50 account-regions: 88 % of the rate in the slowest, 0.80 of the limit, nothing throttled. Figures
as JSON to stdout.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3

from benchmarks.control_plane import FIGURES, LAYER
from remediator.change.records import Change, FunctionState
from remediator.execution.apply import apply_plan
from remediator.journal.journals import Journals
from remediator.plan.plan import Plan
from remediator.rollout.lock import RunLock
from remediator.settings import RolloutSettings
from scanner.aws.caller import Aws
from scanner.risk.rules import Rules
from scanner.settings import (
    EXEC_WRAPPER,
    DefenderSettings,
    OrganizationSettings,
    RiskSettings,
    SweepSettings,
)
from simulator.core import HOME, RATE, SETTLES_IN_SECONDS
from simulator.http import environment
from storage.folder import FolderStore

RUN_ID = "20261124T034232Z-bench0"
# A little below AWS's rate: the server's clock and ours do not tick together.
OUR_RATE = 14.0
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1")
DEFENDER = DefenderSettings(
    layers={"python": LAYER},
    wrapper="/opt/twistlock/wrapper",
)


@contextmanager
def server(rate: float = RATE, settles_in: float = SETTLES_IN_SECONDS, latency: float = 0.0) -> Iterator[str]:
    """Run the server with boto3's environment set to it, and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.control_plane", str(rate), str(settles_in), str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        os.environ |= environment(url, HOME, REGIONS[0])
        try:
            yield url
        finally:
            process.terminate()


def change(account: str, region: str, name: str) -> Change:
    """Return a planned change of a function as the server creates them."""
    layer = str(DEFENDER.layer_for("python", region, account))
    return Change(
        account_id=account,
        region=region,
        function_name=name,
        function_arn=f"arn:aws:lambda:{region}:{account}:function:{name}",
        action="protect",
        family="python",
        layer=layer,
        before=FunctionState((), "", ()),
        after=FunctionState((layer,), DEFENDER.wrapper_for("python"), (EXEC_WRAPPER,)),
        revision_id="0",
        why="",
    )


def plan_of(changes: list[Change]) -> Plan:
    """Return a plan of these changes."""
    now = datetime.now(UTC)
    return Plan(1, RUN_ID, now, now, "aws", "", {}, tuple(changes))


def units_of(count: int) -> list[tuple[str, str]]:
    """Return so many account-regions."""
    return [(f"{100_000_000_000 + n // len(REGIONS)}", REGIONS[n % len(REGIONS)]) for n in range(count)]


def ours(units: int, changes: int) -> tuple[float, dict[str, int]]:
    """Return the seconds that apply takes, and its outcomes."""
    organization = OrganizationSettings(role_name="Member", regions=REGIONS)
    sweep = SweepSettings(calls_per_second=OUR_RATE)
    aws = Aws(boto3.Session(), organization, sweep, RUN_ID, writes=True)
    for region in REGIONS:
        aws.clients.get("lambda", region)
    plan = plan_of([change(*unit, f"f{n}") for n in range(changes) for unit in units_of(units)])
    rules = Rules("aws", RiskSettings(), DEFENDER)
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        with RunLock(store, RUN_ID) as lock:
            began = time.perf_counter()
            applied = apply_plan(
                plan,
                aws,
                rules,
                RolloutSettings(quiet_minutes=0),
                journals=Journals(store, DEFENDER),
                lock=lock,
                run_id=RUN_ID,
                release="benchmark",
            )
            seconds = time.perf_counter() - began
    return seconds, {str(k): int(v) for k, v in applied.changes["outcome"].value_counts().items()}


def naive(functions: int) -> float:
    """Return the seconds that a plain loop over boto3 takes for a function."""
    began = time.perf_counter()
    for number in range(functions):
        client = boto3.Session().client("lambda", region_name=REGIONS[0])
        name = f"naive{number}"
        found = client.get_function_configuration(FunctionName=name)
        variables = found["Environment"]["Variables"] | {EXEC_WRAPPER: "/opt/twistlock/wrapper"}
        layer = str(DEFENDER.layer_for("python", REGIONS[0], HOME))
        client.update_function_configuration(
            FunctionName=name, Layers=[layer], Environment={"Variables": variables}
        )
        while client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "InProgress":
            time.sleep(1)
        client.tag_resource(Resource=found["FunctionArn"], Tags={"SecurityProtected": "True"})
    return (time.perf_counter() - began) / functions


def figures(url: str) -> dict[str, list[float]]:
    """Return what the server saw of each unit: calls, throttled, seconds from first to last."""
    with urlopen(f"{url}{FIGURES}", timeout=30) as answer:
        seen: dict[str, list[float]] = json.load(answer)
    return {unit: values for unit, values in seen.items() if not unit.startswith(HOME)}


def row(url: str, seconds: float, outcomes: dict[str, int], settles_in: float) -> dict[str, Any]:
    """Return our figures beside the limit."""
    seen = list(figures(url).values())
    calls = sum(values[0] for values in seen)
    limit = max((values[0] - RATE) / RATE + settles_in for values in seen)
    used = sorted(values[0] / (values[2] + 1) / RATE for values in seen)
    return {
        "outcomes": outcomes,
        "wall_s": round(seconds, 2),
        "limit_s": round(limit, 2),
        "wall_over_limit": round(seconds / limit, 2),
        "calls": int(calls),
        "throttled_pct": round(100 * sum(values[1] for values in seen) / calls, 2),
        "rate_used_pct": {"lowest": round(100 * used[0], 1), "median": round(100 * used[len(used) // 2], 1)},
        "cpu_s": round(time.process_time(), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=50)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument(
        "--naive", type=int, default=3, help="functions that the naive loop is timed on, 0 for none"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    total = options.units * options.changes
    with server(latency=options.latency) as url:
        seconds, outcomes = ours(options.units, options.changes)
        result = {"changes": total, "ours": row(url, seconds, outcomes, SETTLES_IN_SECONDS)}
        if options.naive:
            each = naive(options.naive)
            result["naive_loop"] = {"s_a_change": round(each, 2), "wall_s_extrapolated": round(each * total)}
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
