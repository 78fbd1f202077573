"""Notifications of a run, over HTTP against a moto server's SNS."""

from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.sns.models import Topic, sns_backends

from auto_defender.config import NotificationSettings
from auto_defender.demo.functions import SECRET
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from auto_defender.job_result import JobResult
from auto_defender.notify.sns import notify_failure, notify_run
from scanner.core.errors import BadInput
from tests.functional.moto_server import Done, Workspace, auto_defender, environment, workspace_with


@pytest.fixture
def workspace(server: str, tmp_path: Path) -> Workspace:
    return workspace_with(server, tmp_path, 4)


@pytest.fixture
def topic(workspace: Workspace) -> Topic:
    created: Topic = sns_backends[CENTRAL_ACCOUNT_ID]["us-east-1"].create_topic("runs")
    return created


def messages(topic: Topic) -> list[tuple[str, str]]:
    """The subjects and messages so far."""
    return [(subject, message) for _, message, subject, *_ in topic.sent_notifications]


def run(server: str, workspace: Workspace, *arguments: str, **sections: Any) -> Done:
    env = environment(server, AWS_DEFAULT_REGION="us-east-1")
    return auto_defender(*arguments, "--config", workspace.configure(**sections), env=env)


def refusing(workspace: Workspace) -> str:
    return next(account.id for account in workspace.organization.accounts if account.spec.denies_access)


def test_an_incomplete_run_is_reported(server: str, workspace: Workspace, topic: Topic) -> None:
    done = run(server, workspace, "run", notifications={"topic_arn": topic.arn})
    assert done.exit_code == 3
    ((subject, message),) = messages(topic)
    assert subject == "Auto-Defender: run incomplete: units were not read"
    assert message == done.stdout.strip()
    assert "units read     4 of 8" in message
    assert SECRET not in message


def test_what_a_run_lacks_is_in_the_subject(server: str, workspace: Workspace, topic: Topic) -> None:
    unread = {
        "units_unread": 0,
        "tags_unread": {"functions": 3, "units": 1},
        "cut_short": False,
    }
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(server).items():
            patch.setenv(name, value)
        for summary in (unread, unread | {"tags_unread": {"functions": 0}, "cut_short": True}):
            notify_run(NotificationSettings(topic_arn=topic.arn), session, JobResult(summary, "text", 3))
        notify_run(NotificationSettings(topic_arn=topic.arn), session, JobResult(unread, "text", 1))
    assert [subject for subject, _ in messages(topic)] == [
        "Auto-Defender: run incomplete: tags were not read",
        "Auto-Defender: run incomplete: cut short",
        "Auto-Defender: run incomplete: files of its report are missing",
    ]


def test_a_run_without_a_result_is_reported(server: str, workspace: Workspace, topic: Topic) -> None:
    gone = str(workspace.folder / "gone.yaml")
    done = run(server, workspace, "run", notifications={"topic_arn": topic.arn}, optouts=gone)
    assert done.exit_code == 2
    ((subject, message),) = messages(topic)
    assert subject == "Auto-Defender: job 'run' failed"
    assert f"auto-defender: {message}" in done.stderr
    assert run(server, workspace, "scan", notifications={"topic_arn": topic.arn}, optouts=gone).exit_code == 2
    assert len(messages(topic)) == 1


def test_a_run_that_a_guard_stopped_is_reported(server: str, workspace: Workspace, topic: Topic) -> None:
    limits = {"max_changes_per_run": 1}
    done = run(server, workspace, "run", "--apply", notifications={"topic_arn": topic.arn}, rollout=limits)
    assert done.exit_code == 5
    ((subject, message),) = messages(topic)
    assert subject == "Auto-Defender: run stopped by a guard"
    assert "max_changes_per_run" in message


def test_a_complete_run_notifies_only_where_configured(
    server: str, workspace: Workspace, topic: Topic
) -> None:
    organization = {"exclude_accounts": [refusing(workspace)]}
    quiet = run(server, workspace, "run", notifications={"topic_arn": topic.arn}, organization=organization)
    assert (quiet.exit_code, messages(topic)) == (0, [])
    always = {"topic_arn": topic.arn, "always": True}
    assert run(server, workspace, "run", notifications=always, organization=organization).exit_code == 0
    assert [subject for subject, _ in messages(topic)] == ["Auto-Defender: run complete"]


def test_a_scan_by_hand_notifies_nobody(server: str, workspace: Workspace, topic: Topic) -> None:
    assert run(server, workspace, "scan", notifications={"topic_arn": topic.arn}).exit_code == 3
    assert messages(topic) == []


def test_the_weekly_report_is_announced(server: str, workspace: Workspace, topic: Topic) -> None:
    done = run(server, workspace, "run", notifications={"topic_arn": topic.arn})
    run_id = done.stdout.split()[1]
    year, week, _ = date.fromisoformat(run_id[:8]).isocalendar()
    weekly = f"{year}-W{week:02}"
    reported = run(
        server, workspace, "report", "weekly", "--week", weekly, notifications={"topic_arn": topic.arn}
    )
    assert reported.exit_code == 0, reported.stderr[-2000:]
    subject, message = messages(topic)[-1]
    assert subject == f"Auto-Defender: report of week {weekly}"
    assert (workspace.folder / "out" / "weekly" / weekly / "mail.txt").read_text().strip() in message


def test_a_notification_that_fails_fails_no_run(server: str, workspace: Workspace, topic: Topic) -> None:
    done = run(server, workspace, "run", notifications={"topic_arn": f"{topic.arn}-of-nobody"})
    assert done.exit_code == 3  # as without
    assert "nobody was notified: Publish: NotFound" in done.stdout
    assert [
        line for line in done.log if line["level"] == "ERROR" and "nobody was notified" in line["message"]
    ]


def test_a_topic_that_is_none_is_refused(server: str, workspace: Workspace) -> None:
    done = run(server, workspace, "run", notifications={"topic_arn": "soc@example.com"})
    assert done.exit_code == 2
    assert "notifications.topic_arn" in done.stderr


@pytest.mark.parametrize("character", ["a", "ö", "予", "🔒"])
def test_a_message_is_cut_at_the_bytes_that_sns_takes(
    server: str, topic: Topic, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(region_name="us-east-1")
    text = "x" + character * 262_144
    notify_run(NotificationSettings(topic_arn=topic.arn), session, JobResult({}, text, 4))
    ((_, message),) = messages(topic)
    assert text.startswith(message)
    assert 262_144 - 4 < len(message.encode()) <= 262_144


def test_a_subject_is_one_that_sns_takes(server: str, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's name comes from an event."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(region_name="us-east-1")
    job = "rün\n\x07\udcff" + "x" * 200
    notify_failure(NotificationSettings(topic_arn=topic.arn), session, job, BadInput(f"job {job}"))
    ((subject, message),) = messages(topic)
    assert subject == f"Auto-Defender: job 'rün   {'x' * 73}"
    assert len(subject) == 99  # "less than 100 characters"
    assert message.startswith(r"job rün\n\x07\udcff")
