"""The health watch: how functions fare since they were changed, and what regressed taken back by itself."""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from remediator.execution.results import changes_frame
from remediator.execution.rollback import rollback
from remediator.journal.changed import Changed, changed_since
from remediator.journal.history import undo_each
from remediator.journal.quarantine import Quarantined, put_in_quarantine, quarantined
from remediator.journal.store import Store
from remediator.rollout.health import Figures, Verdict, compare
from remediator.rollout.lock import RunLock
from remediator.rollout.metrics import read_figures
from remediator.settings import HealthSettings
from scanner.aws.caller import Aws
from scanner.core.arns import function_arns
from scanner.core.errors import GuardStop
from scanner.settings import DefenderSettings, SweepSettings

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class HealthReport:
    """Every function that was changed within the last hours; the changes frame of what was taken back, and whether
    that was cut short; the guard that lets nothing new begin, if any; and, by function ARN, what protection those that
    regressed had before their change.
    """  # noqa: D205

    functions: tuple[FunctionHealth, ...] = ()
    changes: pd.DataFrame = field(default_factory=lambda: changes_frame(()))
    stopped_by: GuardStop | None = None
    cut_short: bool = False
    protection_before: Mapping[str, str] = field(default_factory=dict)

    @property
    def regressed(self) -> list[FunctionHealth]:
        """Give those that are worse off since their change."""
        return [one for one in self.functions if one.verdict == "regressed"]

    @property
    def taken_back(self) -> list[FunctionHealth]:
        """Give those of them that no longer carry their change; no later run sees them as regressed again."""
        gone = self.changes[self.changes["outcome"].isin(["rolled_back", "dropped"])]
        arns = set(gone["function_arn"])
        return [one for one in self.regressed if one.function_arn in arns]


def observe_health(
    aws: Aws,
    settings: HealthSettings,
    sweep: SweepSettings,
    *,
    store: Store,
    assessed: pd.DataFrame,
    now: datetime,
    deadline: float | None = None,
) -> tuple[FunctionHealth, ...]:
    """Compare every function that was changed within settings.hours with itself. Reads only. now: aware, UTC.

    A function that the assessed frame shows without the Defender is left out: someone else has deployed it since.
    """
    if not settings.enabled:
        return ()
    changed = changed_since(store, now - timedelta(hours=settings.hours))
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


def roll_back_regressed(
    functions: tuple[FunctionHealth, ...],
    aws: Aws,
    defender: DefenderSettings,
    *,
    store: Store,
    run_id: str,
    lock: RunLock,
    now: datetime,
    stop: threading.Event | None = None,
    deadline: float | None = None,
) -> HealthReport:
    """Put what regressed in quarantine, with its figures, and take the change back that it regressed by."""
    regressed = [one for one in functions if one.verdict == "regressed"]
    if not regressed:
        return HealthReport(functions)
    at = now.isoformat(timespec="seconds")
    put_in_quarantine(
        store,
        [
            Quarantined(one.function_arn, at, run_id, f"regressed since run {one.run_id}: {one.why}", True)
            for one in regressed
        ],
    )
    undos = undo_each(store, {one.function_arn: one.run_id for one in regressed})
    taken_back = rollback(
        undos,
        aws,
        defender,
        store=store,
        run_id=run_id,
        lock=lock,
        stop=stop,
        deadline=deadline,
    )
    return HealthReport(
        functions,
        taken_back.changes,
        taken_back.stopped_by,
        cut_short=taken_back.cut_short,
        protection_before={undo.function_arn: undo.protection_before for undo in undos if undo.entries},
    )


def breaker(
    functions: Sequence[FunctionHealth], settings: HealthSettings, store: Store, now: datetime
) -> GuardStop | None:
    """Give the stop where more than a few functions regressed within settings.hours, found now or by earlier runs."""
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
        "See summary.json and the quarantine for their figures; once the cause is mended, take them out of "
        f"{store.url('state/quarantine.json')}, or wait until they are {settings.hours} hours old",
    )
