"""`report link`: a link to a run's report that a browser opens without AWS credentials."""

from datetime import timedelta

import boto3

from auto_defender.config import Configuration
from auto_defender.job_result import JobResult
from auto_defender.output import open_output
from remediator.state.store import run_folder
from reports.data.read_back import POINTER, read_latest
from scanner.core.errors import BadInput
from storage.protocol import Store, StoreFailed

_REPORT = "report.html"


def link_report(settings: Configuration, session: boto3.Session, run_id: str | None, hours: int) -> JobResult:
    """Return a link to a run's report, or to the newest complete run's (None). Raise BadInput where there is none.

    The link is to the run's own folder, so that it shows the same run after `latest` has moved.
    """
    store = open_output(settings, session, writable=False)
    try:
        chosen = run_id or _latest(store)
        path = f"{run_folder(chosen)}/{_REPORT}"
        if path not in store.list(path):
            raise BadInput(f"run {chosen} has no report: there is no {store.url(path)}")
    except StoreFailed as error:
        raise BadInput(f"output: {error}") from error
    link = store.link(path, int(timedelta(hours=hours).total_seconds()))
    return JobResult({"run_id": chosen, "link": link, "hours": hours}, link)


def _latest(store: Store) -> str:
    try:
        run_id = read_latest(store)
    except ValueError as error:
        raise BadInput(f"{error}; name a run with --run, or run again") from error
    if run_id is None:
        raise BadInput(f"no run has written a report yet: there is no {store.url(POINTER)}")
    return run_id
