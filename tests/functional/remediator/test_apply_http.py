"""The real client over real connections: throttled, reset, cut off after the update was done, failing, deployed between."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from benchmarks.control_plane import LAYER, ControlPlane
from benchmarks.remediate import DEFENDER, change
from remediator.execution.apply import ApplyResult, apply_plan
from remediator.execution.rollback import rollback
from remediator.journal.journals import Journals
from remediator.journal.selection import Selection, select
from remediator.plan.plan import Plan
from remediator.rollout.lock import RunLock
from remediator.settings import RolloutSettings
from scanner.aws.caller import Aws
from scanner.risk.rules import Rules
from scanner.settings import OrganizationSettings, RiskSettings, SweepSettings
from simulator.core import HOME
from simulator.http import environment, serving
from simulator.state import Function
from storage.folder import FolderStore
from tests.unit.remediator.harness import RUN

MEMBERS, REGIONS = ("100000000000", "100000000001"), ("us-east-1", "eu-west-1")


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane(rate=500.0, settles_in=0.1)


@pytest.fixture
def aws(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with serving(plane) as url:
        for name, value in environment(url, HOME).items():
            monkeypatch.setenv(name, value)
        yield client(monkeypatch)


def client(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setattr("remediator.change.update.POLL_SECONDS", (0.05,) * 100)
    monkeypatch.setattr("remediator.change.update.VERIFY_SECONDS", (0.05, 0.1))
    organization = OrganizationSettings(role_name="Member", regions=REGIONS)
    return Aws(
        boto3.Session(), organization, SweepSettings(workers=16, calls_per_second=100.0), RUN, writes=True
    )


def apply(aws: Aws, folder: Path, names: list[str], **more: Any) -> ApplyResult:
    changes = tuple(
        change(account, region, name) for name in names for account in MEMBERS for region in REGIONS
    )
    now = datetime.now(UTC)
    plan = Plan(1, RUN, now, now, "aws", "", {}, changes)
    store = FolderStore(folder)
    with RunLock(store, RUN) as lock:
        rules = Rules("aws", RiskSettings(), DEFENDER)
        rollout, journals = RolloutSettings(quiet_minutes=0), Journals(store, DEFENDER)
        return apply_plan(
            plan, aws, rules, rollout, journals=journals, lock=lock, run_id=RUN, release="r", **more
        )


def functions(plane: ControlPlane) -> list[Function]:
    return list(plane.core.functions.values())


def layers(function: Function) -> list[str]:
    return [layer["Arn"] for layer in function.configuration.get("Layers", ())]


def test_whatever_happens_on_the_wire_each_function_is_updated_once(
    plane: ControlPlane, aws: Aws, tmp_path: Path
) -> None:
    names = ["plain-1", "lost-done-1", "error-done-1", "deployed-1", "lost-undone-1", "failing-1"]
    changes = apply(aws, tmp_path, names).changes
    ends = {n: set(changes.loc[changes["function_name"] == n, "outcome"]) for n in names}
    assert ends == {
        "plain-1": {"changed"},
        "lost-done-1": {"changed"},
        "error-done-1": {"changed"},
        "deployed-1": {"changed"},
        "lost-undone-1": {"deferred"},
        "failing-1": {"failed"},
    }
    updates = {"deployed-1": 2, "failing-1": 2}
    for function in functions(plane):
        name, region = function.configuration["FunctionName"], function.arn.split(":")[3]
        changed = ends[name] == {"changed"}
        assert plane.updates[function.arn] == updates.get(name, 1)
        assert layers(function) == ([LAYER.format(region=region)] if changed else [])
        stage = "deployed" if name == "deployed-1" else "production"
        assert function.configuration["Environment"]["Variables"]["STAGE"] == stage
        assert bool(function.tags) is changed
    assert all(entry.outcome for entry in Journals(FolderStore(tmp_path), DEFENDER).history())


def test_throttling_slows_down_and_loses_nothing(plane: ControlPlane, aws: Aws, tmp_path: Path) -> None:
    # So low that a client on a busy machine is faster, too.
    plane.core.rate = 7.0
    changes = apply(aws, tmp_path, [f"plain-{n}" for n in range(4)]).changes
    assert set(changes["outcome"]) == {"changed"}
    assert sum(unit.throttled for unit in plane.core.units.values()) > 0


def test_rolled_back_over_the_wire_everything_is_as_before(
    plane: ControlPlane, aws: Aws, tmp_path: Path
) -> None:
    apply(aws, tmp_path, ["plain-1", "lost-done-1"])
    store, run_id = FolderStore(tmp_path), "20261125T000000Z-back"
    with RunLock(store, run_id) as lock:
        journals = Journals(store, DEFENDER)
        undos = select(journals, Selection(runs=[RUN]))
        changes = rollback(undos, aws, DEFENDER, journals=journals, run_id=run_id, lock=lock).changes
    assert changes["outcome"].tolist() == ["rolled_back"] * 8
    for function in functions(plane):
        assert layers(function) == []
        assert function.configuration["Environment"]["Variables"] == {"STAGE": "production"}
        assert function.tags == {}
