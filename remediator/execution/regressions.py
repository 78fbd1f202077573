"""Rolls back by itself what regressed since its change."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from remediator.execution.results import changes_frame
from remediator.execution.rollback import rollback
from remediator.journal.history import undo_each
from remediator.journal.journals import Journals
from remediator.rollout.health import FunctionHealth
from remediator.rollout.lock import RunLock
from remediator.state.quarantine import Quarantined, quarantined
from scanner.aws.caller import Aws
from scanner.core.errors import GuardStop
from scanner.settings import DefenderSettings


@dataclass(frozen=True)
class HealthReport:
    """The health of every function that was changed within the last hours, and what was rolled back for it.

    changes: the changes frame of the rollbacks. stopped_by: the guard that lets nothing new begin, if any. cut_short:
    the rollback was. protection_before: by function ARN, the protection before the change that regressed it.
    """

    functions: tuple[FunctionHealth, ...] = ()
    changes: pd.DataFrame = field(default_factory=lambda: changes_frame(()))
    stopped_by: GuardStop | None = None
    cut_short: bool = False
    protection_before: Mapping[str, str] = field(default_factory=dict)

    @property
    def regressed(self) -> list[FunctionHealth]:
        """Return those that do worse since their change."""
        return [one for one in self.functions if one.verdict == "regressed"]


def roll_back_regressed(
    functions: tuple[FunctionHealth, ...],
    aws: Aws,
    defender: DefenderSettings,
    *,
    journals: Journals,
    run_id: str,
    release: str,
    lock: RunLock,
    now: datetime,
    stop: threading.Event | None = None,
    deadline: float | None = None,
) -> HealthReport:
    """Quarantine what regressed, with its figures, and roll back the change that it regressed by.

    release: under which it counts as regressed, by the line that puts it in quarantine; once, whatever comes after.
    """
    report = HealthReport(functions)
    regressed = report.regressed
    if not regressed:
        return report
    at = now.isoformat(timespec="seconds")
    known = {entry.function_arn for entry in quarantined(journals.store)}
    journals.open(run_id).record(
        [
            Quarantined(
                one.function_arn,
                at,
                run_id,
                f"regressed since run {one.run_id}: {one.why}",
                regressed=True,
                release=release,
                wave=one.wave,
            )
            for one in regressed
            if one.function_arn not in known
        ]
    )
    journals.fold()
    undos = undo_each(journals, {one.function_arn: one.run_id for one in regressed})
    rolled_back = rollback(
        undos,
        aws,
        defender,
        journals=journals,
        run_id=run_id,
        lock=lock,
        stop=stop,
        deadline=deadline,
    )
    return HealthReport(
        functions,
        rolled_back.changes,
        rolled_back.stopped_by,
        cut_short=rolled_back.cut_short,
        protection_before={undo.function_arn: undo.protection_before for undo in undos if undo.intents},
    )
