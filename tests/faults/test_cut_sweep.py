"""A sweep that is stopped, or out of time, before its end: reported, and not the newest complete run."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.jobs.run import finish, run, scan
from auto_defender.stages.observe import observe_accounts, organization_accounts
from remediator.execution.results import changes_frame
from reports.data.read_back import read_latest
from simulator.http import serving
from storage.folder import FolderStore
from tests.faults.campaign import Campaign, Job, environment


def stopped(context: Context) -> Context:
    """Stop as Ctrl-C does, once the first unit is read."""
    context.display.swept = lambda progress: context.stop.set()
    return context


def scan_stopped(context: Context) -> JobResult:
    return scan(stopped(context))


def run_stopped(context: Context) -> JobResult:
    return run(stopped(context))


def scan_out_of_time(context: Context) -> JobResult:
    accounts = organization_accounts(context)
    late = replace(context, deadline=time.monotonic())
    return finish(late, observe_accounts(late, accounts), changes_frame(()))


@pytest.mark.parametrize(
    ("job", "cut_off", "mode"),
    [(scan, scan_stopped, "scan"), (run, run_stopped, "dry_run"), (scan, scan_out_of_time, "scan")],
)
def test_a_sweep_that_was_cut_off_is_not_published(tmp_path: Path, job: Job, cut_off: Job, mode: str) -> None:
    campaign = Campaign(5, tmp_path, accounts=40, functions=1, fault_rate=0.0)
    with serving(campaign.simulator) as url, environment(url):
        whole = job(campaign.context(mode))
        ending = cut_off(campaign.context(mode))
        after = job(campaign.context(mode))
    assert ending.exit_code == 3
    assert ending.summary["units_unread"] > whole.summary["units_unread"]
    assert "warning        latest stays as it was" in ending.text
    assert after.summary["since_previous"]["run_id"] == whole.summary["run_id"]
    assert read_latest(FolderStore(campaign.root)) == after.summary["run_id"]
