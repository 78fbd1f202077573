"""Short campaigns under faults, seeds fixed; `make soak` runs long ones with others."""

from pathlib import Path

import pytest

from tests.faults.campaign import run_campaign


@pytest.mark.parametrize("seed", [2, 6, 10])
def test_no_promise_is_broken(seed: int, tmp_path: Path) -> None:
    result = run_campaign(seed, tmp_path, accounts=3, functions=16)
    assert result.violations == []
    assert result.changes > 20
    assert sum(result.faults.values()) > 20
