"""The AWS Lambda entry point.

{"job": "run"} every hour, {"job": "weekly"} every week. Where the hourly job does not fit into one invocation, a
state machine calls it in steps: {"job": "manifest"}, {"job": "batch"} for each batch, {"job": "merge"}.

The configuration's address comes from AUTO_DEFENDER_CONFIG (s3://bucket/key or ssm:NAME).
"""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import boto3
from rich.console import Console

from auto_defender import logging as logs
from auto_defender.config import Configuration, read_configuration
from auto_defender.context import Context, mode_of, new_run_id, open_context
from auto_defender.distributed.steps import begin, ending, merge, sweep_batch
from auto_defender.job_result import JobResult
from auto_defender.jobs.run import run
from auto_defender.jobs.weekly import report_week
from auto_defender.notify.metrics import embedded_metrics
from auto_defender.notify.sns import notify_failure
from auto_defender.progress import Display
from auto_defender.sources import read_configuration_file
from reports.data.run_result import Mode
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import AutoDefenderError, BadInput

log = logging.getLogger(__name__)

Event = Mapping[str, Any]
# Seconds of the function's remaining time reserved for settling changes and writing files.
REPORT_SECONDS = 90.0
PART_SECONDS = 30.0
# The keys of a run's summary that the state machine passes on; its payloads are limited to 256 KiB.
BRIEF = (
    "run_id",
    "mode",
    "exit_code",
    "stopped_by",
    "units_expected",
    "units_read",
    "functions",
    "changed",
    "failed",
)


class LambdaContext(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


def handler(event: Event, context: LambdaContext, clock: Clock = SYSTEM_CLOCK) -> dict[str, Any]:
    """Do one job and return its summary. Lambda passes the first two arguments alone.

    Raise AutoDefenderError where the job has no result, so that the invocation counts as failed.
    """
    ends = clock.monotonic() + context.get_remaining_time_in_millis() / 1000
    run_id = _run_id(event, clock)
    console = Console(stderr=True, force_terminal=False)
    logs.set_up(run_id, verbose=False, console=console)
    try:
        return _job(event, run_id, Display(console), ends, clock)
    except AutoDefenderError as error:
        log.error("%s", error)  # noqa: TRY400 - one clear line, no traceback
        raise


def _run_id(event: Event, clock: Clock) -> str:
    """Return the run's id. In a state machine it derives from the execution, so that retries share it."""
    try:
        if event.get("job") == "manifest":
            digest = hashlib.sha256(event["execution"].encode()).hexdigest()
            return f"{datetime.fromisoformat(event['started']).astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest[:6]}"
        if event.get("job") in {"batch", "merge"}:
            return str(event["run_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the event of job {event['job']!r} can't be used: {error!r}") from None
    return new_run_id(clock.now())


def _job(event: Event, run_id: str, display: Display, ends: float, clock: Clock) -> dict[str, Any]:
    session = boto3.Session()
    address = os.environ.get("AUTO_DEFENDER_CONFIG")
    if not address:
        raise BadInput("AUTO_DEFENDER_CONFIG is not set; set it to s3://bucket/key or ssm:NAME")
    text = read_configuration_file(address, session, os.environ)
    settings = read_configuration(text, address, os.environ)
    try:
        return _run_job(event, run_id, settings, session, display, ends, clock)
    except AutoDefenderError as error:
        # The state machine retries a batch, and its last step reports batches that still fail.
        if event.get("job") != "batch":
            notify_failure(settings.notifications, session, str(event.get("job")), error)
        raise


def _run_job(
    event: Event,
    run_id: str,
    settings: Configuration,
    session: boto3.Session,
    display: Display,
    ends: float,
    clock: Clock,
) -> dict[str, Any]:
    """Do one job. ends: the Clock.monotonic() moment at which Lambda ends the invocation."""

    def open_for(mode: Mode, reserve: float) -> Context:
        return open_context(
            settings,
            session,
            run_id=run_id,
            mode=mode,
            display=display,
            stop=threading.Event(),
            deadline=ends - reserve,
            trigger="schedule",
            clock=clock,
        )

    match event.get("job"):
        case "run":
            return _with_metrics(run(open_for(mode_of(settings), REPORT_SECONDS)), clock)
        case "weekly":
            return report_week(settings, session, event.get("week")).summary
        case "manifest":
            return begin(open_for(mode_of(settings), REPORT_SECONDS), _batch_size(event))
        case "batch":
            return sweep_batch(open_for("scan", PART_SECONDS), str(event.get("batch")))
        case "merge":
            summary = _concluded(open_for(mode_of(settings), REPORT_SECONDS), _stopped(event))
            return {name: summary[name] for name in BRIEF}
        case unknown:
            raise BadInput(f"the event's job is {unknown!r}; expected 'run' or 'weekly'")


def _concluded(context: Context, stopped: str) -> dict[str, Any]:
    """Return the summary of a run in steps; its metrics are written once, however often its last step is called."""
    kept = ending(context)
    return kept.summary if kept else _with_metrics(merge(context, stopped), context.clock)


def _with_metrics(result: JobResult, clock: Clock) -> dict[str, Any]:
    """Write a run's metrics to the log and return its summary."""
    sys.stdout.write(embedded_metrics(result.summary, clock.now()) + "\n")
    return result.summary


def _batch_size(event: Event) -> int:
    size = event.get("batch_size")
    if not isinstance(size, int) or size < 1:
        raise BadInput(f"batch_size is {size!r}; expected how many accounts a batch has")
    return size


def _stopped(event: Event) -> str:
    """Return why the state machine stopped the batches: its Error, "" where it did not stop them."""
    stopped = event.get("stopped")
    return str(stopped.get("Error")) if isinstance(stopped, Mapping) else ""
