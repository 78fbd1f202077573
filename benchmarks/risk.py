"""The cost of assessing a million functions: the risk engine, the same rules row by row, and polars.

    python -m benchmarks.risk [--rows 1000000] [--sample 50000] [--json]

Every contender must return the same protection, verdict and reasons, or there are no figures. The engine and polars
assess all rows in alternating rounds; the best round counts. Row by row would take minutes: it assesses a sample, and
its time is scaled up. There are two such rows: DataFrame.apply(axis=1), and a loop over dicts made before timing. The engine's memory is tracemalloc's peak without the input frame.
"""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.risk_frame import TODAY, functions_frame, rules
from benchmarks.risk_rows import assess_row
from scanner.risk.engine import assess_risk

RULES = rules()
COLUMNS = ["protection", "verdict", "reasons"]


def timed(work: Callable[[], Any], rounds: int = 1) -> tuple[float, float, Any]:
    """Wall and CPU seconds of the best round, and the last round's result."""
    best = (float("inf"), float("inf"))
    result = None
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
    return *best, result


def extra_bytes(functions: pd.DataFrame) -> int:
    """The engine's peak memory beyond the frame, its result included."""
    tracemalloc.start()
    assess_risk(functions, RULES, TODAY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def against_polars(functions: pd.DataFrame, rounds: int) -> dict[str, tuple[float, float]]:
    """Time the engine and polars in alternating rounds."""
    from benchmarks.risk_polars import assess_polars, to_polars

    theirs = to_polars(functions)
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        wall, cpu, assessed = timed(lambda: assess_risk(functions, RULES, TODAY))
        best["engine"] = min(best.get("engine", (wall, cpu)), (wall, cpu))
        wall, cpu, polars = timed(lambda: assess_polars(theirs, RULES, TODAY))
        best["polars"] = min(best.get("polars", (wall, cpu)), (wall, cpu))
    for column in COLUMNS:
        same(assessed[column].astype(str).tolist(), polars[column].cast(str).to_list(), "polars", column)
    return best


def row_by_row(sample: pd.DataFrame, scale: float) -> dict[str, tuple[float, float]]:
    """Time both ways of going row by row over a sample, scaled up to all rows."""
    expected = list(
        zip(*(assess_risk(sample, RULES, TODAY)[column].astype(str) for column in COLUMNS), strict=True)
    )
    rows = sample.to_dict("records")
    loop = timed(lambda: [assess_row(row, RULES, TODAY) for row in rows])
    apply = timed(lambda: sample.apply(lambda row: assess_row(row, RULES, TODAY), axis=1).tolist())
    same(loop[2], expected, "loop", "rows")
    same(apply[2], expected, "apply", "rows")
    return {
        "loop over dicts": (loop[0] * scale, loop[1] * scale),
        "apply(axis=1)": (apply[0] * scale, apply[1] * scale),
    }


def same(ours: list[Any], theirs: list[Any], who: str, what: str) -> None:
    """Raise an error if the contenders' results differ."""
    different = [
        (number, pair) for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]
    ]
    if different:
        raise SystemExit(f"{who} differs in {what} in {len(different)} rows, first row {different[0]}")


def main(
    rows: Annotated[int, typer.Option(min=1)] = 1_000_000,
    sample: Annotated[int, typer.Option(min=1, help="Rows that are assessed row by row.")] = 50_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Print the figures of each contender."""
    functions = functions_frame(rows)
    frame_bytes = int(functions.memory_usage(deep=True).sum())
    times = against_polars(functions, rounds)
    times |= row_by_row(functions.head(sample), rows / min(sample, rows))
    memory = {"frame_mb": frame_bytes / 1e6, "peak_of_frame": 1 + extra_bytes(functions) / frame_bytes}
    engine = times["engine"][0]
    figures = {
        name: {"wall_s": wall, "cpu_s": cpu, "times_engine": wall / engine}
        for name, (wall, cpu) in times.items()
    }
    if as_json:
        print(json.dumps({"rows": rows, "contenders": figures, **memory}, indent=2))
        return
    table = Table("contender", "wall s", "CPU s", "× the engine", title=f"{rows:,} functions")
    for name, row in figures.items():
        table.add_row(name, f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", f"{row['times_engine']:.1f}")
    Console().print(table)
    print(
        f"frame {memory['frame_mb']:.0f} MB, peak with the assessed frame {memory['peak_of_frame']:.2f} times that"
    )


if __name__ == "__main__":
    typer.run(main)
