"""`report weekly`: writes and publishes the report of an ISO week."""

import re
from datetime import date, timedelta

import boto3

from auto_defender.config import Configuration
from auto_defender.job_result import JobResult
from auto_defender.notify.sns import notify_week
from auto_defender.output import open_output
from reports.weekly import write_weekly
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import BadInput


def report_week(
    settings: Configuration, session: boto3.Session, week: str | None, clock: Clock = SYSTEM_CLOCK
) -> JobResult:
    """Write the report of an ISO week (2026-W48; the last complete one if None) from the runs' files."""
    now = clock.now()
    chosen = _checked(week, now.date()) if week else _last_week(now.date())
    store = open_output(settings, session)
    summary = write_weekly(store, chosen, now)
    text = f"week {chosen}\nreport  {store.url(f'weekly/{chosen}/report.html')}"
    mail = store.read(f"weekly/{chosen}/mail.txt") or b""
    return notify_week(settings.notifications, session, JobResult(summary, text), mail.decode())


def _last_week(today: date) -> str:
    year, week, _ = (today - timedelta(days=7)).isocalendar()
    return f"{year}-W{week:02}"


def _checked(week: str, today: date) -> str:
    match = re.fullmatch(r"(\d{4})-W(\d{2})", week, re.ASCII)
    try:
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1) if match else None
    except ValueError:
        monday = None
    if monday and monday > today:
        raise BadInput(f"--week: {week} has not begun")
    if monday:
        return week
    raise BadInput(f"--week: {week!r} is no ISO week; expected one such as 2026-W48")
