"""The real client over real connections: throttled, reset, cut off after the update was done, failing, deployed between."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from benchmarks.control_plane import ControlPlane, serve
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
from storage.folder import FolderStore
from tests.unit.remediator.harness import RUN

CENTRAL, MEMBERS, REGIONS = "999988887777", ("100000000000", "100000000001"), ("us-east-1", "eu-west-1")
LAYER = "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Serve on loopback, in a thread of this process."""
    plane = ControlPlane(rate=500.0, settles_in=0.1)
    ready: Future[tuple[asyncio.AbstractEventLoop, int]] = Future()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started: asyncio.Future[int] = loop.create_future()
        started.add_done_callback(lambda port: ready.set_result((loop, port.result())))
        await serve(plane, started)

    def run() -> None:
        try:
            asyncio.run(main())
        except RuntimeError as error:
            assert "stopped before" in str(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    loop, plane.port = (*ready.result(10),)  # type: ignore[attr-defined]
    yield plane
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def aws(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{plane.port}",  # type: ignore[attr-defined]
        "AWS_ACCESS_KEY_ID": f"ASIA{CENTRAL}",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_SESSION_TOKEN": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
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


def functions(plane: ControlPlane) -> list[dict[str, Any]]:
    return [f for unit in plane.units.values() for f in unit.functions.values()]


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
        name, region = function["FunctionName"], function["FunctionArn"].split(":")[3]
        changed = ends[name] == {"changed"}
        assert plane.updates[function["FunctionArn"]] == updates.get(name, 1)
        assert [x["Arn"] for x in function.get("Layers", [])] == (
            [LAYER.format(region=region)] if changed else []
        )
        stage = "deployed" if name == "deployed-1" else "production"
        assert function["Environment"]["Variables"]["STAGE"] == stage
        assert bool(plane.tags.get(function["FunctionArn"])) is changed
    assert all(entry.outcome for entry in Journals(FolderStore(tmp_path), DEFENDER).history())


def test_throttling_slows_down_and_loses_nothing(plane: ControlPlane, aws: Aws, tmp_path: Path) -> None:
    # So low that a client on a busy machine is faster, too.
    plane.rate = 5.0
    for unit in plane.units.values():
        unit.rate = 5.0
    changes = apply(aws, tmp_path, [f"plain-{n}" for n in range(4)]).changes
    assert set(changes["outcome"]) == {"changed"}
    assert sum(unit.throttled for unit in plane.units.values()) > 0


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
        assert function["Layers"] == []
        assert function["Environment"]["Variables"] == {"STAGE": "production"}
        assert plane.tags[function["FunctionArn"]] == {}
