"""A harness around a FakeLambda: rules, a plan from the current functions, one call to apply it, one to roll it back."""

import hashlib
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import SecretStr

from remediator.change import update as update_module
from remediator.execution import executor as executor_module
from remediator.execution.apply import ApplyResult, apply_plan
from remediator.execution.recover import resolve_open_runs
from remediator.execution.rollback import refuse_unknown, rollback
from remediator.journal.history import variables_given
from remediator.journal.journal import Basis, Entry
from remediator.journal.journals import Journals
from remediator.journal.selection import Selection, select
from remediator.plan.plan import Plan, make_plan
from remediator.plan.plan_file import configuration_digest
from remediator.rollout.guards import exclusions
from remediator.rollout.lock import LOCK, RunLock
from remediator.settings import RolloutSettings
from remediator.state.quarantine import Quarantined
from scanner.core.arns import function_arns
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.organization.optouts import OptOuts
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER, DefenderSettings, RiskSettings
from storage.folder import FolderStore
from tests.unit.remediator.fake_lambda import PUBLISHER, FakeLambda

WRAPPER = "/opt/twistlock/wrapper"
POLICY = "very-s3cret-policy"
RUN = "20261124T034232Z-1a2b3c"
LATER = "20261124T044232Z-later"
OURS = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": POLICY}


def settings(version: int = 4, **changes: Any) -> DefenderSettings:
    base = f"arn:aws:lambda:{{region}}:{PUBLISHER}:layer:twistlock"
    return DefenderSettings(
        layers={"python": f"{base}-python:{version}", "nodejs": f"{base}-nodejs:{version}"},
        wrapper=WRAPPER,
        environment={"TW_POLICY": SecretStr(POLICY)},
        **changes,
    )


class Harness:
    """Rules and a store, and the jobs of remediator/ over them."""

    def __init__(self, aws: FakeLambda, folder: Path, **rollout: Any) -> None:
        self.aws = aws
        self.store = FolderStore(folder)
        self.defender = settings()
        # A function that the fake AWS has just updated may be updated again at once.
        self.rollout = RolloutSettings(**{"dry_run": False, "quiet_minutes": 0, **rollout})
        self.risk = RiskSettings()
        self.optouts = OptOuts()

    @property
    def rules(self) -> Rules:
        return Rules(
            "aws",
            self.risk,
            self.defender,
            optouts=self.optouts,
            require_tag=self.rollout.require_tag,
            optout_tag=self.rollout.optout_tag,
            exclusion_list=exclusions(self.rollout),
        )

    def quarantine(self, *entries: Quarantined) -> None:
        self.journals.record("20261101T000000Z-earlier", entries)

    @property
    def digest(self) -> str:
        return configuration_digest(self.defender, self.risk, self.rollout)

    @property
    def release(self) -> str:
        """Return what Configuration.release stands for, without the seconds that key stretching takes."""
        values = {name: value.get_secret_value() for name, value in self.defender.environment.items()}
        text = f"{self.defender.layers} {self.defender.wrapper} {values}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def journals(self) -> Journals:
        return Journals(self.store, self.defender, self.aws.clock)

    def assessed(self) -> pd.DataFrame:
        frame = FunctionsFrame()
        for arn, function in self.aws.core.functions.items():
            region, account = arn.split(":")[3:5]
            watched = self.defender.watched_variables
            frame.add(account, region, facts([function.listed()], "aws", account, region, watched))
        functions = frame.finish()
        if self.rules.need_tags:
            functions = functions.assign(required_tag=True, optout_tag=False, tags_read=True)
        return assess_risk(functions, self.rules, date(2026, 11, 24))

    def plan(self, run_id: str = RUN, **more: Any) -> Plan:
        assessed = self.assessed()
        removals = function_arns(assessed[assessed["remove"]], "aws")
        return make_plan(
            assessed,
            self.defender,
            self.rollout,
            run_id=run_id,
            now=datetime(2026, 11, 24, 3, 42, tzinfo=UTC),
            partition="aws",
            config_digest="digest",
            given=variables_given(self.journals, removals),
            **more,
        )

    def apply(self, plan: Plan | None = None, run_id: str = RUN, **more: Any) -> ApplyResult:
        plan = plan or self.plan(run_id)
        with RunLock(self.store, run_id) as lock:
            return apply_plan(
                plan,
                self.aws,
                self.rules,
                self.rollout,
                journals=self.journals,
                lock=lock,
                run_id=run_id,
                release=self.release,
                **more,
            )

    def resolve(self, **more: Any) -> ApplyResult:
        with RunLock(self.store, "20261124T044232Z-recover") as lock:
            basis = Basis(self.release, "digest")
            return resolve_open_runs(
                self.aws, self.defender, journals=self.journals, lock=lock, basis=basis, **more
            )

    def rollback(
        self,
        runs: list[str],
        functions: list[str] | None = None,
        *,
        write: bool = True,
        run_id: str = "20261125T000000Z-back",
        selection: Selection | None = None,
        **more: Any,
    ) -> ApplyResult:
        """Roll runs and functions back, or a selection of another kind."""
        waves = [wave.name for wave in self.rollout.waves]
        undos = select(self.journals, selection or Selection(runs, functions or []), waves)
        refuse_unknown(undos, self.aws, self.defender, ())
        common: dict[str, Any] = {"journals": self.journals, "run_id": run_id, **more}
        if not write:
            return rollback(undos, self.aws, self.defender, lock=None, **common)
        with RunLock(self.store, run_id) as lock:
            return rollback(undos, self.aws, self.defender, lock=lock, **common)

    def entries(self, run_id: str = RUN) -> list[Entry]:
        """Return a run's entries, with what later runs have undone."""
        return [entry for entry in self.journals.history() if entry.intent.run_id == run_id]

    def everything_written(self) -> str:
        return "\n".join(path.read_text() for path in self.store.root.rglob("*") if path.is_file())


def protected(harness: Harness, aws: FakeLambda, name: str = "f") -> str:
    arn = aws.add(name)
    harness.apply()
    return arn


def upgraded(harness: Harness, aws: FakeLambda) -> str:
    arn = protected(harness, aws)
    harness.defender = settings(version=5)
    harness.apply(run_id=LATER)
    return arn


def take_over(store: FolderStore) -> None:
    """Let another run have taken the lock over, as after the expiry of a suspended holder's."""
    lock = store.root / LOCK
    lock.write_text(
        json.dumps(json.loads(lock.read_text()) | {"run_id": "20261124T120000Z-other", "number": 99})
    )


def journal_of(root: Path, run_id: str) -> str:
    """Return the lines of a run's journal."""
    return "".join(path.read_text() for path in sorted((root / "journals" / run_id).glob("[0-9]*")))


def one(applied: ApplyResult) -> dict[str, Any]:
    """Return the only row."""
    (row,) = json.loads(applied.changes.to_json(orient="records"))
    return dict(row)


def wait_briefly(monkeypatch: Any) -> None:
    """Wait milliseconds where the protocol waits seconds."""
    monkeypatch.setattr(update_module, "POLL_SECONDS", (0.001,) * 20)
    monkeypatch.setattr(update_module, "VERIFY_SECONDS", (0.001, 0.001, 0.001))
    monkeypatch.setattr("remediator.change.batcher.GATHER_SECONDS", 0.002)
    monkeypatch.setattr(executor_module, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.001)
