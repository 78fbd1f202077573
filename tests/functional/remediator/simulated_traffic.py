"""Traffic of functions as CloudWatch would have counted it: seasons, batches, bursts and outages, in steps of five minutes.

An unchanged function is a function with nothing but these. A broken one fails or slows down from its change on.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from remediator.journal.history import Changed
from remediator.rollout.comparison import Finding, compare
from remediator.rollout.metrics import HISTORY, HOUR, Counts, Window, around_window, before_window, traffic_of

_STEP = 300
_STEPS_A_DAY = 86_400 // _STEP
_HISTORY_STEPS = HISTORY.days * _STEPS_A_DAY
_AFTER_STEPS = _STEPS_A_DAY + HOUR // _STEP
_MONDAY = datetime(2026, 10, 26, tzinfo=UTC)


@dataclass(frozen=True)
class Broken:
    """What a change does: this share of invocations fails, and they take so many times as long."""

    errors: float = 0.0
    slower: float = 1.0


@dataclass(frozen=True)
class Kind:
    """How a function is called and how it fares; None: drawn at random, as an organization's functions differ."""

    invocations_a_day: float | None = None
    errors: float | None = None
    mean_ms: float | None = None
    steady: bool = False


def first_regressed(rng: np.random.Generator, kind: Kind, broken: Broken | None = None) -> int | None:
    """Return the first hourly look, of 24, that calls a function regressed; None where none does."""
    begun = _MONDAY + HISTORY + timedelta(minutes=int(rng.integers(7 * 1_440)))
    change = Changed("1", "r", "f", "arn", "run", "", begun, begun + timedelta(seconds=4))
    counts, start = _counted(rng, kind, broken, change)
    history = _between(counts, start, before_window(change))
    for look in range(1, 25):
        finding = look_at(change, counts, start, begun + timedelta(hours=look), history)
        if finding.verdict == "regressed":
            return look
    return None


def look_at(change: Changed, counts: Counts, start: datetime, now: datetime, history: Counts) -> Finding:
    """Compare what was counted (a row a step, from `start` on) as the health watch does at a moment."""
    before, around = before_window(change), around_window(change, 24, now)
    steps = _between(counts, start, around)
    return compare(traffic_of(change, history, before, steps, around), min_invocations=50)


def _between(counts: Counts, start: datetime, window: Window) -> Counts:
    rows = [int((moment - start).total_seconds()) // _STEP for moment in (window.start, window.end)]
    return counts[rows[0] : rows[1]].reshape(-1, window.period // _STEP, 4).sum(axis=1)


def _counted(
    rng: np.random.Generator, kind: Kind, broken: Broken | None, change: Changed
) -> tuple[Counts, datetime]:
    start = before_window(change).start
    size = _HISTORY_STEPS + _AFTER_STEPS
    hours = (start - _MONDAY).total_seconds() / HOUR + np.arange(size) * _STEP / HOUR
    expected, slowness, failing = _seasons(rng, kind, hours)
    errors_at_base = _base_errors(rng, kind)
    errors = np.clip(errors_at_base * _by_day(rng, kind, size, 0.4) + failing, 0, 1)
    if not kind.steady:
        bad, slow = _outages(rng, size)
        errors, slowness = np.maximum(errors, bad), slowness * slow
    if broken:
        since = np.arange(size) >= int((change.ended - start).total_seconds()) // _STEP
        errors = np.where(since, np.maximum(errors, broken.errors), errors)
        slowness = np.where(since, slowness * broken.slower, slowness)
    invocations = rng.poisson(expected)
    bad_ones = _clumped(rng, invocations, errors)
    throttles = _throttles(rng, kind, invocations)
    return np.stack(
        [invocations, bad_ones, throttles, _durations(rng, kind, invocations, slowness)], axis=1
    ), start


def _seasons(rng: np.random.Generator, kind: Kind, hours: Counts) -> tuple[Counts, Counts, Counts]:
    """Return expected invocations, how many times the usual duration they take, and the share that fails, a step."""
    a_day = kind.invocations_a_day or float(np.exp(rng.uniform(np.log(10), np.log(1e6))))
    of_day, day = hours % 24, hours // 24
    shape = 1 + rng.uniform(0, 0.98) * np.cos((of_day - rng.uniform(0, 24)) / 24 * 2 * np.pi)
    if not kind.steady and rng.random() < 0.2:
        shape = np.where((of_day >= 7) & (of_day < 18), 1.0, 0.01)
    if not kind.steady:
        shape *= np.where(day % 7 >= 5, rng.choice([1.0, 0.5, 0.02]), 1.0)
    expected = a_day * shape / shape.mean() / _STEPS_A_DAY
    slowness, failing = np.ones_like(hours), np.zeros_like(hours)
    if not kind.steady:
        expected *= _by_day(rng, kind, len(hours), 0.3) * rng.gamma(4, 1 / 4, len(hours))
        if rng.random() < 0.4:
            _batch(rng, a_day, hours, expected, slowness, failing)
    # The youngest have a few days of history.
    if not kind.steady and rng.random() < 0.1:
        expected[: int(rng.uniform(0, _HISTORY_STEPS))] = 0
    return expected, slowness, failing


def _batch(
    rng: np.random.Generator, a_day: float, hours: Counts, expected: Counts, slow: Counts, failing: Counts
) -> None:
    """Add a job of the night: each night or once a week, at times an hour late, slower, and with a source that fails."""
    begin, length = rng.uniform(0, 24), rng.uniform(0.3, 4)
    weekly, weekday = rng.random() < 0.3, rng.integers(7)
    share, slower, fails = rng.uniform(0.01, 1), rng.uniform(1, 12), rng.choice([0.0, 0.02, 0.1, 0.4])
    late = (rng.random(int(hours[-1] // 24) + 2) < 0.15) * rng.uniform(0, 1, int(hours[-1] // 24) + 2)
    day = ((hours - begin) // 24).astype(int)
    runs = ((hours - begin - late[day]) % 24 < length) & (not weekly or day % 7 == weekday)
    expected += runs * a_day * share / (length * HOUR / _STEP)
    slow *= np.where(runs, slower, 1.0)
    failing += runs * fails


def _base_errors(rng: np.random.Generator, kind: Kind) -> float:
    if kind.errors is not None:
        return kind.errors
    return float(
        rng.choice(
            [0.0, np.exp(rng.uniform(np.log(1e-4), np.log(0.1))), rng.uniform(0, 0.4)], p=[0.3, 0.6, 0.1]
        )
    )


def _by_day(rng: np.random.Generator, kind: Kind, size: int, deviation: float) -> Counts:
    """Return a factor that is drawn anew for each day: days differ by more than chance."""
    if kind.steady:
        return np.ones(size)
    shape = 1 / deviation**2
    return np.repeat(rng.gamma(shape, 1 / shape, size // _STEPS_A_DAY + 1), _STEPS_A_DAY)[:size]


def _outages(rng: np.random.Generator, size: int) -> tuple[Counts, Counts]:
    """Return the share that fails, and by how much what is left is slower: of what the function depends on."""
    bad, slow = np.zeros(size), np.ones(size)
    if rng.random() < 0.8:
        return bad, slow
    days_between = np.exp(rng.uniform(np.log(10), np.log(180)))
    for _ in range(rng.poisson(size / _STEPS_A_DAY / days_between)):
        begin = rng.integers(size)
        end = begin + 1 + int(rng.exponential(rng.choice([3, 12, 36])))
        bad[begin:end] = rng.choice([rng.uniform(0, 0.3), rng.uniform(0, 1)])
        slow[begin:end] *= rng.choice([1.0, rng.uniform(1, 10)])
    return bad, slow


def _clumped(rng: np.random.Generator, invocations: Counts, share: Counts) -> Counts:
    """Return failures; those of events come as three, for Lambda invokes again twice."""
    if rng.random() < 0.5:
        return rng.binomial(invocations.astype(int), share)
    events = rng.poisson(invocations * share / 3)
    return np.minimum(3 * events, invocations)


def _throttles(rng: np.random.Generator, kind: Kind, invocations: Counts) -> Counts:
    if kind.steady or rng.random() < 0.8:
        return np.zeros(len(invocations))
    at_peaks = invocations > np.quantile(invocations, rng.uniform(0.9, 0.999))
    return rng.poisson(np.where(at_peaks, invocations * rng.uniform(0, 0.3), 0))


def _durations(rng: np.random.Generator, kind: Kind, invocations: Counts, slowness: Counts) -> Counts:
    """Return sums of log-normal durations: a sum of many is again log-normal, nearly (L. Fenton, 1960)."""
    mean = kind.mean_ms or np.exp(rng.uniform(np.log(5), np.log(5_000)))
    deviation = rng.uniform(0.2, 1.5)
    spread = np.log1p(np.expm1(deviation**2) / np.maximum(invocations, 1))
    factors = np.exp(rng.normal(-spread / 2, np.sqrt(spread)))
    return invocations * mean * slowness * factors
