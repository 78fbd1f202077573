"""rollout.notice_days: owners are notified for an account, in a file and by the topic, days before a change."""

import csv
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.sns.models import Topic, sns_backends
from rich.console import Console

from auto_defender.config import Configuration, read_configuration
from auto_defender.context import Context, new_run_id, open_context
from auto_defender.demo.functions import SECRET
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.job_result import JobResult
from auto_defender.jobs.apply import apply_saved
from auto_defender.jobs.explain import explain_function
from auto_defender.jobs.plan import write_plan
from auto_defender.jobs.run import run
from auto_defender.progress import Display
from auto_defender.stages.notices import Announced, announce
from remediator.change.records import PlannedNotice
from remediator.rollout.lock import RunLock
from reports.data.run_result import Mode
from scanner.core.errors import BadInput
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.clocks import MovedClock
from tests.functional.moto_server import Workspace, configurations, environment, workspace_with

pytestmark = pytest.mark.usefixtures("short_waits")
ACCOUNT = CENTRAL_ACCOUNT_ID  # the one account of the smallest organization


@cache
def read(text: bytes) -> Configuration:
    """Read a configuration: its digests take half a second, once for all runs of a test."""
    return read_configuration(text, "auto-defender.yaml", {})


class Runs:
    """Runs of one account's organization, one after the other, and the days between them."""

    def __init__(self, server: str, folder: Path) -> None:
        self.workspace: Workspace = workspace_with(server, folder, 1)
        self.topic: Topic = sns_backends[ACCOUNT]["us-east-1"].create_topic("runs")
        self.sections: dict[str, Any] = {
            "rollout": {"notice_days": 7},
            "notifications": {"topic_arn": self.topic.arn},
        }
        self.clock = MovedClock()
        self.optouts: list[dict[str, Any]] = []
        self.before = configurations([ACCOUNT])

    @property
    def out(self) -> Path:
        return self.workspace.folder / "out"

    def context(self, mode: Mode = "apply") -> Context:
        optouts = self.workspace.folder / "optouts.yaml"
        optouts.write_text(yaml.safe_dump({"optouts": self.optouts}))
        text = Path(self.workspace.configure(**self.sections)).read_bytes()
        return open_context(
            read(text),
            boto3.Session(),
            run_id=new_run_id(self.clock.now()),
            mode=mode,
            display=Display(Console(stderr=True)),
            stop=threading.Event(),
            clock=self.clock,
        )

    def run(self, mode: Mode = "apply") -> JobResult:
        return run(self.context(mode))

    def days_later(self, days: float) -> None:
        """Let so many days pass."""
        self.clock.ahead += timedelta(days=days)

    def changed(self) -> set[str]:
        now = configurations([ACCOUNT])
        return {arn for arn in now if now[arn] != self.before[arn]}

    def messages(self) -> list[tuple[str, str]]:
        """The subjects and messages to owners so far."""
        return [
            (subject, message)
            for _, message, subject, attributes, _ in self.topic.sent_notifications
            if attributes == {"account_id": {"Type": "String", "Value": ACCOUNT}}
        ]

    def file(self, result: JobResult) -> list[dict[str, str]]:
        """The announced functions of a run, from the account's file."""
        text = self.workspace.run_file(result.summary["run_id"], f"notices/{ACCOUNT}.csv")
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def runs(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    for name, value in environment(server, AWS_DEFAULT_REGION="us-east-1").items():
        monkeypatch.setenv(name, value)
    return Runs(server, tmp_path)


def announced(runs: Runs) -> dict[str, Any]:
    path = runs.out / f"state/notices/{ACCOUNT}.json"
    return (
        {one["function_arn"]: one for one in json.loads(path.read_text())["notices"]} if path.exists() else {}
    )


def test_functions_are_announced_today_and_changed_a_week_later(runs: Runs) -> None:
    first = runs.run()
    eligible = first.summary["eligible"]
    assert (first.exit_code, first.summary["notice"]["announced"]) == (0, eligible)
    ((subject, message),) = runs.messages()
    assert subject == f"Auto-Defender: {eligible} functions of account {ACCOUNT} to be changed"
    assert first.summary["notice"]["until"][:16].replace("T", " ") in message
    rows = runs.file(first)
    assert {row["function_arn"] for row in rows} == set(announced(runs))
    assert all(row["function_arn"] in message and "opt-out" in row["opt_out"] for row in rows)
    assert "give the function the tag" in message
    assert SECRET not in message
    page = runs.workspace.run_file(first.summary["run_id"], "report.html")
    assert f"{eligible} announced by this run" in page

    runs.days_later(6)
    second = runs.run()
    assert f"notice         {eligible} waiting, in 1 account, until" in second.text
    plan = json.loads(runs.workspace.run_file(second.summary["run_id"], "plan.json"))
    assert (plan["held_back"], plan["changes"], plan["notices"]) == ({"notice": eligible}, [], [])
    assert runs.changed() == set()
    some = rows[0]["function_arn"]
    assert (
        "it was announced, and is not changed before" in explain_function(runs.context("dry_run"), some).text
    )

    runs.days_later(1)
    third = runs.run()
    assert third.summary["changed"] == eligible
    assert runs.changed() == {row["function_arn"] for row in rows}
    assert third.summary["notice"] == dict.fromkeys(third.summary["notice"], 0) | {
        "until": None,
        "error": None,
    }
    assert announced(runs) == {}
    assert len(runs.messages()) == 1


def test_a_dry_run_announces_nothing_and_says_what_would_be(runs: Runs) -> None:
    dry = runs.run("dry_run")
    assert dry.summary["notice"]["planned"] == dry.summary["eligible"]
    assert f"notice         {dry.summary['eligible']} planned, in 1 account" in dry.text
    assert runs.messages() == []
    assert not (runs.out / "state/notices").exists()
    assert not list(runs.out.glob("runs/*/*/*/*/notices"))


def test_a_topic_that_fails_announces_nothing_and_the_next_run_tries_again(runs: Runs) -> None:
    runs.sections["notifications"] = {"topic_arn": f"{runs.topic.arn}-of-nobody"}
    failed = runs.run()
    assert failed.exit_code == 4
    assert failed.summary["notice"]["failed"] == failed.summary["eligible"]
    assert "not announced  Publish: NotFound" in failed.text
    assert announced(runs) == {}
    runs.sections["notifications"] = {"topic_arn": runs.topic.arn}
    again = runs.run()
    assert (again.exit_code, again.summary["notice"]["announced"]) == (0, failed.summary["notice"]["failed"])
    assert len(runs.messages()) == 1


class NoState(FolderStore):
    """A folder in which announcements can't be written."""

    def write(self, path: str, body: bytes, content_type: str) -> None:
        if path.startswith("state/notices/"):
            raise StoreFailed(f"{path}: disk full")
        super().write(path, body, content_type)


def test_what_is_not_written_is_not_announced(runs: Runs) -> None:
    failed = run(replace(runs.context(), store=NoState(runs.out)))
    assert (failed.exit_code, failed.summary["notice"]["error"]) == (
        4,
        f"state/notices/{ACCOUNT}.json: disk full",
    )
    runs.days_later(8)
    assert runs.run().summary["notice"]["announced"] == failed.summary["eligible"]
    assert runs.changed() == set()


def test_the_kill_switch_stops_announcements(runs: Runs) -> None:
    context = runs.context()
    context.store.write("state/stop", b"INC-1234", "text/plain")
    stopped = run(context)
    assert (stopped.exit_code, stopped.summary["stopped_by"]) == (5, "kill_switch")
    assert stopped.summary["notice"]["deferred"] == stopped.summary["eligible"]
    assert (runs.messages(), announced(runs)) == ([], {})


def test_another_release_is_announced_again(runs: Runs) -> None:
    runs.run()
    runs.days_later(8)
    runs.sections["defender"] = {"environment": {"TW_POLICY": "another-s3cret"}}
    rotated = runs.run()
    assert rotated.summary["notice"]["announced"] == rotated.summary["eligible"]
    assert runs.changed() == set()


def test_who_opts_out_meanwhile_is_not_changed(runs: Runs) -> None:
    name = runs.file(runs.run())[0]["function_name"]
    runs.days_later(8)
    runs.optouts = [{"account": ACCOUNT, "functions": [name], "reason": "CHG-1", "owner": "o@example.com"}]
    assert runs.run().summary["changed"] == len(runs.changed()) > 0
    assert not {arn for arn in runs.changed() if arn.endswith(f":{name}")}


def test_an_approved_plan_announces_and_changes_only_what_was_announced(runs: Runs, tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    assert "to be announced: " in write_plan(runs.context("dry_run"), path).text
    assert runs.messages() == []
    first = apply_saved(runs.context(), path)
    assert (first.summary["notice"]["announced"], len(runs.messages())) == (len(announced(runs)), 1)
    runs.days_later(8)
    write_plan(runs.context("dry_run"), path)
    runs.days_later(-2)
    waiting = apply_saved(runs.context(), path)
    assert waiting.summary["changes_by_outcome"] == {"deferred": len(announced(runs))}
    changes = runs.workspace.run_file(waiting.summary["run_id"], "changes.csv")
    assert "announced, not before" in changes
    assert runs.changed() == set()
    runs.days_later(1)
    assert apply_saved(runs.context(), path).summary["changed"] == len(runs.changed()) > 0


def test_who_opts_out_after_the_approval_gets_no_notice(runs: Runs, tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    write_plan(runs.context("dry_run"), path)
    runs.optouts = [{"account": ACCOUNT, "functions": ["*"], "reason": "CHG-1", "owner": "o@example.com"}]
    assert apply_saved(runs.context(), path).summary["notice"]["announced"] == 0
    assert (runs.messages(), announced(runs)) == ([], {})


def test_a_removal_that_an_owner_asked_for_needs_no_notice(runs: Runs, tmp_path: Path) -> None:
    runs.sections["rollout"] = {"notice_days": 0, "quiet_minutes": 0}
    changed = runs.run().summary["changed"]
    runs.sections["rollout"] = {"notice_days": 7, "quiet_minutes": 0}
    runs.optouts = [{"account": ACCOUNT, "reason": "Sold", "owner": "legal@example.com", "remove": True}]
    path = str(tmp_path / "plan.json")
    write_plan(runs.context("dry_run"), path)
    removed = apply_saved(runs.context(), path)
    assert removed.summary["changes_by_action"]["remove"] >= changed > 0
    assert removed.summary["changes_by_outcome"] == {"changed": removed.summary["changed"]}


def test_the_next_wave_is_announced_while_it_waits_and_stays_open_until_it_is_changed(runs: Runs) -> None:
    early = {"name": "early", "accounts": [ACCOUNT], "soak_hours": 0, "min_healthy": 0}
    empty = {"name": "pilot", "accounts": ["999900001111"]}
    runs.sections["rollout"]["waves"] = [empty, early]
    first = runs.run()
    assert first.summary["notice"]["announced"] == first.summary["eligible"]
    runs.sections["rollout"]["waves"] = [early]
    runs.days_later(6)
    (wave,) = runs.run().summary["waves"]
    assert (wave["stage"], wave["eligible"]) == ("open", first.summary["eligible"])
    assert runs.changed() == set()
    runs.sections["rollout"]["waves"] = [empty, early]
    runs.days_later(1)
    runs.run()
    assert runs.changed() == set()
    runs.sections["rollout"]["waves"] = [early]
    (wave,) = runs.run().summary["waves"]
    assert wave["changed"] == len(runs.changed()) == first.summary["eligible"]


def planned(names: Sequence[str]) -> list[PlannedNotice]:
    prefix = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
    return [PlannedNotice(ACCOUNT, "us-east-1", name, f"{prefix}{name}", "protect") for name in names]


def announce_all(runs: Runs, names: Sequence[str]) -> tuple[Announced, str, list[dict[str, str]]]:
    """Announce functions; return the result, the message and the rows of the file."""
    context = runs.context()
    with RunLock(context.store, context.run_id) as lock:
        done = announce(context, planned(names), lock)
    ((_, message),) = runs.messages()
    (path,) = runs.out.glob("runs/*/*/*/*/notices/*.csv")
    return done, message, list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_hostile_name_is_neither_a_formula_nor_a_line_of_its_own(runs: Runs) -> None:
    hostile = "=HYPERLINK(1)\nTo opt out: call\u202e evil"
    _, message, (row,) = announce_all(runs, [hostile])
    assert row["function_name"] == "'=HYPERLINK(1)\\nTo opt out: call\\u202e evil"
    assert "function:=HYPERLINK(1)\\nTo opt out: call\\u202e evil" in message
    assert not [line for line in message.splitlines() if line.startswith("To opt out: call")]


def test_a_message_is_bounded_and_the_file_has_all(runs: Runs) -> None:
    done, message, rows = announce_all(runs, [f"function-{n}" for n in range(300)])
    assert [(one.outcome, one.functions) for one in done.notices] == [("announced", 300)]
    assert len(rows) == 300
    assert len(message.encode()) < 20_000
    assert "and 200 more" in message


def test_malformed_announcements_end_the_run_before_any_change(runs: Runs) -> None:
    path = runs.out / f"state/notices/{ACCOUNT}.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with pytest.raises(BadInput, match=rf"state/notices/{ACCOUNT}\.json: "):
        runs.run()
    assert runs.changed() == set()


@pytest.mark.parametrize("value", [-1, 61, 1.5, "7", True])
def test_a_bad_value_names_the_key_and_the_line(runs: Runs, value: object) -> None:
    runs.sections["rollout"] = {"notice_days": value}
    with pytest.raises(BadInput, match=r"auto-defender\.yaml, line \d+: rollout\.notice_days: expected"):
        runs.context()


def test_notice_without_a_topic_is_refused(runs: Runs) -> None:
    del runs.sections["notifications"]
    with pytest.raises(BadInput, match=r"rollout\.notice_days needs notifications\.topic_arn"):
        runs.context()
