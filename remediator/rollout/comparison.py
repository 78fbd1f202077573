"""Compares a function with itself: the time since its change with the same hours of earlier days. No AWS, no clock.

A measure (errors, throttles, duration) has risen where all of this is so:

- It is more than chance, by the number of bad invocations and by how much earlier days differ from each other.
- It is far above a bad day: the worst of the earlier days in the same hours, or an hour earlier or later (a batch that
  begins late, daylight saving). A day or two with an outage are left out, and an outage right before the change is not.
- It is so in each part of the time since the change: what a layer does, it does from the first invocation on. What begins
  later or passes is none of ours.

Where earlier days say little (fewer than a week of them, or a fraction of the traffic since), only failures count, and
half of the invocations must fail.

benchmarks/health.py shows by simulation how often an unchanged function is called regressed, and how soon a broken one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from remediator.rollout.metrics import HOUR, METRICS, STEP, Counts, Traffic

Verdict = Literal["healthy", "regressed", "too_little_traffic", "unread"]
# One in 1,000 functions a day, shared by 24 hourly looks at three measures (Bonferroni's correction).
_CHANCE = 1 / 1_000 / (24 * 3)
_DEVIATIONS = NormalDist().inv_cdf(1 - _CHANCE)
# One event that always fails is retried twice by Lambda; a handful of such events are no regression, and no outage.
_FEWEST_BAD = 10
# A point of a percent more is below what a deployment of anything does.
_LEAST_RISE = 0.01
# Of a bad day's odds: nearly three times a small share, and never more than all.
_WORSE_ODDS = 3.0
# By what a caller feels. The factor is below 2, for it is held against a bad day: so a doubled duration is found.
_SLOWER_BY, _SLOWER_MS = 1.5, 100.0
# Clearly more invocations than on any earlier day explain throttles; many times more are another kind of traffic.
_SURGE, _OTHER_TRAFFIC = 1.2, 5.0
_FEWEST_DAYS = 7
_LITTLE_KNOWN = 0.5
# A day with a handful of invocations counts as if it had these more, at the mean of all days.
_PRIOR = 50.0
# The last half hour and three hours before the change.
_RECENT_STEPS = (6, 36)
# The more bad invocations there are, the more parts are looked at; in each of them, this much of the rise.
_PARTS, _BAD_A_PART = (3, 8), 15
_RISE_IN_EACH = 0.25
# A duration says less than a failure does.
_INVOCATIONS_A_PART = 120
_INVOCATIONS, _ERRORS, _THROTTLES, _DURATION = range(len(METRICS))


@dataclass(frozen=True)
class Figures:
    """What CloudWatch counted of a function; duration_ms is the sum over all invocations."""

    invocations: float
    errors: float
    throttles: float
    duration_ms: float


@dataclass(frozen=True)
class Finding:
    """A verdict, and the figures that it rests on: in words, and in numbers (None: not read).

    before: of the same hours of all earlier days together. after: since the change.
    """

    verdict: Verdict
    why: str
    before: Figures | None = None
    after: Figures | None = None


@dataclass(frozen=True)
class _Measure:
    """Pairs (amount, of how many): days[day, an hour earlier | the same | an hour later], recent[step], since[step]."""

    days: Counts
    recent: Counts
    since: Counts

    @property
    def before(self) -> tuple[float, float]:
        """Return the pair of all earlier days together."""
        amount, of = self.days[:, 1].sum(axis=0).tolist()
        return amount, of

    @property
    def after(self) -> tuple[float, float]:
        """Return the pair since the change."""
        amount, of = self.since.sum(axis=0).tolist()
        return amount, of

    def bad_day(self) -> float:
        """Return the ratio of a bad day, or right before the change if that was worse."""
        recent = [self.recent[-steps:].sum(axis=0) for steps in _RECENT_STEPS]
        outage = [self._smoothed(pair).item() for pair in recent if pair[0] >= _FEWEST_BAD]
        days: list[float] = _without_worst(self._smoothed(self.days).max(axis=1)).tolist()
        return max([*days, *outage])

    def _smoothed(self, pairs: Counts) -> Counts:
        ratios: Counts = (pairs[..., 0] + _PRIOR * _ratio(*self.before)) / (pairs[..., 1] + _PRIOR)
        return ratios

    def comparable(self) -> bool:
        """Return whether earlier days show a week, and traffic of this size."""
        return len(self.days) >= _FEWEST_DAYS and self.after[1] <= _OTHER_TRAFFIC * self.days[:, 1, 1].max()

    def throughout(self, bad_day: float, parts: float) -> bool:
        """Return whether each of so many equal parts of the invocations since the change is well above a bad day."""
        amount, of = self.since.T
        parts = int(np.clip(parts, *_PARTS))
        middles = (of.cumsum() - of / 2) / max(of.sum(), 1.0)
        part = np.minimum(parts * middles, parts - 1).astype(int)
        amounts, counts = (np.bincount(part, weights, parts) for weights in (amount, of))
        least = bad_day + _RISE_IN_EACH * (_ratio(*self.after) - bad_day)
        return bool((amounts > least * counts)[counts > 0].all())

    def unusual(self, scale: Callable[[Counts], Counts]) -> bool:
        """Return whether it is further from earlier days than these scatter: a prediction interval by Student's t.

        scale: the transformation after which ratios scatter evenly. A single day shows no scatter; the other conditions
        decide then. t as a normal deviate: D. L. Wallace, Annals of Mathematical Statistics 30 (1959).
        """
        amount, of = self.days[:, 1].T
        days = scale(_without_worst(amount[of > 0] / of[of > 0]))
        free = len(days) - 1
        deviation = float(days.std(ddof=1)) * math.sqrt(1 + 1 / len(days)) if free > 0 else 0.0
        distance = float(scale(np.array(_ratio(*self.after))) - days.mean()) if len(days) else 0.0
        if deviation == 0 or distance <= 0:
            return distance > 0
        t = distance / deviation
        return (8 * free + 1) / (8 * free + 3) * math.sqrt(free * math.log1p(t * t / free)) > _DEVIATIONS


def _without_worst(days: Counts) -> Counts:
    """Return days in order, without one for every two weeks: of what comes each week, one is always left."""
    ordered: Counts = np.sort(days)
    return ordered[: len(days) - len(days) // 14]


def compare(traffic: Traffic | None, min_invocations: int) -> Finding:
    """Compare a function with itself; None stands for metrics that could not be read, which are never healthy.

    A rise of errors or throttles that is certain is a regression however little traffic there is; a rise of the duration,
    and health, need min_invocations since the change and in the same hours of all earlier days together.
    """
    if traffic is None:
        return Finding("unread", "its metrics could not be read")
    days = _same_hours(traffic)
    before = Figures(*days[:, 1].sum(axis=0).round().tolist())
    after = Figures(*traffic.since.sum(axis=0).tolist())
    enough = min(before.invocations, after.invocations) >= min_invocations
    worse = [*_failing(days, traffic)]
    if enough:
        worse.append(_slower(_measure(days, traffic, _DURATION, [_INVOCATIONS])))
    if why := "; ".join(filter(None, worse)):
        return Finding("regressed", why, before, after)
    counts = f"{before.invocations:,.0f} invocations before, {after.invocations:,.0f} after"
    return Finding("healthy" if enough else "too_little_traffic", counts, before, after)


def _measure(days: Counts, traffic: Traffic, amount: int, of: list[int]) -> _Measure:
    def pairs(counts: Counts) -> Counts:
        return np.stack([counts[..., amount], counts[..., of].sum(axis=-1)], axis=-1)

    return _Measure(pairs(days), pairs(traffic.recent), pairs(traffic.since))


def _same_hours(traffic: Traffic) -> Counts:
    """Return the counts of each earlier day in the hours since the change: [day, an hour earlier | same | later, metric].

    Days of no request at all are left out.
    """
    share = _shares_of_hours(traffic)
    if not len(share):
        return np.zeros((0, 3, traffic.history.shape[1]))
    totals = sliding_window_view(traffic.history, len(share), axis=0) @ share
    first = len(traffic.history) + (traffic.start - traffic.history_end) // timedelta(seconds=HOUR)
    earlier = first - 24 * np.arange(1, len(traffic.history) // 24 + 1)
    starts = earlier[(earlier >= 0) & (earlier < len(totals))]
    days = totals[np.clip(starts[:, None] + np.array([-1, 0, 1]), 0, len(totals) - 1)]
    called: Counts = days[days[:, 1, [_INVOCATIONS, _THROTTLES]].sum(axis=1) > 0]
    return called


def _shares_of_hours(traffic: Traffic) -> Counts:
    """Return how much of each full hour the time since the change covers, from the hour on in which it begins."""
    seconds = traffic.start.minute * 60 + STEP * np.arange(len(traffic.since))
    return np.bincount(seconds // HOUR).astype(float) * (STEP / HOUR)


def _failing(days: Counts, traffic: Traffic) -> Iterator[str]:
    yield _risen("errors", _measure(days, traffic, _ERRORS, [_INVOCATIONS]), "invocations")
    if traffic.since[:, _INVOCATIONS].sum() <= _SURGE * days[:, 1, _INVOCATIONS].max(initial=0.0):
        requests = [_THROTTLES, _INVOCATIONS]
        yield _risen("throttles", _measure(days, traffic, _THROTTLES, requests), "requests")


def _risen(what: str, measure: _Measure, of: str) -> str:
    """Return by how much a share has risen, "" where it has not for certain."""
    before, after = measure.before, measure.after
    if after[0] < _FEWEST_BAD or chance(before, after) > _CHANCE:
        return ""
    usual, share = min(1.0, measure.bad_day()), _ratio(*after)
    worse = _WORSE_ODDS * usual / (1 + (_WORSE_ODDS - 1) * usual)
    least = _ratio(*before) + _LEAST_RISE if measure.comparable() else _LITTLE_KNOWN
    if share < max(worse, least) or not measure.throughout(usual, after[0] / _BAD_A_PART):
        return ""
    if not measure.unusual(_angle):
        return ""
    return (
        f"{what} {_share(*before)} of {before[1]:,.0f} {of} before, {_share(*after)} of {after[1]:,.0f} after"
    )


def _slower(measure: _Measure) -> str:
    """Return by how much the mean duration has risen, "" where it has not for certain."""
    usual, after = measure.bad_day(), _ratio(*measure.after)
    if not measure.comparable() or after < max(usual * _SLOWER_BY, usual + _SLOWER_MS):
        return ""
    if not measure.throughout(usual, measure.after[1] / _INVOCATIONS_A_PART) or not measure.unusual(np.log1p):
        return ""
    return f"mean duration {_ratio(*measure.before):,.0f} ms before, {after:,.0f} ms after"


def _angle(shares: Counts) -> Counts:
    """Return shares on the scale on which counts scatter alike (M. S. Bartlett, Supplement to JRSS 3, 1936)."""
    angles: Counts = np.arcsin(np.sqrt(np.minimum(shares, 1.0)))
    return angles


def chance(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return how likely so many bad ones after are at most, where the rate has not risen. Pairs: (bad ones, of all).

    Given all bad ones, those after are binomial if the rate is the same (J. Przyborowski and H. Wilenski, Biometrika 31,
    1940); the upper tail is bounded by H. Chernoff, Annals of Mathematical Statistics 23 (1952).
    """
    expected = after[1] / (before[1] + after[1]) if after[1] > 0 else 1.0
    bad = before[0] + after[0]
    if after[0] <= bad * expected:
        return 1.0
    exponent = after[0] * math.log(after[0] / (bad * expected))
    if before[0] > 0:
        exponent += before[0] * math.log(before[0] / (bad * (1 - expected)))
    return math.exp(-exponent)


def _ratio(amount: float, of: float) -> float:
    return amount / of if of > 0 else 0.0


def _share(bad: float, total: float) -> str:
    return f"{100 * bad / total:.2f} %" if total > 0 else "none"
