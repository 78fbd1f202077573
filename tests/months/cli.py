"""Lives of a simulated organization, one for each seed, judged from outside.

    python -m tests.months --seed 7 --days 90            one life; --seeds 3 lives on with seeds 8 and 9
    python -m tests.months --seed 7 --days 20 --log      and what happened, hour by hour

Prints a line a life: seed, days, runs, changes, faults; each violation with its rule, its hour, its run and function;
and as its last line how many there were. The same arguments live the same life, as far as threads allow. Ends with 1
where a rule was broken.
"""

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.months.judge import Judge, Violation
from tests.months.life import Life
from tests.months.operations import Operations

# A Monday; before today, for state commands go by the system's clock, to which a lock from then has expired.
START = datetime(2026, 1, 5, tzinfo=UTC)
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Lived:
    """What a life came to."""

    seed: int
    days: int
    changes: int
    ends: Counter[str]
    events: Counter[str]
    faults: Counter[str]
    violations: list[Violation]
    log: list[str]

    @property
    def runs(self) -> int:
        return sum(count for end, count in self.ends.items() if end.startswith(("run:", "rollback:")))


def live(
    seed: int,
    days: int,
    *,
    accounts: int = 12,
    functions: int = 9,
    found: Callable[[Violation], None] = lambda violation: None,
) -> Lived:
    """Live so many days. found: called with each violation when it is found."""
    life = Life(seed, accounts=accounts, functions=functions, start=START)
    faults: Counter[str] = Counter()
    where = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="months-", dir=where) as folder:
        operations = Operations(life, Path(folder))
        judge = Judge(life, operations, found)
        for hour in range(days * 24):
            life.hour()
            _hour(life, operations, judge, hour)
        judge.finish()
    for run in operations.runs:
        faults.update(run.faults)
        faults["killed"] += run.ended == "killed"
        faults["frozen"] += run.weather.frozen_at is not None
        faults["clock off"] += bool(run.weather.offset)
    return Lived(seed, days, judge.changes, operations.ends, life.counts, faults, judge.violations, life.log)


def _hour(life: Life, operations: Operations, judge: Judge, hour: int) -> None:
    if not life.misses_a_run():
        operations.hourly(life.weather())
    for asked in life.asked.rollbacks:
        operations.roll_back(asked, life.weather())
    if life.asked.retry:
        operations.retry()
    if life.asked.release:
        operations.release()
    if hour % 24 == 6:
        operations.tidy()
        operations.back_up()
        judge.rebuilt(operations.rebuild())
    if hour > 168 and hour % 168 == 6:
        operations.report_week()
    if life.asked.restore:
        operations.restore(rebuild=hour % 2 == 0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seeds", type=int, default=1, help="how many lives")
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--accounts", type=int, default=12)
    parser.add_argument("--functions", type=int, default=9, help="in each account and region")
    parser.add_argument("--log", action="store_true", help="print what happened")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    violations = 0
    for seed in range(options.seed, options.seed + options.seeds):
        began = time.monotonic()
        lived = live(
            seed,
            options.days,
            accounts=options.accounts,
            functions=options.functions,
            found=lambda violation, seed=seed: print(f"seed {seed}: {violation}", flush=True),
        )
        seconds = timedelta(seconds=round(time.monotonic() - began))
        print(
            f"seed {seed}: {lived.days} days, {lived.runs} runs, {lived.changes} changes, "
            f"{lived.faults.total()} faults in {seconds}"
        )
        for what, counts in (("ends", lived.ends), ("faults", lived.faults), ("events", lived.events)):
            print(
                f"  {what}: {', '.join(f'{count} {name}' for name, count in counts.most_common() if count)}"
            )
        for line in lived.log if options.log else ():
            print(f"  {line}")
        violations += len(lived.violations)
    print(
        f"seeds {options.seed} to {options.seed + options.seeds - 1}, {options.days} days each: {violations} violations"
    )
    return int(violations > 0)
