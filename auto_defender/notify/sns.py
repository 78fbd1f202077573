"""SNS notifications: runs that failed or are incomplete, the weekly report, and announcements of changes."""

import logging
from dataclasses import replace

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from auto_defender.config import NotificationSettings
from auto_defender.job_result import JobResult
from scanner.aws.errors import describe
from scanner.core.errors import AutoDefenderError

log = logging.getLogger(__name__)

# SNS API reference, Publish: a subject is UTF-8 text of less than 100 characters without control characters, a message
# has up to 262,144 bytes of UTF-8.
MAX_SUBJECT = 99
MAX_MESSAGE_BYTES = 262_144
_ENDS = {
    0: "complete",
    1: "incomplete: files of its report are missing",
    4: "changes failed",
    5: "stopped by a guard",
}


class Topic:
    """The topic that is published to; threads may share it."""

    def __init__(self, arn: str, session: boto3.Session) -> None:
        """Initialize; nothing is called yet."""
        config = Config(
            connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
        )
        self._arn = arn
        self._client = session.client("sns", region_name=arn.split(":")[3], config=config)

    def publish(self, subject: str, message: str, account_id: str = "") -> None:
        """Publish a message. Raise ClientError or BotoCoreError where that failed, or its answer was lost.

        account_id: the attribute by which a subscription can filter; "" for a message to the operators, without it.
        """
        attributes = {"account_id": {"DataType": "String", "StringValue": account_id}} if account_id else {}
        self._client.publish(
            TopicArn=self._arn,
            Subject=_subject(f"Auto-Defender: {subject}"),
            Message=_message(message),
            MessageAttributes=attributes,
        )


def notify_run(settings: NotificationSettings, session: boto3.Session, result: JobResult) -> JobResult:
    """Publish a run that failed, is incomplete or was stopped by a guard.

    Return its result, with a line added where publishing failed.
    """
    if result.exit_code == 0 and not settings.always:
        return result
    end = _ENDS.get(result.exit_code) or f"incomplete: {_missing(result)}"
    return _notify(settings, session, f"run {end}", result)


def _missing(result: JobResult) -> str:
    """Return the reason for exit code 3."""
    if result.summary["units_unread"]:
        return "units were not read"
    return "tags were not read" if result.summary["tags_unread"]["functions"] else "cut short"


def notify_week(
    settings: NotificationSettings, session: boto3.Session, result: JobResult, mail: str
) -> JobResult:
    """Publish a weekly report, with its short text for mail."""
    return _notify(settings, session, f"report of week {result.summary['week']}", result, mail)


def notify_failure(
    settings: NotificationSettings, session: boto3.Session, job: str, error: AutoDefenderError
) -> None:
    """Publish the error of a job that has no result."""
    _notify(settings, session, f"job '{job}' failed", JobResult({}, str(error)))


def _notify(
    settings: NotificationSettings, session: boto3.Session, subject: str, result: JobResult, mail: str = ""
) -> JobResult:
    """Publish a result's text, after the mail's if there is one. A failure to publish is logged and added to the text."""
    if settings.topic_arn is None:
        return result
    try:
        Topic(settings.topic_arn, session).publish(subject, f"{mail}\n{result.text}".strip())
    except (ClientError, BotoCoreError) as error:
        why = f"nobody was notified: {describe(error)}"
        log.error("%s", why)  # noqa: TRY400 - one clear line, no traceback
        return replace(result, text=f"{result.text}\n{why}")
    return result


def _subject(text: str) -> str:
    """Cut a subject, and put a space for each character that can't be printed: a job's name comes from an event."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_SUBJECT]


def _message(text: str) -> str:
    """Cut a message between two characters. A path may have characters that UTF-8 lacks; they become '?'."""
    return text.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")
