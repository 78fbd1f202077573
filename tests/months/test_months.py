"""Short lives from fixed seeds: no rule is broken. `make months` lives for ninety days."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.months import cli
from tests.months.cli import Lived, live
from tests.months.judge import Violation


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_days_break_no_rule(seed: int) -> None:
    lived = live(seed, 5, accounts=5, functions=4)
    assert lived.changes > 50
    assert lived.faults["killed"] > 0
    assert not lived.violations, "\n".join(map(str, lived.violations))


def test_a_violation_is_printed_with_its_seed_and_hour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Violation("owners", cli.START, "20260105T000000Z-000000", "arn:f", "a foreign layer was lost")
    lived = live(1, 0, accounts=2, functions=1)

    def lives(*_: Any, found: Callable[[Violation], None], **__: Any) -> Lived:
        found(broken)
        return replace(lived, violations=[broken])

    monkeypatch.setattr(cli, "live", lives)
    assert cli.main(["--seed", "1", "--days", "0"]) == 1
    line, *_, last = capsys.readouterr().out.splitlines()
    assert line == f"seed 1: {broken}"
    assert last == "seeds 1 to 1, 0 days each: 1 violations"
