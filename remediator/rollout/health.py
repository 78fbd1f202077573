"""The health watch: whether a function does worse since its change, by errors, throttles and duration.

Rates are compared by Wilson score intervals: a rate has risen where the lowest that the calls after allow is above the
highest that the calls before allow. So a few unlucky calls prove nothing, and a function that nobody called before
can't be distinguished from one that was always so.
"""

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pandas as pd

from remediator.journal.history import Changed, changed_since
from remediator.journal.journals import Journals
from remediator.journal.quarantine import quarantined
from remediator.rollout.metrics import Figures, read_figures
from remediator.settings import HealthSettings
from scanner.aws.caller import Aws
from scanner.core.arns import function_arns
from scanner.core.errors import GuardStop
from scanner.settings import SweepSettings
from storage.protocol import Store

log = logging.getLogger(__name__)

Verdict = Literal["healthy", "regressed", "too_little_traffic", "unread"]
# Three standard errors on both sides: thousands of functions are compared every hour, chance alone must not show.
_Z = 3.0
# One event that always fails is retried twice by Lambda; a handful of such events are no regression.
_FEWEST_BAD = 10
# A point of a percent more is below what a deployment of anything does.
_LEAST_RISE = 0.01
# Means of heavy-tailed durations move by themselves; doubled, and by what a caller feels, they do not.
_SLOWER_BY, _SLOWER_MS = 2.0, 100.0


@dataclass(frozen=True)
class Finding:
    """A verdict and the figures that it rests on, in words."""

    verdict: Verdict
    why: str


def compare(before: Figures | None, after: Figures | None, min_invocations: int) -> Finding:
    """Compare a function with itself; None stands for figures that could not be read, which are never healthy.

    A rise that is certain is a regression however little traffic there is; no rise is health only where both stretches
    have min_invocations.
    """
    if before is None or after is None:
        return Finding("unread", "its metrics could not be read")
    worse = [*filter(None, (_errors(before, after), _throttles(before, after)))]
    enough = min(before.invocations, after.invocations) >= min_invocations
    if enough:
        worse += filter(None, [_slower(before, after)])
    if worse:
        return Finding("regressed", "; ".join(worse))
    counts = f"{before.invocations:,.0f} invocations before, {after.invocations:,.0f} after"
    return Finding("healthy" if enough else "too_little_traffic", counts)


def _errors(before: Figures, after: Figures) -> str:
    return _risen(
        "errors", (before.errors, before.invocations), (after.errors, after.invocations), "invocations"
    )


def _throttles(before: Figures, after: Figures) -> str:
    return _risen(
        "throttles",
        (before.throttles, before.throttles + before.invocations),
        (after.throttles, after.throttles + after.invocations),
        "requests",
    )


def _risen(what: str, before: tuple[float, float], after: tuple[float, float], of: str) -> str:
    """Return by how much a rate has risen, "" where it has not for certain. before, after: (bad ones, of all)."""
    bad, total = after
    if bad < _FEWEST_BAD or interval(*after)[0] <= interval(*before)[1] or _rise(before, after) < _LEAST_RISE:
        return ""
    return f"{what} {_share(*before)} of {before[1]:,.0f} {of} before, {_share(bad, total)} of {total:,.0f} after"


def _slower(before: Figures, after: Figures) -> str:
    if after.mean_ms < max(before.mean_ms * _SLOWER_BY, before.mean_ms + _SLOWER_MS):
        return ""
    return f"mean duration {before.mean_ms:,.0f} ms before, {after.mean_ms:,.0f} ms after"


def interval(bad: float, total: float) -> tuple[float, float]:
    """Return the Wilson score interval of a rate: what rates `bad` of `total` allow. Everything, where total is 0.

    Source: E. B. Wilson, "Probable Inference", Journal of the American Statistical Association 22 (1927).
    """
    if total <= 0:
        return 0.0, 1.0
    # An asynchronous invocation's error can be counted in another stretch than the invocation itself.
    rate = min(1.0, bad / total)
    square = _Z * _Z / total
    middle = rate + square / 2
    half = _Z * math.sqrt(rate * (1 - rate) / total + square / (4 * total))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def _rise(before: tuple[float, float], after: tuple[float, float]) -> float:
    return after[0] / after[1] - (before[0] / before[1] if before[1] > 0 else 0.0)


def _share(bad: float, total: float) -> str:
    return f"{100 * bad / total:.2f} %" if total > 0 else "none"


@dataclass(frozen=True)
class FunctionHealth:
    """One changed function: since when, by which run, how it fares, and the figures behind that (None: not read)."""

    function_arn: str
    run_id: str
    wave: str
    changed: str
    verdict: Verdict
    why: str
    before: Figures | None
    after: Figures | None


def observe_health(
    aws: Aws,
    settings: HealthSettings,
    sweep: SweepSettings,
    *,
    journals: Journals,
    assessed: pd.DataFrame,
    now: datetime,
    deadline: float | None = None,
) -> tuple[FunctionHealth, ...]:
    """Compare every function that was changed within settings.hours with itself. Reads only. now: aware, UTC.

    A function that the assessed frame shows without the Defender is left out: someone else has deployed it since.
    """
    if not settings.enabled:
        return ()
    changed = changed_since(journals, now - timedelta(hours=settings.hours))
    bare = _bare(assessed, {one.function_name for one in changed}, aws.partition)
    changed = [one for one in changed if one.function_arn not in bare]
    figures = read_figures(changed, aws, sweep, hours=settings.hours, now=now, deadline=deadline)
    return tuple(_health(one, figures.get(one.function_arn), settings) for one in changed)


def _bare(assessed: pd.DataFrame, names: Collection[str], partition: str) -> frozenset[str]:
    rows = assessed[(assessed["protection"] == "unprotected") & assessed["function_name"].isin(names)]
    return frozenset(function_arns(rows, partition))


def _health(
    one: Changed, figures: tuple[Figures, Figures] | None, settings: HealthSettings
) -> FunctionHealth:
    before, after = figures or (None, None)
    found = compare(before, after, settings.min_invocations)
    if found.verdict == "regressed":
        log.error(
            "regressed since run %s: %s: %s",
            one.run_id,
            one.function_arn,
            found.why,
            extra={"function_arn": one.function_arn},
        )
    changed = one.ended.isoformat(timespec="seconds")
    return FunctionHealth(
        one.function_arn, one.run_id, one.wave, changed, found.verdict, found.why, before, after
    )


def breaker(
    functions: Sequence[FunctionHealth], settings: HealthSettings, store: Store, now: datetime
) -> GuardStop | None:
    """Return the stop where more than a few functions regressed within settings.hours, found now or by earlier runs."""
    since = now - timedelta(hours=settings.hours)
    arns = {one.function_arn for one in functions if one.verdict == "regressed"} | {
        entry.function_arn
        for entry in quarantined(store)
        if entry.regressed and datetime.fromisoformat(entry.since) >= since
    }
    if not settings.enabled or len(arns) <= settings.max_regressed:
        return None
    return GuardStop(
        "health",
        f"{len(arns)} functions regressed within {settings.hours} hours of their change, more than "
        f"{settings.max_regressed}",
        "See summary.json and the quarantine for their figures; once the cause is fixed, take them out of "
        f"{store.url('state/quarantine.json')}, or wait until they are {settings.hours} hours old",
    )
