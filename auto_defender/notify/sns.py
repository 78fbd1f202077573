"""Notifications by SNS: a run that did not end well, and the weekly report."""

import logging
from dataclasses import replace
from typing import Annotated

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import StringConstraints

from auto_defender.job_result import JobResult
from scanner.aws.errors import describe
from scanner.core.errors import AutoDefenderError
from scanner.core.settings import Settings

log = logging.getLogger(__name__)

# SNS API reference, Publish: a subject has up to 100 characters, a message up to 262,144 bytes.
MAX_SUBJECT = 100
MAX_MESSAGE = 200_000
_ENDS = {0: "complete", 4: "changes failed", 5: "stopped by a guard"}


# A FIFO topic would want an order that notifications do not have.
TopicArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", max_length=400),
]


class NotificationSettings(Settings):
    """Which topic is told (None: none), and whether also of runs that ended well."""

    topic_arn: TopicArn | None = None
    always: bool = False


def notify_run(settings: NotificationSettings, session: boto3.Session, ending: JobResult) -> JobResult:
    """Tell of a run that failed, was incomplete or stopped by a guard; give its ending, with a line where that failed."""
    if ending.exit_code == 0 and not settings.always:
        return ending
    end = _ENDS.get(ending.exit_code) or f"incomplete: {_missing(ending)}"
    return _told(settings, session, f"run {end}", ending)


def _missing(ending: JobResult) -> str:
    """Say what exit code 3 stands for."""
    if ending.summary["units_unread"]:
        return "units were not read"
    return "tags were not read" if ending.summary["tags_unread"]["functions"] else "cut short"


def notify_week(
    settings: NotificationSettings, session: boto3.Session, ending: JobResult, mail: str
) -> JobResult:
    """Tell of a weekly report, with its short text for mail."""
    return _told(settings, session, f"report of week {ending.summary['week']}", ending, mail)


def notify_failure(
    settings: NotificationSettings, session: boto3.Session, job: str, error: AutoDefenderError
) -> None:
    """Tell of a job that has no ending to give."""
    _told(settings, session, f"job '{job}' failed", JobResult({}, str(error)))


def _told(
    settings: NotificationSettings, session: boto3.Session, subject: str, ending: JobResult, mail: str = ""
) -> JobResult:
    """Publish an ending's text, after the mail's if there is one. What keeps it from being published is reported, and fails nothing."""
    if settings.topic_arn is None:
        return ending
    try:
        _publish(settings.topic_arn, session, f"Auto-Defender: {subject}", f"{mail}\n{ending.text}".strip())
    except (ClientError, BotoCoreError) as error:
        why = f"nobody was notified: {describe(error)}"
        log.error("%s", why)  # noqa: TRY400 - one clear line, no traceback
        return replace(ending, text=f"{ending.text}\n{why}")
    return ending


def _publish(topic_arn: str, session: boto3.Session, subject: str, message: str) -> None:
    config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    client = session.client("sns", region_name=topic_arn.split(":")[3], config=config)
    client.publish(TopicArn=topic_arn, Subject=subject[:MAX_SUBJECT], Message=message[:MAX_MESSAGE])
