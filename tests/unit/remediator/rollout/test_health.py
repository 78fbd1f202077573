"""A function is compared with itself: what is certain is reported, and what is not known is never healthy."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.rollout.health import Figures, compare, interval

counts = st.integers(0, 10_000_000)
MIN = 50


@st.composite
def figures(draw: st.DrawFn) -> Figures:
    invocations = draw(counts)
    return Figures(
        invocations,
        draw(st.integers(0, invocations)),
        draw(counts),
        invocations * draw(st.floats(0.5, 900_000)),
    )


def f(invocations: float, errors: float = 0, throttles: float = 0, mean_ms: float = 100.0) -> Figures:
    return Figures(invocations, errors, throttles, invocations * mean_ms)


@given(figures())
def test_what_did_not_change_has_not_regressed(one: Figures) -> None:
    assert compare(one, one, MIN).verdict in {"healthy", "too_little_traffic"}


@given(figures(), figures())
def test_what_was_not_read_is_never_healthy(before: Figures, after: Figures) -> None:
    for pair in ((None, after), (before, None), (None, None)):
        assert compare(*pair, MIN).verdict == "unread"


@given(figures(), figures())
def test_health_needs_traffic_on_both_sides(before: Figures, after: Figures) -> None:
    if compare(before, after, MIN).verdict == "healthy":
        assert min(before.invocations, after.invocations) >= MIN


@given(figures(), figures(), st.floats(0, 1))
def test_more_errors_after_never_make_it_better(before: Figures, after: Figures, share: float) -> None:
    more = replace(after, errors=after.errors + share * (after.invocations - after.errors))
    if compare(before, after, MIN).verdict == "regressed":
        assert compare(before, more, MIN).verdict == "regressed"


@given(figures(), figures())
def test_better_figures_after_are_no_regression(before: Figures, after: Figures) -> None:
    better = replace(after, errors=0.0, throttles=0.0, duration_ms=after.invocations * before.mean_ms)
    assert compare(before, better, MIN).verdict != "regressed"


@given(counts, st.data())
def test_the_interval_holds_the_rate_and_shrinks_with_traffic(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, total))
    low, high = interval(bad, total)
    assert 0 <= low <= high <= 1
    if total:
        assert low - 1e-9 <= bad / total <= high + 1e-9
        wider = interval(bad * 10, total * 10)
        assert wider[1] - wider[0] <= high - low + 1e-9


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (f(10_000, errors=10), f(1_000, errors=1), "healthy"),
        (f(10_000, errors=10), f(1_000, errors=500), "regressed"),
        (f(10_000, errors=500), f(10_000, errors=520), "healthy"),
        (f(10_000), f(10_000, errors=60), "healthy"),  # certain, and below one percent
        (f(10_000), f(12, errors=12), "regressed"),  # broken: nobody calls it much any more
        (f(10_000), f(9, errors=9), "too_little_traffic"),  # three events that always fail, retried twice
        (f(0), f(100, errors=100), "too_little_traffic"),  # it may always have been so
        (f(0), f(0), "too_little_traffic"),
        (f(10_000), f(49), "too_little_traffic"),
        (f(1_000), f(1_000, throttles=400), "regressed"),
        (f(1_000, throttles=400), f(1_000, throttles=420), "healthy"),
        (f(1_000, mean_ms=100), f(1_000, mean_ms=250), "regressed"),
        (f(1_000, mean_ms=5), f(1_000, mean_ms=50), "healthy"),  # ten times, and nobody feels it
        (f(1_000, mean_ms=5_000), f(1_000, mean_ms=5_200), "healthy"),
        (f(1_000, mean_ms=100), f(49, mean_ms=5_000), "too_little_traffic"),
        (f(0, errors=3), f(100, errors=0), "too_little_traffic"),
    ],
)
def test_verdicts(before: Figures, after: Figures, verdict: str) -> None:
    assert compare(before, after, MIN).verdict == verdict


def test_the_figures_are_in_the_words() -> None:
    found = compare(f(10_000, errors=10, mean_ms=80), f(1_000, errors=500, mean_ms=900), MIN)
    assert "errors 0.10 % of 10,000 invocations before, 50.00 % of 1,000 after" in found.why
    assert "mean duration 80 ms before, 900 ms after" in found.why
