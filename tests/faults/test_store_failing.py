"""A store that fails at one place: the changes are made and reported, and the run ends in order."""

import contextlib
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from auto_defender.jobs.apply import apply_saved
from auto_defender.jobs.plan import write_plan
from auto_defender.jobs.run import run
from remediator.execution.regressions import roll_back_regressed
from remediator.journal.journal import open_runs
from remediator.rollout.health import FunctionHealth
from remediator.rollout.lock import LOCK, RunLock
from remediator.state.store import run_folder
from reports.run_files import write_run
from scanner.core.errors import GuardStop
from simulator.http import serving
from storage.folder import FolderStore
from storage.protocol import JSON, StoreFailed
from tests.faults.campaign import Campaign, environment
from tests.faults.files import check_files, journals_in, remember
from tests.unit.remediator.fake_lambda import FakeLambda, Killed, layer
from tests.unit.remediator.harness import RUN, Harness, wait_briefly
from tests.unit.remediator.killing import kill_after, restart
from tests.unit.reports.frames import organization

NEXT, NOW = "20261124T044232Z-4d5e6f", datetime(2026, 11, 24, 4, 42, tzinfo=UTC)


class FailsAt(FolderStore):
    """Refuses one operation on paths that begin so, once `armed`."""

    operation, path, armed = "", "", True

    def _refuse(self, operation: str, path: str) -> None:
        if self.armed and operation == self.operation and path.startswith(self.path):
            raise StoreFailed(f"s3: can't {operation} {path}")

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self._refuse("write", path)
        super().write(path, body, content_type)

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        self._refuse("create", path)
        return super().create(path, body, content_type)

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        self._refuse("replace", path)
        return super().replace(path, body, tag)

    def read(self, path: str) -> bytes | None:
        self._refuse("read", path)
        return super().read(path)

    def list(self, prefix: str) -> list[str]:
        self._refuse("list", prefix)
        return super().list(prefix)

    def delete(self, path: str) -> None:
        self._refuse("delete", path)
        super().delete(path)


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    wait_briefly(monkeypatch)
    return Harness(FakeLambda(), tmp_path)


def killed_in_the_midst(campaign: Campaign) -> set[str]:
    """Kill runs until one leaves updates that AWS took and its journal knows no end of; give their functions."""
    store = FolderStore(campaign.root)
    for moment in range(60, 400, 9):
        campaign.do(run, countdown=moment)
        entries = [
            entry for entry in journals_in(campaign.root).history() if entry.intent.run_id in open_runs(store)
        ]
        left_open = {entry.intent.function_arn for entry in entries if entry.outcome is None}
        taken = left_open & {write.arn for write in campaign.simulator.writes}
        if taken:
            return taken
    raise AssertionError("no run was killed in the midst of its changes")


def failing(harness: Harness, operation: str, path: str) -> FailsAt:
    store = FailsAt(harness.store.root)
    store.operation, store.path = operation, path
    harness.store = store
    return store


@pytest.mark.parametrize("operation", ["read", "create"])
def test_what_a_run_has_learnt_can_not_be_kept(harness: Harness, operation: str) -> None:
    arn = harness.aws.add()
    failing(harness, operation, "state/functions/")
    applied = harness.apply()
    assert applied.changes["outcome"].tolist() == ["changed"]
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "memory"
    assert harness.aws.layers(arn) == [layer(4)]


def test_a_rollback_that_can_not_update_state_still_reports_its_changes(harness: Harness) -> None:
    harness.aws.add()
    harness.apply()
    failing(harness, "read", "state/functions/")
    back = harness.rollback([RUN])
    assert back.changes["outcome"].tolist() == ["rolled_back"]
    assert back.stopped_by is not None


def test_a_lock_that_can_not_be_read_stops_what_has_not_begun(harness: Harness) -> None:
    store = failing(harness, "read", LOCK)
    store.armed = False
    with RunLock(harness.store, RUN) as lock:
        store.armed = True
        with pytest.raises(GuardStop, match="guard 'lock': it could not be read"):
            lock.check()


def test_a_lock_that_can_not_be_given_back_expires(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    store = failing(harness, "replace", LOCK)
    with RunLock(harness.store, RUN):
        pass
    assert "expires" in caplog.text
    store.armed = False
    held = RunLock(store, NEXT).held_by()
    assert held is not None
    assert held[0] == RUN


@pytest.mark.parametrize("break_it", ["latest.json", "{run}/summary.json", "{run}/units.csv"])
def test_a_run_before_that_can_not_be_read_costs_the_comparison_alone(
    tmp_path: Path, break_it: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FailsAt(tmp_path)
    before = organization(12, 20)
    write_run(store, before)
    store.operation, store.path = "read", break_it.format(run=before.folder)
    summary = write_run(store, organization(12, 20, started=before.ended))
    assert summary["since_previous"] is None
    assert "not compared with the previous run" in caplog.text


def test_what_an_open_run_came_to_is_reported_though_it_can_not_be_counted(harness: Harness) -> None:
    arn = harness.aws.add()
    for moment in range(60):
        kill_after(harness, moment)
        with contextlib.suppress(Killed):
            harness.apply()
        restart(harness)
        if harness.aws.layers(arn):
            break
        harness.resolve()
    assert harness.store.list("state/open/") != []
    failing(harness, "replace", "state/functions/")
    resolved = harness.resolve()
    assert resolved.changes[["function_arn", "outcome"]].to_numpy().tolist() == [[arn, "changed"]]
    assert resolved.stopped_by is not None
    assert resolved.stopped_by.guard == "memory"


def test_a_function_that_the_health_watch_rolled_back_is_reported_when_state_can_not_be_kept(
    harness: Harness,
) -> None:
    arn = harness.aws.add()
    harness.apply()
    failing(harness, "read", "state/functions/")
    worse = FunctionHealth(arn, RUN, "", "2026-11-24T03:42:32+00:00", "regressed", "errors", None, None)
    with RunLock(harness.store, NEXT) as lock:
        watched = roll_back_regressed(
            (worse,),
            harness.aws,
            harness.defender,
            journals=harness.journals,
            run_id=NEXT,
            release=harness.release,
            lock=lock,
            now=NOW,
        )
    assert watched.changes["outcome"].tolist() == ["rolled_back"]
    assert watched.stopped_by is not None
    assert watched.stopped_by.guard == "memory"


@pytest.mark.parametrize(
    ("job", "operation", "path"),
    [
        ("run", "list", "state/functions/"),
        ("run", "read", "state/waves.json"),
        ("run", "read", "state/quarantine.json"),
        ("apply", "read", "state/quarantine.json"),
    ],
)
def test_what_became_of_an_open_run_is_in_a_report_though_no_plan_can_be_made(
    job: str, operation: str, path: str, tmp_path: Path
) -> None:
    campaign = Campaign(5, tmp_path, accounts=1, functions=8, fault_rate=0.0)
    plan = tmp_path / "PLAN.json"
    with serving(campaign.simulator) as url, environment(url):
        write_plan(campaign.context("dry_run"), str(plan))
        left_open = killed_in_the_midst(campaign)
        campaign.wait_for_updates()
        context, store = campaign.context("apply"), FailsAt(campaign.root)
        store.operation, store.path = operation, path
        context = replace(context, store=store)
        before = remember(campaign.simulator)
        ending = run(context) if job == "run" else apply_saved(context, str(plan))
    assert (ending.exit_code, ending.summary["stopped_by"]) == (5, "memory")
    reported = (campaign.root / run_folder(context.run_id) / "changes.csv").read_text()
    rows = [row for row in csv.DictReader(io.StringIO(reported)) if row["outcome"] == "changed"]
    assert left_open <= {row["function_arn"] for row in rows}
    if job == "run":
        assert check_files(campaign.simulator, campaign.root, context.run_id, before, context.rules) == []


def test_with_nothing_done_the_error_line_is_the_whole_report(tmp_path: Path) -> None:
    campaign = Campaign(5, tmp_path, accounts=1, functions=2, fault_rate=0.0)
    with serving(campaign.simulator) as url, environment(url):
        context, store = campaign.context("apply"), FailsAt(campaign.root)
        store.operation, store.path = "list", "state/functions/"
        with pytest.raises(StoreFailed, match="can't list state/functions/"):
            run(replace(context, store=store))
    assert campaign.simulator.writes == []
