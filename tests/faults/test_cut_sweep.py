"""A sweep that is stopped, or out of time, before its end: reported, and not the newest complete run."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auto_defender.context import Context
from auto_defender.jobs.run import run, scan
from reports.data.read_back import read_latest
from storage.folder import FolderStore
from tests.faults.campaign import Campaign, environment
from tests.faults.simulator import serving


def stopped(context: Context) -> Context:
    """Stop as Ctrl-C does, once the first unit is read."""
    context.display.swept = lambda progress: context.stop.set()
    return context


def out_of_time(context: Context) -> Context:
    return replace(context, deadline=time.monotonic())


@pytest.mark.parametrize("cut", [stopped, out_of_time])
@pytest.mark.parametrize("mode", ["scan", "dry_run"])
def test_a_sweep_that_was_cut_off_is_not_published(
    tmp_path: Path, cut: Callable[[Context], Context], mode: str
) -> None:
    campaign = Campaign(5, tmp_path, accounts=40, functions=1, fault_rate=0.0)
    job = scan if mode == "scan" else run
    with serving(campaign.simulator) as port, environment(port):
        whole = job(campaign.context(mode))
        ending = job(cut(campaign.context(mode)))
        after = job(campaign.context(mode))
    store = FolderStore(campaign.root)
    assert ending.exit_code == 3
    assert ending.summary["units_unread"] > whole.summary["units_unread"]
    assert "warning        latest stays as it was" in ending.text
    assert after.summary["since_previous"]["run_id"] == whole.summary["run_id"]
    assert read_latest(store) == after.summary["run_id"]
