"""Simulates functions that nothing happened to, and broken ones: how often, and how soon, the health watch speaks.

    python -m benchmarks.health [--functions 10000] [--broken 400] [--seed 1]

Each function has four weeks of history and a change at a random time, and is looked at each hour for a day
(tests/functional/remediator/simulated_traffic.py describes the traffic). Goals: fewer than 1 in 1,000 unchanged
functions are called regressed in that day, and of those whose errors rise from 0.1 % to 5 % at 1,000 invocations a day,
98 % are found in it.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.functional.remediator.simulated_traffic import Broken, Kind, first_regressed

_BUSINESS = Kind(invocations_a_day=1_000, errors=0.001, mean_ms=300)
_STEADY = Kind(invocations_a_day=1_000, errors=0.001, mean_ms=300, steady=True)
CASES = (
    ("unchanged", Kind(), None),
    ("errors 0.1 % to 5 %, 1,000 a day, even days", _STEADY, Broken(errors=0.05)),
    ("errors 0.1 % to 5 %, 1,000 a day, any days", _BUSINESS, Broken(errors=0.05)),
    ("duration doubled, 1,000 a day, even days", _STEADY, Broken(slower=2)),
    ("duration doubled, 1,000 a day, any days", _BUSINESS, Broken(slower=2)),
    ("every invocation fails, 1,000 a day, even days", _STEADY, Broken(errors=1)),
    ("every invocation fails, 1,000 a day, any days", _BUSINESS, Broken(errors=1)),
    ("every invocation fails, any function", Kind(), Broken(errors=1)),
)


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    table = Table("case", "functions", "called regressed", "median look", "9 of 10 by look")
    for number, (case, kind, broken) in enumerate(CASES):
        rng = np.random.default_rng([arguments.seed, number])
        count = arguments.broken if broken else arguments.functions
        looks = sorted(filter(None, (first_regressed(rng, kind, broken) for _ in range(count))))
        at = (str(looks[int(share * len(looks))]) if looks else "-" for share in (0.5, 0.9))
        table.add_row(case, f"{count:,}", f"{len(looks):,} ({100 * len(looks) / count:.2f} %)", *at)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
