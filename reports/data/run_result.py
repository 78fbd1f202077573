"""What a finished run hands to the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from remediator.journal.store import run_folder
from reports.data.rollout_status import RolloutStatus
from scanner.organization.optouts import OptOut

Mode = Literal["scan", "dry_run", "apply", "rollback"]


@dataclass(frozen=True)
class RunResult:
    """One run, whole.

    accounts, units, functions (assessed), changes: frames as docs/schema.md tells; functions may be empty.
    plan_json: the plan as it is saved, or None where no plan was made.
    quarantine: one mapping a function that is left alone: function_arn, and since, run_id, reason where known.
    stages: seconds by stage. calls: counts by service and operation.
    cut_short: the run was told to stop, or its time was up, before all its changes were tried.
    version: this program's version.
    rollout: waves, health of changed functions and drift, of a run that planned.
    security_hub: what became of the findings (open, imported, closed, failed, waiting, error), or None where not asked.
    """

    run_id: str
    mode: Mode
    started: datetime
    ended: datetime
    partition: str
    accounts: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame
    changes: pd.DataFrame
    exit_code: int
    stopped_by: str | None = None
    cut_short: bool = False
    plan_json: bytes | None = None
    optouts: Sequence[OptOut] = ()
    quarantine: Sequence[Mapping[str, Any]] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    calls: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    rollout: RolloutStatus = field(default_factory=RolloutStatus)
    security_hub: Mapping[str, Any] | None = None

    @property
    def folder(self) -> str:
        """Give the run's folder in the store: runs/YYYY/MM/DD/RUN_ID, the same that its journal is in."""
        return run_folder(self.run_id)
