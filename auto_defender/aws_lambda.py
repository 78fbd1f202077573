"""The AWS Lambda entry point: {"job": "run"} every hour, {"job": "weekly"} for leadership.

The configuration's address comes from AUTO_DEFENDER_CONFIG (s3://bucket/key or ssm:NAME).
"""

import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import boto3
from rich.console import Console

from auto_defender import logs
from auto_defender.configuration import read_configuration
from auto_defender.context import new_run_id, open_context
from auto_defender.endings import Ending
from auto_defender.hourly import run
from auto_defender.metrics import embedded_metrics
from auto_defender.modes import mode_of
from auto_defender.progress import Display
from auto_defender.sources import read_source
from auto_defender.weekly import report_week
from scanner.errors import AutoDefenderError, BadInput

log = logging.getLogger(__name__)

# Of the function's remaining time, what settling the changes in flight and writing the report may need.
REPORT_SECONDS = 90.0


class LambdaContext(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Give the milliseconds left until the function is ended."""


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one job and give its summary.

    Raises AutoDefenderError where there is none to give, so that the invocation counts as failed.
    """
    run_id = new_run_id(datetime.now(UTC))
    console = Console(stderr=True, force_terminal=False)
    logs.set_up(run_id, verbose=False, console=console)
    try:
        ending = _job(event, run_id, Display(console), context.get_remaining_time_in_millis() / 1000)
    except AutoDefenderError as error:
        log.error("%s", error)  # noqa: TRY400 - one clear line, no traceback
        raise
    if event.get("job") == "run":
        sys.stdout.write(embedded_metrics(ending.summary, datetime.now(UTC)) + "\n")
    return ending.summary


def _job(event: Mapping[str, Any], run_id: str, display: Display, remaining: float) -> Ending:
    session = boto3.Session()
    address = os.environ.get("AUTO_DEFENDER_CONFIG")
    if not address:
        raise BadInput("AUTO_DEFENDER_CONFIG is not set; give it s3://bucket/key or ssm:NAME")
    settings = read_configuration(read_source(address, session, "configuration"), address, os.environ)
    job = event.get("job")
    if job == "weekly":
        return report_week(settings, session, event.get("week"))
    if job != "run":
        raise BadInput(f"the event's job is {job!r}; expected 'run' or 'weekly'")
    context = open_context(
        settings,
        session,
        run_id=run_id,
        mode=mode_of(settings),
        display=display,
        stop=threading.Event(),
        seconds=max(1.0, remaining - REPORT_SECONDS),
    )
    return run(context)
