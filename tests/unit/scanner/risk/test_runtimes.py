"""Runtimes that AWS lets nobody update: from which day on, and that the data is the locked cfn-lint's."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from scanner.risk.runtimes import blocked_soon, lifecycle, update_blocked
from tools import lambda_runtimes

# Blocked long ago, so that its dates no longer move.
RUNTIME = "dotnetcore2.1"
BLOCK = date(2022, 4, 13)


def test_the_data_file_is_what_the_locked_cfn_lint_says() -> None:
    document = json.loads(lambda_runtimes.DATA_FILE.read_text(encoding="utf-8"))
    generated = document.pop("generated")
    assert document == lambda_runtimes.table(), "cfn-lint moved: run `make runtimes`"
    assert date.fromisoformat(generated)


def test_lifecycle_gives_the_dates_and_the_successor() -> None:
    known = lifecycle(RUNTIME)
    assert known is not None
    assert (known.deprecated, known.create_block) == (date(2022, 1, 5), date(2022, 1, 5))
    assert known.update_block == BLOCK
    assert known.successor is not None
    assert known.successor.startswith("dotnet")


@pytest.mark.parametrize("runtime", ["", "python9.9", "DOTNETCORE2.1"])
def test_a_runtime_that_aws_announced_nothing_for_is_not_blocked(runtime: str) -> None:
    assert lifecycle(runtime) is None
    assert not update_blocked(runtime, date(2099, 1, 1))
    assert not blocked_soon(runtime, date(2099, 1, 1))


def test_updates_are_blocked_from_the_announced_day_on() -> None:
    assert not update_blocked(RUNTIME, BLOCK - timedelta(days=1))
    assert update_blocked(RUNTIME, BLOCK)
    assert update_blocked(RUNTIME, BLOCK + timedelta(days=1))


@pytest.mark.parametrize(
    ("days_before", "soon"),
    [(61, False), (60, True), (1, True), (0, False), (-1, False)],
)
def test_blocked_soon_is_the_sixty_days_before_the_block(days_before: int, soon: bool) -> None:
    assert blocked_soon(RUNTIME, BLOCK - timedelta(days=days_before)) is soon


def test_blocked_soon_takes_the_number_of_days() -> None:
    assert blocked_soon(RUNTIME, BLOCK - timedelta(days=90), days=90)
    assert not blocked_soon(RUNTIME, BLOCK - timedelta(days=91), days=90)


def test_a_runtime_without_a_block_date_is_never_blocked() -> None:
    dotnet9 = lifecycle("dotnet9")
    assert dotnet9 is not None
    assert dotnet9.update_block is None
    assert not update_blocked("dotnet9", date(2099, 1, 1))
