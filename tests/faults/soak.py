"""Campaigns one after another until enough changes have passed.

    python -m tests.faults.soak                                10,000 changes from a seed of the moment
    python -m tests.faults.soak --seed 7 --changes 1           the one campaign of seed 7, again

Prints a line a campaign: its seed, the changes that AWS took, how its runs ended, each violation; then what all came
to. Ends with 1 where there was a violation.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.campaign import Result, run_campaign


def main(arguments: Sequence[str] | None = None, campaign: Callable[..., Result] = run_campaign) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--accounts", type=int, default=5, help="member accounts, beside the central one")
    parser.add_argument("--functions", type=int, default=40, help="in each account and region")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    changes, violations, seed, began = 0, 0, options.seed, time.monotonic()
    ends, outcomes, faults = Counter[str](), Counter[str](), Counter[str]()
    while changes < options.changes:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            result = campaign(seed, Path(folder), accounts=options.accounts, functions=options.functions)
        print(f"seed {seed}: {result.changes} changes; {_counted(result.ends)}", flush=True)
        for violation in result.violations:
            print(f"seed {seed}: VIOLATION {violation}", flush=True)
        changes += result.changes
        violations += len(result.violations)
        ends, outcomes, faults = ends + result.ends, outcomes + result.outcomes, faults + result.faults
        seed += 1
    print(f"seeds {options.seed} to {seed - 1}: {changes} changes in {time.monotonic() - began:.0f} s")
    print(f"runs: {_counted(ends)}")
    print(f"rows of changes.csv: {_counted(outcomes)}")
    print(f"faults: {faults.total()}; {_counted(faults)}")
    print(f"violations: {violations}")
    sys.exit(violations > 0)


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in what.most_common())


if __name__ == "__main__":
    main()
