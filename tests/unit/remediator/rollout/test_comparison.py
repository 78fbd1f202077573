"""A function is compared with itself: what is certain is reported, and what is not known is never healthy."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.rollout.comparison import chance, compare
from remediator.rollout.metrics import HISTORY, Counts, Traffic

MIN = 50
HOURS = HISTORY.days * 24
# A Tuesday, ten o'clock: where the history ends.
END = datetime(2026, 11, 24, 10, tzinfo=UTC)
counts = st.integers(0, 1_000_000)


def f(invocations: float, errors: float = 0, throttles: float = 0, mean_ms: float = 100.0) -> Counts:
    """Return a row: what CloudWatch counted in a period."""
    return np.array([invocations, errors, throttles, invocations * mean_ms], dtype=float)


def traffic(hourly: Counts, since: Counts, *, steps: int = 12, recent: Counts | None = None) -> Traffic:
    """Return traffic with the same counts in each earlier hour, and so many steps since that make up `since` together."""
    history = np.broadcast_to(hourly, (HOURS, 4)) if hourly.ndim == 1 else hourly
    before = history[-1] / 12 if recent is None else recent
    return Traffic(history, END, np.tile(before, (36, 1)), np.tile(since / steps, (steps, 1)), END)


@st.composite
def rows(draw: st.DrawFn) -> Counts:
    invocations = draw(counts)
    mean_ms = draw(st.floats(0.5, 900_000))
    return f(invocations, draw(st.integers(0, invocations)), draw(counts), mean_ms)


@given(rows(), st.integers(1, 12))
def test_what_did_not_change_has_not_regressed(one: Counts, steps: int) -> None:
    same = traffic(one, one * steps / 12, steps=steps)
    assert compare(same, MIN).verdict in {"healthy", "too_little_traffic"}


def test_what_was_not_read_is_never_healthy() -> None:
    assert compare(None, MIN).verdict == "unread"


@given(rows(), rows())
def test_health_needs_traffic_on_both_sides(before: Counts, after: Counts) -> None:
    found = compare(traffic(before, after), MIN)
    assert found.before is not None
    assert found.after is not None
    if found.verdict == "healthy":
        assert min(found.before.invocations, found.after.invocations) >= MIN


@given(rows(), rows(), st.floats(0, 1))
def test_more_errors_after_never_make_it_better(before: Counts, after: Counts, share: float) -> None:
    more = after + np.array([0, share * (after[0] - after[1]), 0, 0])
    if compare(traffic(before, after), MIN).verdict == "regressed":
        assert compare(traffic(before, more), MIN).verdict == "regressed"


@given(rows(), rows())
def test_better_figures_after_are_no_regression(before: Counts, after: Counts) -> None:
    better = f(after[0], 0, 0, before[3] / before[0] if before[0] else 0.0)
    assert compare(traffic(before, better), MIN).verdict != "regressed"


@pytest.mark.parametrize(
    ("hourly", "after", "verdict"),
    [
        (f(10_000, errors=10), f(1_000, errors=1), "healthy"),
        (f(10_000, errors=10), f(1_000, errors=500), "regressed"),
        (f(10_000, errors=500), f(10_000, errors=520), "healthy"),
        (f(10_000), f(10_000, errors=60), "healthy"),  # certain, and below one percent
        (f(10_000), f(12, errors=12), "regressed"),  # broken: nobody calls it much any more
        (f(10_000), f(9, errors=9), "too_little_traffic"),  # three events that always fail, retried twice
        (f(1_000, errors=400), f(1_000, errors=980), "regressed"),  # it failed often, and now always
        (f(0), f(100, errors=100), "too_little_traffic"),  # it may always have been so
        (f(0), f(0), "too_little_traffic"),
        (f(10_000), f(49), "too_little_traffic"),
        (f(1_000), f(1_000, throttles=400), "regressed"),
        (f(1_000), f(2_000, throttles=800), "healthy"),  # twice the traffic of any day
        (f(1_000, throttles=400), f(1_000, throttles=420), "healthy"),
        (f(1_000, mean_ms=100), f(1_000, mean_ms=250), "regressed"),
        (f(1_000, mean_ms=300), f(1_000, mean_ms=600), "regressed"),
        (f(1_000, mean_ms=5), f(1_000, mean_ms=50), "healthy"),  # ten times, and nobody feels it
        (f(1_000, mean_ms=5_000), f(1_000, mean_ms=5_200), "healthy"),
        (f(1_000, mean_ms=100), f(49, mean_ms=5_000), "too_little_traffic"),
        (f(0, errors=3), f(100, errors=0), "too_little_traffic"),
    ],
)
def test_verdicts(hourly: Counts, after: Counts, verdict: str) -> None:
    assert compare(traffic(hourly, after), MIN).verdict == verdict


def test_the_figures_are_in_the_words() -> None:
    found = compare(traffic(f(10_000, errors=10, mean_ms=80), f(1_000, errors=500, mean_ms=900)), MIN)
    assert "errors 0.10 % of 280,000 invocations before, 50.00 % of 1,000 after" in found.why
    assert "mean duration 80 ms before, 900 ms after" in found.why


def by_hour(row_of: Any) -> Counts:
    """Return a history whose rows are a function of the time."""
    return np.array([row_of(END - timedelta(hours=HOURS - number)) for number in range(HOURS)])


def after_a_change(row_of: Any, minutes: int) -> Traffic:
    """Return traffic that goes on as it was for so many minutes since the end of the history."""
    steps = [row_of(END + timedelta(minutes=minute)) / 12 for minute in range(0, minutes, 5)]
    recent = [row_of(END - timedelta(minutes=minute)) / 12 for minute in range(180, 0, -5)]
    return Traffic(by_hour(row_of), END, np.array(recent), np.array(steps), END)


NIGHTLY = (f(3_000, 3, mean_ms=80), f(200, 16, mean_ms=900))


@pytest.mark.parametrize("begins", range(24))
def test_a_function_that_is_slow_and_fails_at_night_has_not_regressed(begins: int) -> None:
    """At whatever hour it was changed, at each of 24 looks."""

    def row_of(moment: datetime) -> Counts:
        return NIGHTLY[1 <= (moment.hour - begins) % 24 < 5]

    for look in range(1, 25):
        assert compare(after_a_change(row_of, 60 * look - 5), MIN).verdict in {
            "healthy",
            "too_little_traffic",
        }


def test_a_week_since_the_change_is_held_against_earlier_weeks() -> None:
    def row_of(moment: datetime) -> Counts:
        return NIGHTLY[1 <= moment.hour < 5]

    found = compare(after_a_change(row_of, 168 * 60), MIN)
    assert found.verdict == "healthy"
    assert found.before is not None
    assert found.before.errors == 22 * 7 * (4 * 16 + 20 * 3)
    late = after_a_change(row_of, 168 * 60)
    late.since[:, 1] = late.since[:, 0]
    assert compare(late, MIN).verdict == "regressed"


def test_what_happens_once_a_week_has_not_regressed() -> None:
    def row_of(moment: datetime) -> Counts:
        return NIGHTLY[moment.weekday() == END.weekday() and 10 <= moment.hour < 12]

    assert compare(after_a_change(row_of, 120), MIN).verdict == "healthy"


def test_a_batch_that_begins_an_hour_late_has_not_regressed() -> None:
    def row_of(moment: datetime) -> Counts:
        return NIGHTLY[moment.hour == (10 if moment >= END else 9)]

    assert compare(after_a_change(row_of, 55), MIN).verdict == "healthy"


def test_an_outage_that_was_under_way_is_none_of_ours() -> None:
    failing = f(100, errors=60)
    assert compare(traffic(f(1_200), failing, recent=failing / 12), MIN).verdict == "healthy"


@pytest.mark.parametrize(("first", "last"), [(4, 12), (0, 7)])
def test_an_outage_that_begins_later_or_passes_is_none_of_ours(first: int, last: int) -> None:
    one = traffic(f(1_200), f(1_200))
    one.since[first:last, 1] = 60
    assert compare(one, MIN).verdict == "healthy"


def test_an_outage_weeks_ago_hides_nothing() -> None:
    history = np.tile(f(1_200), (HOURS, 1))
    history[240:270, 1] = 1_200
    assert compare(traffic(history, f(1_200, errors=600)), MIN).verdict == "regressed"


def test_a_function_of_a_day_is_held_against_that_day() -> None:
    history = np.zeros((HOURS, 4))
    history[-24:] = f(1_200, errors=2)
    assert compare(traffic(history, f(1_200, errors=300)), MIN).verdict == "healthy"
    assert compare(traffic(history, f(1_200, errors=1_200)), MIN).verdict == "regressed"


pairs = st.tuples(st.integers(0, 60), st.integers(1, 400)).map(lambda pair: (min(pair), max(pair)))


@given(pairs, pairs)
def test_chance_is_never_below_the_exact_binomial_tail(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    bad, share = before[0] + after[0], after[1] / (before[1] + after[1])
    exact = sum(math.comb(bad, k) * share**k * (1 - share) ** (bad - k) for k in range(after[0], bad + 1))
    found = chance(before, after)
    assert found >= exact * (1 - 1e-9)
    assert found <= 1
