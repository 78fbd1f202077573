"""The input of the reports: a finished run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from remediator.state.store import run_folder
from reports.data.rollout_status import RolloutStatus
from scanner.organization.optouts import OptOut

Mode = Literal["scan", "dry_run", "apply", "rollback"]
Trigger = Literal["schedule", "command"]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    accounts, units, functions (assessed), changes: frames, see docs/schema.md; functions may be empty.
    plan_json: the saved form of the plan, or None where none was made.
    quarantine: one mapping per quarantined function: function_arn, and since, run_id, reason where known.
    stages: seconds by stage. calls: counts by service and operation.
    cut_short: the run was stopped, or out of time, before all its changes were tried.
    whole_scope: the sweep asked every account and region in scope: it was neither narrowed nor cut off.
    trigger: what started the run, a schedule or somebody's command.
    version: this program's version.
    rollout: waves, health of changed functions and drift, of a run that planned.
    security_hub: the counts of findings (open, imported, closed, failed, waiting, error), or None where not enabled.
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
    whole_scope: bool = True
    trigger: Trigger = "command"

    @property
    def folder(self) -> str:
        """Return the run's folder in the store: runs/YYYY/MM/DD/RUN_ID."""
        return run_folder(self.run_id)
