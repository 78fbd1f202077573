"""The scope, asked again right before changes: what is out of it by now is not changed, and a row says why."""

import csv
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
import yaml
from moto.core.exceptions import AccessDeniedError
from moto.organizations.models import OrganizationsBackend, organizations_backends
from rich.console import Console

from auto_defender.config import read_configuration
from auto_defender.context import Context, new_run_id, open_context
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.jobs.run import applied_plan
from auto_defender.progress import Display
from auto_defender.stages.observe import observe
from auto_defender.stages.planning import plan_run
from remediator.execution.regressions import HealthReport
from remediator.rollout.lock import RunLock
from tests.functional.moto_server import (
    Done,
    Workspace,
    auto_defender,
    configurations,
    environment,
    workspace_with,
)


@pytest.fixture
def workspace(server: str, tmp_path: Path) -> Workspace:
    return workspace_with(server, tmp_path, 8)


def organizations() -> OrganizationsBackend:
    return organizations_backends[CENTRAL_ACCOUNT_ID]["aws"]


def move(account_id: str, ou_id: str) -> None:
    organizations().get_account_by_id(account_id).parent_id = ou_id


def account_named(workspace: Workspace, name: str) -> str:
    return next(account.id for account in workspace.organization.accounts if account.spec.name == name)


class Approved:
    """A plan that was made, and what becomes of it."""

    def __init__(self, server: str, workspace: Workspace, **sections: Any) -> None:
        self._workspace = workspace
        self._env = environment(server)
        self.config = workspace.configure(**sections)
        self.path = str(workspace.folder / "plan.json")
        done = auto_defender("plan", "--config", self.config, "--out", self.path, env=self._env)
        assert Path(self.path).exists(), done.stderr[-2000:]
        self.changes = json.loads(Path(self.path).read_text())["changes"]
        self.before = self._functions()

    def apply(self) -> Done:
        return auto_defender("apply", "--config", self.config, self.path, "--json", env=self._env)

    def in_account(self, account_id: str) -> set[str]:
        return {change["function_arn"] for change in self.changes if change["account_id"] == account_id}

    def changed(self) -> set[str]:
        now = self._functions()
        return {arn for arn in now if now[arn] != self.before[arn]}

    def rows(self, done: Done) -> list[dict[str, str]]:
        text = self._workspace.run_file(done.summary["run_id"], "changes.csv")
        return list(csv.DictReader(io.StringIO(text)))

    def _functions(self) -> dict[str, Any]:
        return configurations([account.id for account in self._workspace.organization.accounts])


def suspend(account_id: str) -> str:
    organizations().close_account(AccountId=account_id)
    return "account state SUSPENDED"


def leave(account_id: str) -> str:
    organizations().accounts.remove(organizations().get_account_by_id(account_id))
    return f"the organization has no account {account_id}"


@pytest.mark.parametrize("happens", [suspend, leave])
def test_an_account_that_was_suspended_or_has_left_since_the_plan_is_not_changed(
    server: str, workspace: Workspace, happens: Callable[[str], str]
) -> None:
    approved = Approved(server, workspace)
    account_id = account_named(workspace, "payments-prod")
    gone = approved.in_account(account_id)
    assert gone
    why = happens(account_id)
    done = approved.apply()
    assert done.summary["changes_by_outcome"]["dropped"] == len(gone), done.stderr[-2000:]
    assert done.summary["changed"] == len(approved.changes) - len(gone) > 0
    assert not approved.changed() & gone
    rows = [row for row in approved.rows(done) if row["account_id"] == account_id]
    assert {(row["outcome"], row["detail"]) for row in rows} == {("dropped", f"out of scope by now: {why}")}
    assert {line["function_arn"] for line in done.log if line.get("outcome") == "dropped"} == gone


def test_an_account_that_moved_into_an_excluded_ou_is_not_changed(server: str, workspace: Workspace) -> None:
    root = organizations().list_roots()["Roots"][0]["Id"]
    ou = organizations().create_organizational_unit(Name="Frozen", ParentId=root)["OrganizationalUnit"]["Id"]
    approved = Approved(server, workspace, organization={"exclude_ous": [ou]})
    account_id = account_named(workspace, "payments-prod")
    move(account_id, ou)
    done = approved.apply()
    assert approved.changed()
    assert not approved.changed() & approved.in_account(account_id)
    dropped = {row["detail"] for row in approved.rows(done) if row["outcome"] == "dropped"}
    assert dropped == {f"out of scope by now: organization.exclude_ous: {ou}"}


def test_a_plan_is_refused_under_another_organization_section(server: str, workspace: Workspace) -> None:
    approved = Approved(server, workspace)
    account_id = account_named(workspace, "payments-prod")
    for other in ({"exclude_accounts": [account_id]}, {"regions": ["us-west-2"]}):
        workspace.configure(organization=other)
        done = approved.apply()
        assert done.exit_code == 2, done.stderr[-2000:]
        assert "(defender, risk, rollout or organization differ)" in done.stderr
        assert approved.changed() == set()
    workspace.configure(organization={"stack_set": None})  # only doctor reads it
    assert approved.apply().summary["changed"] == len(approved.changes)


@pytest.mark.parametrize(("days", "in_force"), [(0, True), (-1, False)])
def test_an_opt_out_of_today_is_followed_and_one_that_has_expired_is_not(
    server: str, workspace: Workspace, days: int, in_force: bool
) -> None:
    approved = Approved(server, workspace)
    account_id = account_named(workspace, "payments-prod")
    expires = (datetime.now(UTC) + timedelta(days=days)).date()
    entry = {"account": account_id, "reason": "CHG-4711", "owner": "o@example.com", "expires": expires}
    optouts = workspace.folder / "optouts.yaml"
    present = yaml.safe_load(optouts.read_text())["optouts"]
    optouts.write_text(yaml.safe_dump({"optouts": [*present, entry]}))
    done = approved.apply()
    theirs = approved.in_account(account_id)
    assert theirs
    assert approved.changed() & theirs == (set() if in_force else theirs), done.stderr[-2000:]
    details = {row["detail"] for row in approved.rows(done) if row["account_id"] == account_id}
    assert all(("opted_out" in detail) == in_force for detail in details)


def test_where_the_organization_can_not_be_listed_nothing_is_changed(
    server: str, workspace: Workspace
) -> None:
    approved = Approved(server, workspace)

    def denied(*_: Any, **__: Any) -> None:
        raise AccessDeniedError("arn:aws:iam::123456789012:root", "organizations:ListAccounts")

    with patch.object(OrganizationsBackend, "list_accounts", denied):
        done = approved.apply()
    assert (done.exit_code, done.summary["stopped_by"]) == (5, "scope"), done.stderr[-2000:]
    assert done.summary["changes_by_outcome"] == {"deferred": len(approved.changes)}
    assert approved.changed() == set()
    assert "accounts could not be listed" in done.stderr
    assert "allow organizations:List* here" in done.stderr


def out_of_time(context: Context) -> Context:
    return replace(context, deadline=time.monotonic() - 1)


def told_to_stop(context: Context) -> Context:
    context.stop.set()
    return context


@pytest.mark.parametrize("ended", [out_of_time, told_to_stop])
def test_the_end_of_the_run_before_its_changes_is_no_guard(
    server: str,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    ended: Callable[[Context], Context],
) -> None:
    for name, value in environment(server, AWS_DEFAULT_REGION="us-east-1").items():
        monkeypatch.setenv(name, value)
    text = Path(workspace.configure()).read_bytes()
    context = open_context(
        read_configuration(text, "auto-defender.yaml", {}),
        boto3.Session(),
        run_id=new_run_id(datetime.now(UTC)),
        mode="apply",
        display=Display(Console(stderr=True)),
        stop=threading.Event(),
    )
    plan = plan_run(context, observe(context), HealthReport()).plan
    with RunLock(context.store, context.run_id) as lock:
        applied = applied_plan(ended(context), plan, lock)
    assert (applied.stopped_by, applied.cut_short) == (None, True)
    assert applied.changes["outcome"].tolist() == ["deferred"] * len(plan.changes)
    assert plan.changes
