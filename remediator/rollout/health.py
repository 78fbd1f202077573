"""The health watch: which functions do worse since their change, and whether too many do."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from remediator.journal.history import Changed, changed_since
from remediator.journal.journals import Journals
from remediator.rollout.comparison import Figures, Verdict, compare
from remediator.rollout.metrics import Traffic, read_traffic
from remediator.settings import HealthSettings
from remediator.state.quarantine import quarantined
from scanner.aws.caller import Aws
from scanner.core.arns import function_arns
from scanner.core.errors import GuardStop
from scanner.settings import SweepSettings
from storage.protocol import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FunctionHealth:
    """One changed function: since when, by which run, how it fares, and the figures behind that (None: not read).

    before: of the same hours of earlier days together. after: since the change.
    """

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
    traffic = read_traffic(changed, aws, sweep, hours=settings.hours, now=now, deadline=deadline)
    return tuple(_health(one, traffic.get(one.function_arn), settings) for one in changed)


def _bare(assessed: pd.DataFrame, names: Collection[str], partition: str) -> frozenset[str]:
    rows = assessed[(assessed["protection"] == "unprotected") & assessed["function_name"].isin(names)]
    return frozenset(function_arns(rows, partition))


def _health(one: Changed, traffic: Traffic | None, settings: HealthSettings) -> FunctionHealth:
    found = compare(traffic, settings.min_invocations)
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
        one.function_arn, one.run_id, one.wave, changed, found.verdict, found.why, found.before, found.after
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
        "See summary.json and the quarantine for their figures; once the cause is fixed, take them out by "
        f"'auto-defender state release', or wait until they are {settings.hours} hours old",
    )
