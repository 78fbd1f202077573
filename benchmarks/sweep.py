"""The sweep beside what people use, and beside the least it could cost: same server, same run.

    python -m benchmarks.sweep                     1,000 accounts x 4 regions x 25 functions, plain and TLS
    python -m benchmarks.sweep --scale             what a unit costs from 100 to 10,000 accounts
    python -m benchmarks.sweep --million           1,000,000 functions: the frame's memory and the process's peak

The tables go to stderr, the figures as JSON to stdout. Every contender runs in a process of its own; a contender
that costs the same for every unit is run on fewer accounts, as its row says. CPU is what to compare: on loopback,
wall is CPU plus the server's share of it, unless --latency-ms makes the network count. botocove comes from
requirements-dev.txt.
"""

import json
import os
import subprocess
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measured_run import CONTENDERS
from benchmarks.server_process import ROOT, RunningServer, running_server

REGIONS = (
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "ca-central-1",
)
# Accounts at most: the cost of a unit does not depend on their number, and more would take hours.
SAMPLES = {"naive": 40, "botocove": 40, "shared_loader": 80}
# The CPU of a unit: theirs at least so many times ours; ours at most so many times the floor's.
GOALS = {"naive": 40, "shared_loader": 10, "floor": 3}
Row = dict[str, Any]

console = Console(stderr=True)


def client_environment(server: RunningServer) -> dict[str, str]:
    """The environment of a client: ours, without what this machine says of AWS."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return rest | server.environment()


def measure(server: RunningServer, name: str, size: dict[str, Any]) -> Row:
    """One contender's figures, with what the server saw of it."""
    accounts = min(size["accounts"], SAMPLES.get(name, size["accounts"]))
    console.print(f"{name}, {accounts} accounts, {server.url.partition(':')[0]}", style="dim")
    server.reset()
    task = json.dumps(size | {"accounts": accounts})
    command = [sys.executable, "-m", "benchmarks.measured_run", name, task]
    environment = client_environment(server)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    stats = server.stats()
    row: Row = json.loads(done.stdout)
    return row | {name: stats[name] for name in ("connections", "requests")} | {"tls": bool(server.ca_bundle)}


def compare(
    size: dict[str, Any], names: list[str], *, tls: bool, latency_ms: float, rounds: int
) -> list[Row]:
    """Measure the contenders on one server, one after the other per round; return the best round of each.

    Those that cost many times as much are measured in the first round only: their difference exceeds the noise.
    """
    regions = tuple(size["regions"])
    with running_server(
        size["accounts"], size["functions"], regions, latency_ms=latency_ms, tls=tls
    ) as server:
        measured = [
            measure(server, name, size)
            for round_ in range(rounds)
            for name in names
            if round_ == 0 or name not in SAMPLES
        ]
    of_name = {name: [row for row in measured if row["contender"] == name] for name in names}
    rows = [min(measurements, key=lambda row: float(row["cpu_s"])) for measurements in of_name.values()]
    ours = next((row["cpu_ms_a_unit"] for row in rows if row["contender"] == "ours"), None)
    if ours is None or len(rows) == 1:
        return rows
    return [row | {"times_ours": row["cpu_ms_a_unit"] / ours} for row in rows]


def show(title: str, rows: list[Row]) -> None:
    """A table of the rows."""
    table = Table(title=title, title_justify="left")
    for heading in (
        "contender",
        "accounts",
        "units",
        "functions",
        "wall s",
        "CPU ms a unit",
        "x ours",
        "connections",
    ):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    table.add_column("peak MB", justify="right")
    for row in rows:
        ratio = row.get("times_ours")
        table.add_row(
            row["contender"],
            f"{row['accounts']:,}",
            f"{row['units']:,}",
            f"{row['functions']:,}",
            f"{row['wall_s']:.1f}",
            f"{row['cpu_ms_a_unit']:.2f}",
            f"{ratio:.2f}" if ratio else "",
            f"{row['connections']:,}",
            f"{row['peak_mb']:,.0f}",
        )
    console.print(table)


def goals(rows: list[Row], size: dict[str, Any]) -> list[Row]:
    """What the sweep is to reach, what it reached, and whether that will do."""
    found = {row["contender"]: row for row in rows}
    if "ours" not in found:
        return []
    ours, results = found["ours"], []
    for name, goal in GOALS.items():
        if name in found:
            ratio = found[name]["times_ours"]
            reached, asked = (
                (1 / ratio, f"at most {goal}") if name == "floor" else (ratio, f"at least {goal}")
            )
            good = reached <= goal if name == "floor" else reached >= goal
            text = f"CPU a unit, {'ours / floor' if name == 'floor' else f'{name} / ours'}"
            results.append({"goal": text, "reached": round(reached, 2), "asked": asked, "met": good})
    most = size["workers"] * len(size["regions"])
    connections = {"goal": "connections opened", "reached": ours["connections"], "asked": f"at most {most}"}
    return [*results, connections | {"met": ours["connections"] <= most}]


def show_goals(reached: list[Row]) -> None:
    """One line a goal."""
    for goal in reached:
        verdict = "[green]met[/]" if goal["met"] else "[red]missed[/]"
        console.print(f"  {goal['goal']}: {goal['reached']} ({goal['asked']}) {verdict}")


def main(
    *,
    accounts: Annotated[int, typer.Option(min=1)] = 1000,
    regions: Annotated[int, typer.Option(min=1, max=len(REGIONS))] = 4,
    functions: Annotated[int, typer.Option(min=0, help="In each account and region.")] = 25,
    workers: Annotated[int, typer.Option(min=1)] = 32,
    latency_ms: Annotated[float, typer.Option(min=0, help="Added to each answer.")] = 0,
    tls: Annotated[bool | None, typer.Option("--tls/--plain", help="Only one of the two.")] = None,
    contenders: Annotated[str, typer.Option(help="Joined by commas.")] = ",".join(CONTENDERS),
    rounds: Annotated[int, typer.Option(min=1, help="The round with the least CPU counts.")] = 5,
    scale: Annotated[bool, typer.Option("--scale", help="Ours at 100, 1,000 and 10,000 accounts.")] = False,
    million: Annotated[bool, typer.Option("--million", help="Ours with 1,000,000 functions.")] = False,
) -> None:
    """Compare the sweep with its contenders, or look at how it scales."""
    names = contenders.split(",")
    unknown = sorted(set(names) - set(CONTENDERS))
    if unknown:
        raise typer.BadParameter(
            f"no such contender: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}"
        )
    size = {"accounts": accounts, "regions": REGIONS[:regions], "functions": functions, "workers": workers}
    results: Row = {
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
        "size": size,
        "latency_ms": latency_ms,
    }
    if scale:
        results["scale"] = []
        for count in (100, 1_000, 10_000):
            results["scale"] += compare(
                size | {"accounts": count},
                ["ours"],
                tls=bool(tls),
                latency_ms=latency_ms,
                rounds=min(rounds, 2),
            )
        show("What a unit costs as the organization grows", results["scale"])
    if million:
        big = size | {"accounts": 1_000, "regions": REGIONS[:4], "functions": 250}
        results["million"] = compare(big, ["ours"], tls=bool(tls), latency_ms=latency_ms, rounds=1)
        show(
            f"A million functions: their frame takes {results['million'][0]['frame_mb']:.0f} MB",
            results["million"],
        )
    if not (scale or million):
        results["compared"], results["goals"] = [], []
        for secure in (False, True) if tls is None else (tls,):
            rows = compare(size, names, tls=secure, latency_ms=latency_ms, rounds=rounds)
            show(f"{'TLS' if secure else 'Plain HTTP'}, {latency_ms:g} ms latency, {workers} workers", rows)
            reached = goals(rows, size)
            show_goals(reached)
            results["compared"] += rows
            results["goals"] += [goal | {"tls": secure} for goal in reached]
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    typer.run(main)
