"""Findings in Security Hub: one a function that could be covered, closed when it is."""

import dataclasses
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pandas as pd
import pytest
from moto.securityhub.models import securityhub_backends

from auto_defender.context import Context
from auto_defender.demo.functions import fill
from auto_defender.demo.organization import build_organization
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.notify import security_hub
from auto_defender.notify.security_hub import STATE, update_security_hub
from auto_defender.observation import Observation
from reports.data.run_result import Mode
from reports.settings import SecurityHubSettings
from scanner.core.arns import function_arns
from scanner.core.clock import SYSTEM_CLOCK
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.functional.moto_server import Workspace, auto_defender, environment, serving
from tests.unit.reports.frames import organization

ACCOUNT = "123456789012"  # moto's
REGION = "eu-central-1"


@pytest.fixture
def session(moto_session: boto3.Session) -> boto3.Session:
    moto_session.client("securityhub", region_name=REGION).enable_security_hub()
    return moto_session


@pytest.fixture
def context(session: boto3.Session, tmp_path: Path) -> Context:
    return context_with(session, tmp_path)


def context_with(
    session: boto3.Session, folder: Path, mode: Mode = "apply", *, enabled: bool = True
) -> Context:
    """A context with what the findings need of it; the rest of it is not there, so that none is used."""
    configuration = SimpleNamespace(security_hub=SecurityHubSettings(enabled=enabled, region=REGION))
    return Context(
        run_id="20261124T034232Z-1a2b3c",
        mode=mode,
        started=datetime.now(UTC),
        configuration=cast("Any", configuration),
        session=session,
        aws=cast("Any", SimpleNamespace(partition="aws", central_account_id=ACCOUNT, clock=SYSTEM_CLOCK)),
        store=FolderStore(folder),
        journals=cast("Any", None),
        optouts=cast("Any", None),
        quarantine=(),
        display=cast("Any", None),
        stop=threading.Event(),
        deadline=None,
    )


def seen(functions: int = 800) -> Observation:
    run = organization(functions=functions)
    return Observation(run.accounts, run.units, run.functions)


def eligible(observed: Observation) -> list[str]:
    return list(function_arns(observed.functions[observed.functions["verdict"] == "eligible"], "aws"))


def covered(observed: Observation, *rows: int) -> Observation:
    functions = observed.functions.copy()
    index = functions.index[functions["verdict"] == "eligible"][list(rows)]
    functions.loc[index, ["protection", "verdict"]] = "protected"
    return dataclasses.replace(observed, functions=functions)


def findings(session: boto3.Session) -> dict[str, dict[str, Any]]:
    """Return the findings by the ARN of their function."""
    pages = session.client("securityhub", region_name=REGION).get_paginator("get_findings").paginate()
    found = [finding for page in pages for finding in page["Findings"]]
    assert len({finding["Id"] for finding in found}) == len(found)
    return {finding["Resources"][0]["Id"]: finding for finding in found}


def reported(context: Context, observed: Observation) -> dict[str, Any]:
    counts = update_security_hub(context, observed)
    assert counts is not None
    return counts


def test_each_function_that_could_be_covered_has_one_finding(
    context: Context, session: boto3.Session
) -> None:
    observed = seen()
    arns = eligible(observed)
    assert len(arns) > security_hub.BATCH  # more than one call holds
    assert reported(context, observed) == {
        "open": len(arns), "imported": len(arns), "closed": 0, "failed": 0, "waiting": 0, "error": None
    }  # fmt: skip
    found = findings(session)
    assert set(found) == set(arns)
    finding = found[arns[0]]
    assert finding["ProductArn"] == f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default"
    assert finding["AwsAccountId"] == ACCOUNT
    assert finding["Resources"][0]["Region"] == arns[0].split(":")[3]
    assert (finding["RecordState"], finding["Compliance"]["Status"]) == ("ACTIVE", "FAILED")


def test_the_next_run_imports_nothing_again(context: Context, session: boto3.Session) -> None:
    reported(context, seen())
    before = findings(session)
    again = reported(context, seen())
    assert (again["imported"], again["closed"], again["open"]) == (0, 0, len(before))
    assert findings(session) == before


def test_a_lost_state_makes_no_second_finding(context: Context, session: boto3.Session) -> None:
    reported(context, seen())
    count = len(findings(session))
    context.store.delete(STATE)
    assert reported(context, seen())["imported"] == count
    assert len(findings(session)) == count


def test_a_finding_is_closed_when_its_function_is_covered_or_gone(
    context: Context, session: boto3.Session
) -> None:
    observed = seen()
    first, second, third, *_ = eligible(observed)
    reported(context, observed)
    after = covered(observed, 0, 1)
    gone = after.functions[function_arns(after.functions, "aws") != third]
    counts = reported(context, dataclasses.replace(after, functions=gone))
    assert (counts["closed"], counts["imported"]) == (3, 0)
    found = findings(session)
    closed = {arn for arn, finding in found.items() if finding["RecordState"] == "ARCHIVED"}
    assert closed == {first, second, third}
    assert found[first]["Compliance"]["Status"] == "PASSED"
    reopened = reported(context, observed)
    assert (reopened["imported"], reopened["closed"]) == (3, 0)
    assert {finding["RecordState"] for finding in findings(session).values()} == {"ACTIVE"}


@pytest.mark.parametrize("region", ["the unit itself", "*"])
def test_what_could_not_be_read_stays_open(context: Context, session: boto3.Session, region: str) -> None:
    observed = seen()
    reported(context, observed)
    arn = eligible(observed)[0]
    place, account_id = arn.split(":")[3:5]
    units = observed.units.copy()
    unit = (units["account_id"] == account_id) & (units["region"] == place)
    units.loc[unit, "outcome"] = "throttled"
    if region == "*":
        units.loc[unit, "region"] = region
    functions = observed.functions
    in_unit = (functions["account_id"] == account_id) & (functions["region"] == place)
    counts = reported(context, Observation(observed.accounts, units, functions[~in_unit]))
    assert counts["closed"] == 0
    assert findings(session)[arn]["RecordState"] == "ACTIVE"


def test_an_old_finding_is_renewed_and_keeps_its_beginning(
    context: Context, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported(context, seen())
    before = findings(session)
    monkeypatch.setattr(security_hub, "RENEW_AFTER", timedelta(seconds=-5))
    assert reported(context, seen())["imported"] == len(before)
    after = findings(session)
    assert {arn: f["CreatedAt"] for arn, f in after.items()} == {
        arn: f["CreatedAt"] for arn, f in before.items()
    }


def test_what_one_run_has_no_time_for_waits_for_the_next(
    context: Context, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(eligible(seen()))
    with monkeypatch.context() as patch:
        patch.setattr(security_hub, "SECONDS", -1.0)
        counts = reported(context, seen())
    assert (counts["imported"], counts["waiting"], counts["error"]) == (0, count, None)
    assert reported(context, seen())["imported"] == count
    assert len(findings(session)) == count


def test_no_call_begins_that_could_take_of_the_time_of_the_report(
    context: Context, session: boto3.Session
) -> None:
    count = len(eligible(seen()))
    soon = dataclasses.replace(context, deadline=time.monotonic() + security_hub.CALL_SECONDS - 1)
    counts = reported(soon, seen())
    assert (counts["imported"], counts["waiting"], counts["error"]) == (0, count, None)
    later = dataclasses.replace(context, deadline=time.monotonic() + 900)
    assert reported(later, seen())["imported"] == count
    assert len(findings(session)) == count


def test_a_finding_that_is_refused_is_counted_and_tried_again(
    context: Context, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.securityhub.models import SecurityHubBackend

    whole = SecurityHubBackend.batch_import_findings

    def all_but_one(self: Any, findings: list[dict[str, Any]]) -> Any:
        failed, done, refused = whole(self, findings[1:])
        error = {"Id": findings[0]["Id"], "ErrorCode": "InvalidInput", "ErrorMessage": "no"}
        return failed + 1, done, [*refused, error]

    count = len(eligible(seen(60)))
    with monkeypatch.context() as patch:
        patch.setattr(SecurityHubBackend, "batch_import_findings", all_but_one)
        counts = reported(context, seen(60))
    assert (counts["imported"], counts["failed"], counts["open"]) == (count - 1, 1, count - 1)
    assert reported(context, seen(60))["imported"] == 1
    assert len(findings(session)) == count


def test_a_hub_that_fails_ends_no_run_and_the_next_begins_where_it_stopped(
    context: Context, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.securityhub.exceptions import SecurityHubClientError
    from moto.securityhub.models import SecurityHubBackend

    calls: list[int] = []
    whole = SecurityHubBackend.batch_import_findings

    def once(self: Any, findings: list[dict[str, Any]]) -> Any:
        calls.append(len(findings))
        if len(calls) > 1:
            raise SecurityHubClientError("InvalidAccessException", "not subscribed to AWS Security Hub")
        return whole(self, findings)

    count = len(eligible(seen()))
    with monkeypatch.context() as patch:
        patch.setattr(SecurityHubBackend, "batch_import_findings", once)
        counts = reported(context, seen())
    assert (counts["imported"], counts["waiting"]) == (security_hub.BATCH, count - security_hub.BATCH)
    assert counts["error"].startswith("BatchImportFindings: InvalidAccessException: not subscribed")
    assert reported(context, seen())["imported"] == count - security_hub.BATCH


class Beside(FolderStore):
    """Lets another run import and save its list right before this one saves."""

    other: Callable[[], object] | None = None

    def _let_it_end(self) -> None:
        other, self.other = self.other, None
        if other is not None:
            other()

    def create(self, path: str, body: bytes, content_type: str = "application/json") -> str | None:
        self._let_it_end()
        return super().create(path, body, content_type)

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        self._let_it_end()
        return super().replace(path, body, tag)


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_has_lost_its_lock_loses_no_finding(
    context: Context, session: boto3.Session, tmp_path: Path, begun: bool
) -> None:
    """Each of two runs opens a finding that the other does not know, and closes one that the other keeps."""
    if begun:
        reported(context, covered(seen(60), 0))
    store = Beside(tmp_path)
    store.other = lambda: reported(context, covered(seen(60), 1))
    reported(dataclasses.replace(context, store=store), covered(seen(60), 2))
    assert store.other is None

    reported(context, covered(seen(60), 3))
    found = findings(session)
    assert {arn for arn, one in found.items() if one["RecordState"] == "ACTIVE"} == set(
        eligible(covered(seen(60), 3))
    )
    assert reported(context, covered(seen(60), 3))["imported"] == 0


def test_a_list_that_never_stays_is_an_error(context: Context, tmp_path: Path) -> None:
    class Restless(FolderStore):
        def create(self, path: str, body: bytes, content_type: str = "application/json") -> str | None:
            return None

    restless = dataclasses.replace(context, store=Restless(tmp_path))
    assert "changed 20 times meanwhile" in reported(restless, seen(60))["error"]


@pytest.mark.parametrize("operation", ["read_tagged", "create"])
def test_a_store_that_fails_ends_no_run(
    context: Context, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def refuse(self: FolderStore, path: str, *_: Any) -> Any:
        raise StoreFailed(f"s3: can't {operation} {path}")

    monkeypatch.setattr(FolderStore, operation, refuse)
    assert reported(context, seen())["error"] == f"s3: can't {operation} {STATE}"


@pytest.mark.parametrize("state", [b"not json", b'{"no-arn": ["a", "b"]}', b'{"arn": 3}'])
def test_a_broken_state_is_reported_and_left_unchanged(context: Context, state: bytes) -> None:
    context.store.write(STATE, state, "application/json")
    assert "fix it or restore an older version" in reported(context, seen())["error"]
    assert context.store.read(STATE) == state


@pytest.mark.parametrize(("mode", "enabled"), [("scan", True), ("apply", False), ("rollback", True)])
def test_a_scan_a_rollback_and_who_did_not_ask_import_nothing(
    session: boto3.Session, tmp_path: Path, mode: Mode, enabled: bool
) -> None:
    assert update_security_hub(context_with(session, tmp_path, mode, enabled=enabled), seen()) is None
    nothing = Observation(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    assert update_security_hub(context_with(session, tmp_path), nothing) is None
    assert findings(session) == {}


def test_a_dry_run_counts_and_writes_nothing(session: boto3.Session, tmp_path: Path) -> None:
    count = len(eligible(seen()))
    dry = reported(context_with(session, tmp_path, "dry_run"), seen())
    assert (dry["open"], dry["imported"], dry["waiting"], dry["error"]) == (0, 0, count, None)
    assert findings(session) == {}
    assert not (tmp_path / STATE).exists()

    reported(context_with(session, tmp_path), seen())
    state = (tmp_path / STATE).read_bytes()
    after = reported(context_with(session, tmp_path, "dry_run"), covered(seen(), 0, 1))
    assert (after["open"], after["closed"], after["waiting"]) == (count, 0, 2)
    assert (tmp_path / STATE).read_bytes() == state
    assert {finding["RecordState"] for finding in findings(session).values()} == {"ACTIVE"}


def test_a_whole_run_opens_and_the_run_that_covers_closes(tmp_path: Path) -> None:
    with serving() as url:
        simulated = build_organization(4)
        fill(simulated)
        workspace, env = Workspace(tmp_path, simulated), environment(url)
        enabled = {"enabled": True, "region": REGION}
        imported = securityhub_backends[CENTRAL_ACCOUNT_ID][REGION].findings

        dry = auto_defender(
            "run", "--config", workspace.configure(security_hub=enabled), "--json", env=env
        ).summary
        assert dry["security_hub"]["waiting"] == dry["eligible"] > 0
        assert imported == []
        assert not (tmp_path / "out" / STATE).exists()

        one = workspace.configure(security_hub=enabled, rollout={"max_changes_per_run": 1})
        opened = auto_defender("run", "--config", one, "--apply", "--json", env=env).summary
        assert opened["security_hub"]["open"] == len(imported) == opened["eligible"] > 0
        every = workspace.configure(security_hub=enabled, rollout={"max_changes_per_run": 100_000})
        applied = auto_defender("run", "--config", every, "--apply", env=env)
        assert "security hub   0 open\n" in applied.stdout
        assert {finding.data["RecordState"] for finding in imported} == {"ARCHIVED"}
