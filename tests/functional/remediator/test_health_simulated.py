"""A day of simulated functions: unchanged ones are left alone, broken ones are found. benchmarks/health.py has the figures."""

import numpy as np
import pytest

from tests.functional.remediator.simulated_traffic import Broken, Kind, first_regressed


def test_fewer_than_one_in_a_thousand_unchanged_functions_a_day_are_called_regressed() -> None:
    rng = np.random.default_rng(20261124)
    regressed = [first_regressed(rng, Kind()) for _ in range(1_000)]
    assert regressed == [None] * len(regressed)


@pytest.mark.parametrize(
    ("broken", "share", "looks"),
    [(Broken(errors=0.05), 0.95, 24), (Broken(slower=2), 0.95, 24), (Broken(errors=1), 0.95, 4)],
    ids=["errors from 0.1 % to 5 %", "duration doubled", "every invocation fails"],
)
def test_a_broken_function_with_a_thousand_invocations_a_day_is_found(
    broken: Broken, share: float, looks: int
) -> None:
    rng = np.random.default_rng(20261124)
    kind = Kind(invocations_a_day=1_000, errors=0.001, mean_ms=300, steady=True)
    found = [first_regressed(rng, kind, broken) for _ in range(100)]
    assert sum(look is not None and look <= looks for look in found) >= share * len(found)
