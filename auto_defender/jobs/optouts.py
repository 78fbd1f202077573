"""`optouts check`: whether the opt-out file is valid, what is in force, what expires soon, what has expired."""

from datetime import date, timedelta
from typing import Any

import boto3

from auto_defender.config import Configuration
from auto_defender.job_result import JobResult
from auto_defender.sources import read_source
from scanner.core.clock import SYSTEM_CLOCK
from scanner.core.errors import BadInput
from scanner.organization.optouts import OptOut, read_optouts

SOON = timedelta(days=30)


def check_optouts(settings: Configuration, session: boto3.Session) -> JobResult:
    """Read the opt-out file; raise BadInput where it is missing or malformed."""
    if settings.optouts is None:
        raise BadInput("optouts: the configuration names no opt-out file")
    text = read_source(settings.optouts, session, "opt-out file", settings.storage.bucket_owner)
    today = SYSTEM_CLOCK.now().date()
    rows = [_row(entry, today) for entry in read_optouts(text, settings.optouts).entries]
    lines = [
        f"{row['status']:<14} {row['account']:<13} {row['functions']}  {row['reason']} ({row['owner']}, {row['expires']})"
        + ("; remove: true" if row["remove"] else "")
        for row in rows
    ]
    return JobResult({"optouts": rows}, "\n".join([f"{settings.optouts}: {len(rows)} entries", *lines]))


def _row(entry: OptOut, today: date) -> dict[str, Any]:
    return {
        "status": _status(entry, today),
        "account": entry.account,
        "regions": list(entry.regions) if entry.regions else "all",
        "functions": ", ".join(entry.functions) if entry.functions else "whole account",
        "reason": entry.reason,
        "owner": entry.owner,
        "expires": f"until {entry.expires}" if entry.expires else "no expiry",
        "remove": entry.remove,
    }


def _status(entry: OptOut, today: date) -> str:
    if not entry.in_force(today):
        return "expired"
    if entry.expires and entry.expires - today <= SOON:
        return "expires soon"
    return "in force"
