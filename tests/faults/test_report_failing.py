"""A storage that refuses a run's files: before the first change nothing is done, after it everything is reported."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.jobs.apply import apply_saved
from auto_defender.jobs.plan import write_plan
from auto_defender.jobs.rollback import roll_back
from auto_defender.jobs.run import run
from remediator.journal.selection import Selection
from simulator.http import serving
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.faults.campaign import Campaign, environment


class Refusing(FolderStore):
    """Refuses to write what matches."""

    refused = ""

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        if re.search(self.refused, path):
            raise StoreFailed(f"s3: can't write {path}: AccessDenied")
        super().upload(path, chunks, content_type)


def refusing(campaign: Campaign, context: Context, refused: str) -> Context:
    store = Refusing(campaign.root)
    store.refused = refused
    return replace(context, store=store)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(5, tmp_path, accounts=1, functions=8, fault_rate=0.0)


@pytest.mark.parametrize("job", ["run", "apply", "rollback"])
def test_a_folder_that_can_not_be_written_stops_the_run_before_its_first_change(
    campaign: Campaign, tmp_path: Path, job: str
) -> None:
    plan = str(tmp_path / "PLAN.json")
    jobs: dict[str, Callable[[Context], JobResult]] = {"run": run, "apply": partial(apply_saved, source=plan)}
    with serving(campaign.simulator) as url, environment(url):
        write_plan(campaign.context("dry_run"), plan)
        if job == "rollback":
            campaign.do(run)
            arns = [write.arn for write in campaign.simulator.writes]
            jobs[job] = partial(roll_back, selection=Selection(functions=arns), apply=True)
        writes = len(campaign.simulator.writes)
        context = campaign.context("rollback" if job == "rollback" else "apply")
        with pytest.raises(StoreFailed, match=r"can't write runs/.*run\.json"):
            jobs[job](refusing(campaign, context, f"runs/.*{context.run_id}/"))
    assert len(campaign.simulator.writes) == writes


@pytest.mark.parametrize("refused", [r"runs/(\d+/){3}[^/]+/(?!run\.json)", r"summary\.json", "report"])
def test_changes_are_reported_though_the_storage_refuses_the_files(campaign: Campaign, refused: str) -> None:
    with serving(campaign.simulator) as url, environment(url):
        context = campaign.context("apply")
        ending = run(refusing(campaign, context, refused))
    assert 0 < ending.summary["changed"] <= len(campaign.simulator.writes)
    missing = ending.summary["files_missing"]
    assert missing
    assert ending.exit_code == ending.summary["exit_code"] == 1
    for name, why in missing.items():
        assert f"missing        {name}: {why}" in ending.text
    assert ("report         " in ending.text) == ("report.html" not in missing)
    assert not (campaign.root / "latest.json").exists()
