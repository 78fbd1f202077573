"""Which stretches of time are read around a change, and how they are split."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from remediator.journal.history import Changed
from remediator.rollout.metrics import around_window, before_window, traffic_of

BEGUN = datetime(2026, 11, 24, 10, 7, 30, tzinfo=UTC)


def change(seconds: int = 4) -> Changed:
    ended = BEGUN + timedelta(seconds=seconds)
    return Changed("111122223333", "us-east-1", "f", "arn", "run", "", BEGUN, ended)


def test_the_history_is_four_weeks_of_full_hours() -> None:
    window = before_window(change())
    assert (window.start.isoformat(), window.end.isoformat(), window.period) == (
        "2026-10-27T10:00:00+00:00", "2026-11-24T10:00:00+00:00", 3_600
    )  # fmt: skip


@pytest.mark.parametrize(
    ("later", "end"),
    [
        (timedelta(minutes=1), "2026-11-24T10:05:00"),
        (timedelta(minutes=30), "2026-11-24T10:35:00"),
        (timedelta(hours=24), "2026-11-25T10:05:00"),
        (timedelta(hours=30), "2026-11-25T10:05:00"),
    ],
)
def test_the_time_around_a_change_ends_now_and_at_the_latest_when_it_is_watched_no_more(
    later: timedelta, end: str
) -> None:
    window = around_window(change(), 24, BEGUN + later)
    assert (window.start.isoformat(), window.period) == ("2026-11-24T07:05:00+00:00", 300)
    assert window.end.isoformat() == f"{end}+00:00"


@pytest.mark.parametrize(("seconds", "start"), [(4, "10:10"), (170, "10:15"), (900, "10:25")])
def test_the_steps_in_which_a_change_was_made_belong_to_neither_side(seconds: int, start: str) -> None:
    one = change(seconds)
    before, around = before_window(one), around_window(one, 24, BEGUN + timedelta(hours=1))
    rows = (around.end - around.start) // timedelta(seconds=around.period)
    steps = np.arange(rows, dtype=float)[:, None] * np.ones(4)
    found = traffic_of(one, np.zeros((672, 4)), before, steps, around)
    assert f"{found.start:%H:%M}" == start
    assert found.recent[:, 0].tolist() == list(range(36))
    first = around.start + timedelta(seconds=300) * int(found.since[0, 0])
    assert first == found.start
    assert found.since[-1, 0] == rows - 1
    assert found.history_end == before.end
