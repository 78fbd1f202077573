"""The hourly job in steps, as a state machine calls them, beside the same job in one call."""

import csv
import gzip
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.awslambda.models import lambda_backends
from moto.core.exceptions import AccessDeniedError
from moto.organizations.models import OrganizationsBackend, organizations_backends
from moto.s3.models import s3_backends
from rich.console import Console

from auto_defender.config import read_configuration
from auto_defender.context import open_context
from auto_defender.demo.functions import SECRET, fill
from auto_defender.demo.organization import REGIONS, Organization, build_organization
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.distributed import steps
from auto_defender.lambda_handler import handler
from auto_defender.progress import Display
from remediator.execution.regressions import roll_back_regressed
from remediator.rollout.health import FunctionHealth
from remediator.rollout.lock import LOCK, RunLock
from remediator.state.store import run_folder
from scanner.core.errors import BadInput, GuardStop, InternalError, WrongAccount
from storage.protocol import StoreFailed
from storage.s3 import S3Store
from tests.clocks import QuickClock
from tests.functional.moto_server import Workspace, configurations, environment, reset
from tests.loaded_python import start

BUCKET = "reports-of-the-org"
COUNTS = ("units_expected", "units_read", "functions", "protected", "eligible", "skipped", "excluded")


# Calls the handler in a process that ends after so many outcomes in the journal, or where it calls what is named.
KILLED = """
import json, os, pkgutil, sys
from auto_defender.lambda_handler import handler
from remediator.journal.journal import Journal

class Invocation:
    def get_remaining_time_in_millis(self):
        return 900_000

left, record = int(sys.argv[2]), Journal.record_outcomes

def record_or_die(journal, outcomes):
    global left
    record(journal, outcomes[:left])
    left -= len(outcomes)
    if left < 0:
        os._exit(9)

Journal.record_outcomes = record_or_die
if sys.argv[3]:
    owner, _, name = sys.argv[3].rpartition(".")
    setattr(pkgutil.resolve_name(owner), name, lambda *_, **__: os._exit(9))
handler(json.loads(sys.argv[1]), Invocation())
"""


class Invocation:
    """What Lambda passes to a function about its invocation."""

    def __init__(self, remaining_sec: float = 900.0) -> None:
        self._remaining_sec = remaining_sec

    def get_remaining_time_in_millis(self) -> int:
        return int(self._remaining_sec * 1000)


class Steps:
    """Plays the state machine."""

    def __init__(self, workspace: Workspace) -> None:
        self.organization = workspace.organization
        self.workspace = workspace
        self.s3 = boto3.client("s3")
        self._clock = QuickClock()
        self._started = 0
        self._last = ""

    def call(self, **event: Any) -> dict[str, Any]:
        answer = handler(event, Invocation(), self._clock)
        self._last = answer.get("run_id", self._last)
        return answer

    def manifest(self, batch_size: int = 2) -> dict[str, Any]:
        self._started += 1
        started = f"2026-11-24T03:42:{self._started:02}.123Z"
        return self.call(
            job="manifest", execution=f"run-{self._started}", started=started, batch_size=batch_size
        )

    def items(self, begun: Mapping[str, Any]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.read(begun["manifest"]))
        return items

    def lost_and_others(
        self, begun: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
        """Pick the batch of the central account, which is read in any case: its item, the others', its accounts."""
        accounts = sorted(account.id for account in self.organization.accounts)
        place = accounts.index(CENTRAL_ACCOUNT_ID) // 2
        items = self.items(begun)
        return items.pop(place), items, set(accounts[2 * place : 2 * place + 2])

    def swept(self) -> dict[str, Any]:
        """Take every step but the last; return what the first one returned."""
        begun = self.manifest()
        for item in self.items(begun):
            self.call(**item)
        return begun

    def run(self) -> dict[str, Any]:
        return self.merge(self.swept())

    def merge(self, begun: Mapping[str, Any], stopped: Any = "") -> dict[str, Any]:
        return self.call(job="merge", run_id=begun["run_id"], stopped=stopped)

    def kill(self, event: Mapping[str, Any], recorded: int = 0, at: str = "") -> None:
        """Call a step in a process that is killed. recorded: how many outcomes it writes; at: which call it dies in."""
        killed = start("-c", KILLED, json.dumps(event), str(recorded), at, env=os.environ).wait()
        assert killed.exit_code == 9, killed.stderr
        self._carry_out()

    def _carry_out(self) -> None:
        """Wait until AWS has carried out what the killed process had sent."""
        before: Mapping[str, Any] = {}
        while (now := self.configurations()) != before:
            before = now
            time.sleep(0.1)

    def changes_of_a_killed_run(self) -> set[str]:
        """Return the functions that a killed run has changed; its lock has expired, and its journal has no outcome."""
        before = self.configurations()
        self.kill({"job": "run"})
        lock = {**json.loads(self.read(LOCK)), "until": "2020-01-01T00:00:00+00:00"}
        self.s3.put_object(Bucket=BUCKET, Key=LOCK, Body=json.dumps(lock).encode())
        after = self.configurations()
        changed = {arn for arn in after if after[arn] != before[arn]}
        assert changed
        return changed

    def rows(self, run_id: str = "") -> list[dict[str, str]]:
        """Read changes.csv, of the last run where none is named."""
        text = self.read(f"{run_folder(run_id or self._last)}/changes.csv").decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))

    def changed(self, run_id: str = "") -> set[str]:
        """Return the functions that a run has reported as changed."""
        return {row["function_arn"] for row in self.rows(run_id) if row["outcome"] == "changed"}

    def runs_with(self, name: str) -> list[str]:
        """Return the runs that have a file of this name."""
        return [key.split("/")[-2] for key in self.keys("runs/") if key.endswith(f"/{name}")]

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", [])]

    def left(self) -> set[str]:
        """Name what the steps of all runs have left."""
        return {key.removeprefix("state/batches/") for key in self.keys("state/batches/")}

    def rewrite(self, run_id: str, name: str, **changed: Any) -> None:
        """Change keys of what a step has written, as another version of the code would have."""
        key = f"state/batches/{run_id}/{name}.json.gz"
        data = {**json.loads(gzip.decompress(self.read(key))), **changed}
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(json.dumps(data).encode()))

    def files(self, run_id: str) -> set[str]:
        return {key.rpartition("/")[2] for key in self.keys("runs/") if f"/{run_id}/" in key}

    def last(self, name: str) -> bytes:
        """Read a file of the last run."""
        return self.read(f"{run_folder(self._last)}/{name}")

    def published(self) -> str:
        """Return the run that latest.json names."""
        return str(json.loads(self.read("latest.json"))["run_id"])

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.last("summary.json"))
        return summary

    def units(self) -> dict[tuple[str, str], tuple[str, str]]:
        lines = self.last("units.csv").decode("utf-8-sig").splitlines()[1:]
        cells = [line.split(",", 4) for line in lines]
        return {(account, region): (outcome, detail) for account, region, outcome, _, detail in cells}

    def functions(self) -> list[str]:
        return sorted(self.last("functions.csv").decode("utf-8-sig").splitlines())

    def undo_everything(self) -> None:
        """Remove every layer, as owners' deployments would."""
        for account in self.organization.accounts:
            for region in REGIONS:
                for function in lambda_backends[account.id][region].list_functions():
                    function.update_configuration({"Layers": []})

    def configurations(self) -> dict[str, Any]:
        return configurations([account.id for account in self.organization.accounts])


def layers(found: Mapping[str, Any]) -> dict[str, Any]:
    return {arn: one.get("Layers") for arn, one in found.items()}


@pytest.fixture
def machine(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Five accounts, one of them suspended and one that refuses its role: three batches of two."""
    reset(server)
    organization: Organization = build_organization(5)
    fill(organization)
    s3_backends[CENTRAL_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
    workspace = Workspace(tmp_path, organization)
    for name, value in environment(server, AWS_DEFAULT_REGION="us-east-1").items():
        monkeypatch.setenv(name, value)
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setenv("AUTO_DEFENDER_CONFIG", workspace.configure(output=f"s3://{BUCKET}"))
    yield Steps(workspace)
    logging.getLogger().handlers[:] = handlers


def test_a_dry_run_in_steps_reports_the_same_as_one_call(
    machine: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = machine.call(job="run")
    functions, units, plan = (
        machine.functions(),
        machine.units(),
        json.loads(machine.last("plan.json")),
    )
    before = machine.configurations()
    capsys.readouterr()

    brief = machine.run()
    assert machine.configurations() == before
    steps_summary = machine.summary()
    assert {name: steps_summary[name] for name in COUNTS} == {name: whole[name] for name in COUNTS}
    for name in ("mode", "exit_code", "by_reason", "by_protection", "units_by_outcome", "changes_by_outcome"):
        assert steps_summary[name] == whole[name]
    assert machine.functions() == functions
    assert machine.units() == units
    assert json.loads(machine.last("plan.json"))["changes"] == plan["changes"]
    # The calls of all steps count, and their stages.
    listed = "lambda.list_functions"
    assert steps_summary["calls"][listed] == whole["calls"][listed]
    assert set(whole["stages_sec"]) <= set(steps_summary["stages_sec"])
    assert steps_summary["calls"]["s3.put_object"]["calls"] > whole["calls"]["s3.put_object"]["calls"] > 0
    assert brief == {name: steps_summary[name] for name in brief}
    assert machine.left() == {f"{brief['run_id']}/ending.json"}
    metrics = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [json.loads(line)["run_id"] for line in metrics] == [brief["run_id"]]


def test_what_aliases_serve_is_the_same_in_steps(machine: Steps) -> None:
    machine.workspace.configure(output=f"s3://{BUCKET}")
    whole = machine.call(job="run")
    functions = machine.functions()
    machine.run()
    steps_summary = machine.summary()
    effective = whole["effective_coverage"]
    assert effective == steps_summary["effective_coverage"]
    assert set(effective["by_served"]) == {"latest_only", "served_protected", "served_unprotected"}
    assert effective["by_outcome"] == {"read": whole["functions"]}
    covered = [effective[share]["covered"] for share in ("on_latest", "where_traffic_goes")]
    assert covered == [whole["protected"]] * 2
    assert machine.functions() == functions
    assert machine.last("report.html").count(b'id="effective"') == 1


def test_changes_in_steps_are_the_changes_of_one_plan(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    brief = machine.run()
    assert (brief["mode"], brief["exit_code"]) == ("apply", 3)  # one account refuses its role
    assert brief["changed"] > 0
    files = machine.files(brief["run_id"])
    assert machine.keys(f"journals/{brief['run_id']}/")
    assert machine.left() == {f"{brief['run_id']}/ending.json"}
    assert machine.summary()["eligible"] == 0
    assert machine.keys("state/open/") == []
    again = machine.call(job="run")
    assert again["changed"] == 0
    assert machine.files(again["run_id"]) == files


def test_the_limit_of_a_run_holds_over_all_batches(machine: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    machine.workspace.configure(output=f"s3://{BUCKET}", rollout={"max_changes_per_run": 3})
    brief = machine.run()
    assert (brief["changed"], brief["exit_code"], brief["stopped_by"]) == (3, 5, "max_changes_per_run")


def test_a_second_execution_is_refused_while_one_is_under_way(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.manifest()
    with pytest.raises(GuardStop, match=f"run {begun['run_id']} on .* is under way") as refused:
        machine.manifest()
    assert refused.value.exit_code == 5
    for job in ("run", "manifest"):
        with pytest.raises(GuardStop):
            machine.call(job=job, execution="another", started="2026-11-24T04:00:00Z", batch_size=2)
    for item in machine.items(begun):
        machine.call(**item)
    assert machine.merge(begun)["exit_code"] == 3
    assert machine.run()["exit_code"] == 3


def test_the_first_step_may_be_called_again(machine: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    left = machine.changes_of_a_killed_run()
    event = {"execution": "one", "started": "2026-11-24T04:00:00Z", "batch_size": 2}
    begun = machine.call(job="manifest", **event)
    machine.s3.delete_object(Bucket=BUCKET, Key=begun["manifest"])  # as after a kill before it was written
    assert machine.call(job="manifest", **event) == begun
    for item in machine.items(begun):
        machine.call(**item)
        machine.call(**item)
    machine.merge(begun)
    assert left <= machine.changed()
    assert machine.summary()["eligible"] == 0


def deny_listing(patch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise AccessDeniedError("arn:aws:iam::123456789012:root", "organizations:ListAccounts")

    patch.setattr(OrganizationsBackend, "list_accounts", denied)


def test_what_a_run_resolved_is_reported_where_the_organization_can_not_be_listed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    left = machine.changes_of_a_killed_run()
    with monkeypatch.context() as patch:
        deny_listing(patch)
        answer = machine.call(job="run")
    assert (answer["exit_code"], answer["stopped_by"]) == (5, "scope")
    assert machine.changed() == left


def test_what_a_first_step_resolved_is_reported_where_the_organization_can_not_be_listed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    left = machine.changes_of_a_killed_run()
    with monkeypatch.context() as patch:
        deny_listing(patch)
        with pytest.raises(BadInput, match="ListAccounts"):
            machine.manifest()
    (run_id,) = machine.runs_with("summary.json")
    assert machine.changed(run_id) == left
    event = {"execution": "run-1", "started": "2026-11-24T03:42:01.123Z", "batch_size": 2}
    with pytest.raises(BadInput, match=f"run {run_id} has ended and is reported"):
        machine.call(job="manifest", **event)
    assert machine.changed(run_id) == left


def test_a_run_that_has_resolved_nothing_has_no_report_where_the_organization_can_not_be_listed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    deny_listing(monkeypatch)
    with pytest.raises(BadInput, match="ListAccounts"):
        machine.call(job="run")
    assert machine.runs_with("summary.json") == []


def change_the_configuration(machine: Steps, _: str) -> None:
    machine.workspace.configure(output=f"s3://{BUCKET}", risk={"min_memory_mb": 1024})


def lose_a_batch_to_an_internal_error(machine: Steps, run_id: str) -> None:
    """As another version of the code would have written it."""
    failed = {"error": "WrongAccount", "detail": "AWS answered with another"}
    prefix = f"state/batches/{run_id}/0001"
    machine.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}.json.gz")
    machine.s3.put_object(Bucket=BUCKET, Key=f"{prefix}.failed.json", Body=json.dumps(failed).encode())


def begin_by_a_version_that_this_one_does_not_know(machine: Steps, run_id: str) -> None:
    machine.rewrite(run_id, "begun", version="0.0.9, build 1a2b3c", work={"seconds": 1})


@pytest.mark.parametrize(
    ("obstacle", "guard"),
    [
        (change_the_configuration, "configuration"),
        (begin_by_a_version_that_this_one_does_not_know, "configuration"),
        (lose_a_batch_to_an_internal_error, "internal_error"),
    ],
)
@pytest.mark.parametrize("killed", ["another run", "the last step"])
def test_what_a_run_made_is_reported_though_it_can_not_go_on(
    machine: Steps,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: Callable[[Steps, str], None],
    guard: str,
    killed: str,
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    untouched = machine.configurations()
    if killed == "another run":
        machine.changes_of_a_killed_run()
    begun = machine.swept()
    if killed == "the last step":
        machine.kill({"job": "merge", "run_id": begun["run_id"]}, recorded=4)
    obstacle(machine, begun["run_id"])
    midway = machine.configurations()
    brief = machine.merge(begun)
    after = machine.configurations()
    assert (brief["exit_code"], brief["stopped_by"]) == (5, guard)
    assert machine.changed() == {arn for arn in after if after[arn] != untouched[arn]} != set()
    assert layers(after) == layers(midway), "nothing new is begun"
    assert machine.merge(begun) == brief
    assert json.loads(machine.read(LOCK))["released"]
    assert machine.keys("state/open/") == []


def test_a_lock_lost_between_two_steps_stops_the_changes(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    machine.s3.delete_object(Bucket=BUCKET, Key=LOCK)
    before = machine.configurations()
    brief = machine.merge(begun)
    assert (brief["exit_code"], brief["stopped_by"], brief["changed"]) == (5, "lock", 0)
    assert machine.configurations() == before


def test_the_kill_switch_stops_the_last_step(machine: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    machine.s3.put_object(Bucket=BUCKET, Key="state/stop", Body=b"incident")
    before = machine.configurations()
    brief = machine.merge(begun)
    assert (brief["exit_code"], brief["stopped_by"], brief["changed"]) == (5, "kill_switch", 0)
    assert machine.configurations() == before


def test_an_account_suspended_after_its_batch_is_not_changed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    before = machine.configurations()
    suspended = next(
        account.id for account in machine.organization.accounts if account.spec.name == "payments-prod"
    )
    organizations_backends[CENTRAL_ACCOUNT_ID]["aws"].close_account(AccountId=suspended)
    brief = machine.merge(begun)
    assert brief["changed"] > 0
    after = machine.configurations()
    assert {arn for arn in after if after[arn] != before[arn] and arn.split(":")[4] == suspended} == set()
    rows = [line for line in machine.read("latest/changes.csv").decode().splitlines() if suspended in line]
    assert rows
    assert all(",dropped,out of scope by now: account state SUSPENDED," in row for row in rows)


def test_the_last_step_changes_nothing_where_the_organization_can_not_be_listed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    before = machine.configurations()
    with monkeypatch.context() as patch:
        deny_listing(patch)
        brief = machine.merge(begun)
    assert (brief["exit_code"], brief["stopped_by"], brief["changed"]) == (5, "scope", 0)
    assert machine.configurations() == before
    assert machine.summary()["changes_by_outcome"].keys() == {"deferred"}


def test_a_batch_that_did_not_finish_is_in_the_ledger(machine: Steps) -> None:
    machine.run()
    whole = machine.units()
    complete = machine.published()
    begun = machine.manifest()
    _, others, accounts = machine.lost_and_others(begun)
    for item in others:
        machine.call(**item)
    brief = machine.merge(begun)
    assert brief["exit_code"] == 3
    lost = {
        unit
        for unit, (outcome, _) in whole.items()
        if unit[0] in accounts and outcome not in {"suspended", "opted_out"}
    }
    assert lost
    failed = dict.fromkeys(lost, ("timed_out", "its batch did not finish"))
    assert machine.units() == {**whole, **failed}
    assert machine.published() == complete  # what was not asked is not the newest whole picture
    machine.run()
    assert machine.published() != complete


def test_without_any_batch_every_unit_is_reported(machine: Steps) -> None:
    begun = machine.manifest()
    brief = machine.merge(begun, {"Error": "States.ItemReaderFailed", "Cause": "no"})
    assert (brief["units_read"], brief["functions"]) == (0, 0)
    assert (brief["exit_code"], brief["stopped_by"]) == (5, "tolerated_failures")
    assert {outcome for outcome, _ in machine.units().values()} == {"timed_out", "suspended", "opted_out"}


def test_too_many_failed_batches_stop_the_changes(machine: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    before = machine.configurations()
    brief = machine.merge(begun, {"Error": "States.ExceedToleratedFailureThreshold", "Cause": "..."})
    assert (brief["exit_code"], brief["stopped_by"], brief["changed"]) == (5, "tolerated_failures", 0)
    assert machine.configurations() == before
    assert machine.summary()["changes_by_outcome"].keys() == {"deferred"}
    assert json.loads(machine.read(LOCK))["released"]


def test_a_batch_that_failed_says_why_in_the_ledger(machine: Steps) -> None:
    begun = machine.manifest()
    first, others, _ = machine.lost_and_others(begun)
    optouts = machine.workspace.folder / "optouts.yaml"
    text = optouts.read_text(encoding="utf-8")
    machine.workspace.configure(output=f"s3://{BUCKET}", risk={"min_memory_mb": 1024})
    with pytest.raises(BadInput, match="configuration has changed since run"):
        machine.call(**first)
    optouts.write_text(text, encoding="utf-8")
    machine.workspace.configure(output=f"s3://{BUCKET}")
    for item in others:
        machine.call(**item)
    assert machine.merge(begun)["exit_code"] == 3
    failed = [detail for outcome, detail in machine.units().values() if outcome == "error"]
    assert failed
    assert all("its batch failed: the configuration has changed" in detail for detail in failed)


def test_an_internal_error_of_one_batch_stops_the_run(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.manifest()
    first, *others = machine.items(begun)

    def answered_for_another(*_: object) -> None:
        raise WrongAccount("asked for one account, AWS answered with another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "observe_accounts", answered_for_another)
        with pytest.raises(WrongAccount):
            machine.call(**first)
    for item in others:
        machine.call(**item)
    before = machine.configurations()
    with pytest.raises(InternalError, match="AWS answered with another"):
        machine.merge(begun)
    assert machine.configurations() == before
    assert json.loads(machine.read(LOCK))["released"]


def test_a_last_step_called_again_returns_its_ending_and_does_nothing(
    machine: Steps, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    brief = machine.merge(begun)
    assert brief["changed"] > 0
    reported = {key: machine.read(key) for key in machine.keys("")}
    machine.undo_everything()
    before = machine.configurations()
    capsys.readouterr()
    assert machine.merge(begun) == brief
    assert machine.configurations() == before
    assert {key: machine.read(key) for key in machine.keys("")} == reported | {
        "state/write-check": b"",
    }
    assert '"_aws"' not in capsys.readouterr().out, "the metrics are written once"


def test_a_last_step_killed_after_its_report_returns_what_it_has_reported(
    machine: Steps, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.swept()
    machine.kill(
        {"job": "merge", "run_id": begun["run_id"]}, recorded=1000, at="auto_defender.jobs.run.notify_run"
    )
    assert not json.loads(machine.read(LOCK))["released"], "no other run begins before the ending is kept"
    folder = f"{run_folder(begun['run_id'])}/"
    reported = {key: machine.read(key) for key in machine.keys(folder)}
    assert f"{folder}summary.json" in reported
    machine.undo_everything()
    before = machine.configurations()

    brief = machine.merge(begun)
    assert brief["changed"] > 0
    assert brief == {name: machine.summary()[name] for name in brief}
    assert machine.configurations() == before
    assert {key: machine.read(key) for key in machine.keys(folder)} == reported
    assert machine.left() == {f"{brief['run_id']}/ending.json"}
    assert json.loads(machine.read(LOCK))["released"]
    assert capsys.readouterr().out.count('"_aws"') == 1


def test_the_ending_is_kept_before_the_lock_is_released(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.manifest()
    machine.kill(
        {"job": "merge", "run_id": begun["run_id"]}, at="auto_defender.distributed.parts.Parts.clear"
    )
    assert f"{begun['run_id']}/ending.json" in machine.left()
    machine.kill(
        {"job": "merge", "run_id": machine.manifest()["run_id"]},
        at="auto_defender.distributed.parts.Parts.write_ending",
    )
    assert not json.loads(machine.read(LOCK))["released"]


@pytest.mark.parametrize("recorded", [0, 8, 1000])
def test_a_last_step_killed_in_the_midst_of_its_changes_is_continued(
    machine: Steps, monkeypatch: pytest.MonkeyPatch, recorded: int
) -> None:
    """recorded: how many outcomes the journal has when the step is killed; 1000: all, it is killed at its report."""
    monkeypatch.setenv("DRY_RUN", "false")
    untouched = machine.configurations()
    begun = machine.swept()
    machine.kill({"job": "merge", "run_id": begun["run_id"]}, recorded, at="auto_defender.jobs.run.write_run")
    midway = machine.configurations()
    assert midway != untouched
    assert machine.keys("state/open/") == ([f"state/open/{begun['run_id']}.json"] if recorded < 1000 else [])

    brief = machine.merge(begun)
    after = machine.configurations()
    summary = machine.summary()
    changed = {arn for arn in untouched if after[arn] != untouched[arn]}
    assert (brief["exit_code"], brief["stopped_by"]) == (3, None)  # one account refuses its role
    assert sorted(row["function_arn"] for row in machine.rows()) == sorted(changed), "one row a function"
    assert summary["changes_by_outcome"] == {"changed": len(changed)}
    assert (summary["eligible"], summary["drift"]["lost"]) == (0, 0)
    layered = {arn for arn in untouched if midway[arn].get("Layers") != untouched[arn].get("Layers")}
    assert layered
    assert all(midway[arn]["RevisionId"] == after[arn]["RevisionId"] for arn in layered), "sent once"
    assert machine.keys("state/open/") == []
    protected = summary["protected"]
    again = machine.call(job="run")
    assert (again["changed"], again["protected"]) == (0, protected)


def test_what_a_killed_last_step_rolled_back_is_in_quarantine_and_has_its_former_protection(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    first = machine.call(job="run")
    regressed = min(row["function_arn"] for row in machine.rows() if row["action"] == "protect")
    begun = machine.swept()
    roll_back(
        machine,
        begun["run_id"],
        FunctionHealth(regressed, first["run_id"], "", "", "regressed", "errors", None, None),
    )
    machine.merge(begun)
    rows = [(row["function_arn"], row["outcome"]) for row in machine.rows()]
    assert rows == [(regressed, "rolled_back")]
    summary = machine.summary()
    assert (summary["protected"], summary["eligible"]) == (first["protected"] - 1, 0)
    assert summary["by_reason"]["quarantined"] == 1
    assert summary["by_protection"]["unprotected"] == first["by_protection"]["unprotected"] + 1


def roll_back(machine: Steps, run_id: str, regressed: FunctionHealth) -> None:
    """Roll back a function as the health watch does, in a last step that is killed after that."""
    path = machine.workspace.configure(output=f"s3://{BUCKET}")
    context = open_context(
        read_configuration(Path(path).read_bytes(), path, {}),
        boto3.Session(),
        run_id=run_id,
        mode="apply",
        display=Display(Console(stderr=True)),
        stop=threading.Event(),
    )
    with RunLock(context.store, run_id, step="middle") as lock:
        report = roll_back_regressed(
            (regressed,),
            context.aws,
            context.configuration.defender,
            journals=context.journals,
            run_id=run_id,
            release=context.configuration.release,
            lock=lock,
            now=datetime.now(UTC),
        )
    assert list(report.changes["outcome"]) == ["rolled_back"]


@pytest.mark.parametrize("limit", ["max_changes_per_run", "max_changes_per_account"])
def test_the_limits_count_what_a_killed_last_step_has_changed(
    machine: Steps, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    machine.workspace.configure(output=f"s3://{BUCKET}", rollout={limit: 3})
    untouched = machine.configurations()
    begun = machine.swept()
    machine.kill({"job": "merge", "run_id": begun["run_id"]}, 1000, at="auto_defender.jobs.run.write_run")
    midway = machine.configurations()
    brief = machine.merge(begun)
    assert (brief["exit_code"], brief["stopped_by"]) == (5, limit)
    assert machine.configurations() == midway != untouched
    assert brief["changed"] == sum(midway[arn] != untouched[arn] for arn in untouched)


def test_a_store_that_refuses_to_delete_costs_a_finished_run_a_warning(
    machine: Steps,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: S3Store, path: str) -> None:
        raise StoreFailed(f"can't delete {path}: AccessDenied")

    begun = machine.swept()
    monkeypatch.setattr(S3Store, "delete", refuse)
    steps.log.addHandler(caplog.handler)
    try:
        brief = machine.merge(begun)
    finally:
        steps.log.removeHandler(caplog.handler)
    assert brief["exit_code"] == 3
    assert '"_aws"' in capsys.readouterr().out, "the run's metrics are written"
    (warning,) = [record for record in caplog.records if "its steps' files are left" in record.message]
    assert warning.levelname == "WARNING"
    assert machine.merge(begun) == brief


def test_what_runs_left_is_deleted_a_week_later(machine: Steps) -> None:
    old, young = "20261116T034200Z-1a2b3c", "20261118T034200Z-1a2b3c"
    for run_id in (old, young):
        for name in ("begun.json.gz", "ending.json"):
            machine.s3.put_object(Bucket=BUCKET, Key=f"state/batches/{run_id}/{name}", Body=b"{}")
    brief = machine.run()
    assert machine.left() == {
        f"{young}/begun.json.gz",
        f"{young}/ending.json",
        f"{brief['run_id']}/ending.json",
    }


def test_a_batch_of_another_version_is_swept_again(machine: Steps) -> None:
    whole = machine.call(job="run")
    functions, units = machine.functions(), machine.units()
    begun = machine.swept()
    column = {"dtype": "str", "values": []}
    machine.rewrite(begun["run_id"], "0001", version="0.0.9, build 1a2b3c", functions={"other": column})
    machine.rewrite(begun["run_id"], "0002", version=None)
    brief = machine.merge(begun)
    assert {name: machine.summary()[name] for name in COUNTS} == {name: whole[name] for name in COUNTS}
    assert brief["exit_code"] == whole["exit_code"]
    assert machine.functions() == functions
    assert machine.units() == units


def test_an_update_of_the_code_between_begin_and_conclude_is_no_obstacle(machine: Steps) -> None:
    begun = machine.manifest()
    machine.rewrite(begun["run_id"], "begun", version="0.0.9, build 1a2b3c")
    for item in machine.items(begun):
        machine.call(**item)
    assert machine.merge(begun)["units_read"] > 0


@pytest.mark.parametrize(
    "changed", [{"accounts": {"account": {"dtype": "str", "values": []}}}, {"work": {"seconds": 1}}]
)
def test_a_beginning_that_this_version_can_not_use_ends_the_run_and_says_why(
    machine: Steps, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    begun = machine.manifest()
    (item, *_) = machine.items(begun)
    machine.rewrite(begun["run_id"], "begun", version="0.0.9, build 1a2b3c", **changed)
    before = machine.configurations()
    for call in (lambda: machine.call(**item), lambda: machine.merge(begun)):
        with pytest.raises(
            BadInput, match=r"was begun by version 0\.0\.9, build 1a2b3c, whose result version"
        ):
            call()
    assert machine.configurations() == before


def test_no_change_begins_in_the_time_that_is_reserved_for_the_report(
    machine: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "false")
    before = machine.configurations()
    with pytest.raises(BadInput, match="the deadline came before AWS could be asked"):
        handler({"job": "run"}, Invocation(remaining_sec=60.0))
    assert machine.configurations() == before


def test_the_function_is_run_by_a_schedule(machine: Steps) -> None:
    summary = machine.call(job="run")
    assert (summary["trigger"], summary["whole_scope"]) == ("schedule", True)


class Watched(boto3.Session):
    """A session that notes when the first client is made of it: the opening of a run is under way."""

    opened_at: float | None = None

    def client(self, *arguments: Any, **options: Any) -> Any:
        self.opened_at = self.opened_at or time.monotonic()
        return super().client(*arguments, **options)


def test_what_opening_a_run_takes_is_part_of_its_time(machine: Steps) -> None:
    path = machine.workspace.configure(output=f"s3://{BUCKET}", sweep={"run_timeout_sec": 600})
    settings = read_configuration(Path(path).read_bytes(), path, {})

    def deadline(session: boto3.Session, given: float | None) -> float:
        opened = open_context(
            settings,
            session,
            run_id="20261124T034200Z-1a2b3c",
            mode="scan",
            display=Display(Console(stderr=True)),
            stop=threading.Event(),
            deadline=given,
        )
        assert opened.deadline is not None
        return opened.deadline

    session = Watched()
    counted = deadline(session, None)
    assert session.opened_at is not None
    assert counted <= session.opened_at + 600
    assert deadline(Watched(), counted - 500) == counted - 500
    assert counted < deadline(Watched(), counted + 10_000) < counted + 10_000, "run_timeout_sec is less"


def test_payloads_and_files_of_the_steps_contain_no_secret(machine: Steps) -> None:
    begun = machine.manifest()
    items = machine.items(begun)
    answers = [machine.call(**item) for item in items]
    reported = json.dumps([begun, items, answers]).encode()
    kept = [machine.read(key) for key in machine.keys("state/")]
    assert len(kept) >= len(items) + 2
    plain = [gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in kept]
    assert all(
        text not in body for body in (reported, *plain) for text in (SECRET.encode(), b"simulated-policy")
    )
    assert max(len(json.dumps(item)) for item in items) < 200


def test_an_invalid_event_is_reported(machine: Steps) -> None:
    begun = machine.manifest()
    events: dict[str, dict[str, Any]] = {
        "no run .* is under way": {"job": "batch", "run_id": "20261124T034200Z-1a2b3c", "batch": "0001"},
        "is no run id": {"job": "batch", "run_id": "../../etc", "batch": "0001"},
        "has no batch '0009'": {"job": "batch", "run_id": begun["run_id"], "batch": "0009"},
        "event of job 'merge' can't be used": {"job": "merge"},
        "event of job 'manifest' can't be used": {"job": "manifest", "execution": "x", "started": "never"},
        "batch_size is None": {"job": "manifest", "execution": "x", "started": "2026-11-24T04:00:00Z"},
        "the event's job is 'everything'": {"job": "everything"},
    }
    for line, event in events.items():
        with pytest.raises(BadInput, match=line):
            machine.call(**event)


def test_batches_need_a_bucket(machine: Steps) -> None:
    machine.workspace.configure()
    with pytest.raises(BadInput, match="make the key 'output' s3://bucket/prefix"):
        machine.manifest()
