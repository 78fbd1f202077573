"""What is listed and read where 400 days of hourly runs lie in the store: a day's names, never all of runs/."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from auto_defender.config import read_configuration
from auto_defender.demo.run import configuration_text
from auto_defender.jobs.report_link import link_report
from reports.run_files import begin_run, write_run
from reports.weekly import write_weekly
from storage.folder import FolderStore
from tests.unit.reports.frames import organization

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
DAYS, RUNS_A_DAY, FILES_A_RUN = 400, 24, 2


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Make a store with the runs of 400 days, and none yet of the week that begins on MONDAY."""
    for hour in range(1, DAYS * RUNS_A_DAY + 1):
        started = MONDAY - timedelta(hours=hour)
        folder = tmp_path / f"runs/{started:%Y/%m/%d}/{started:%Y%m%dT%H%M%SZ}-1a2b3c"
        folder.mkdir(parents=True)
        for number in range(FILES_A_RUN):
            (folder / f"{number}.csv").touch()
    return FolderStore(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Record what every store is asked for: the operation, its path or prefix, and how many names came back."""
    calls: list[tuple[str, str, int]] = []

    def recorded(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: FolderStore, path: str) -> Any:
            answer = operation(self, path)
            calls.append((name, path, len(answer) if name != "read" else 1))
            return answer

        return record

    for name in ("list", "folders", "read"):
        monkeypatch.setattr(FolderStore, name, recorded(name, getattr(FolderStore, name)))
    return calls


def names_listed(asked: list[tuple[str, str, int]]) -> int:
    return sum(count for name, _, count in asked if name != "read")


def runs_of_the_week(store: FolderStore, asked: list[tuple[str, str, int]]) -> list[str]:
    runs = [organization(functions=40, started=MONDAY + timedelta(hours=hour)) for hour in range(3)]
    for run in runs:
        begin_run(store, run.run_id, run.mode)
        write_run(store, run)
    return [run.run_id for run in runs]


def test_a_run_lists_its_own_folder_alone(store: FolderStore, asked: list[tuple[str, str, int]]) -> None:
    [*_, last] = runs_of_the_week(store, asked)
    of_last = [call for call in asked if last in call[1]]
    # Before its tables, for those of an earlier writing, and after.
    assert [(name, path.rpartition(last)[2], count) for name, path, count in of_last] == [
        ("list", "/", 1),
        ("list", "/", 9),
    ]
    assert names_listed(asked) == 3 * (1 + 9)
    assert len([call for call in asked if call[0] == "read"]) <= 3 * 6


def test_a_week_lists_seven_days_and_reads_its_own_runs(
    store: FolderStore, asked: list[tuple[str, str, int]]
) -> None:
    runs = runs_of_the_week(store, asked)
    asked.clear()
    assert write_weekly(store, "2026-W48", MONDAY + timedelta(days=8))["sweeps"] == 3
    listed = [(name, path) for name, path, _ in asked if name != "read"]
    assert listed == [("folders", f"runs/2026/11/{day}/") for day in range(23, 30)]
    assert names_listed(asked) == len(runs)
    summaries = [path for _, path, _ in asked if path.startswith("runs/") and path.endswith("summary.json")]
    assert len(summaries) == len(runs)


@pytest.mark.parametrize("named", [True, False])
def test_a_link_lists_one_file(
    store: FolderStore, asked: list[tuple[str, str, int]], tmp_path: Path, named: bool
) -> None:
    [first, *_, last] = runs_of_the_week(store, asked)
    text = yaml.safe_load(configuration_text(tmp_path / "optouts.yaml")) | {"output": str(tmp_path)}
    settings = read_configuration(yaml.safe_dump(text).encode(), "a test", {})
    asked.clear()
    result = link_report(settings, boto3.Session(region_name="us-east-1"), first if named else None, 1)
    assert result.summary["run_id"] == (first if named else last)
    assert names_listed(asked) == 1
    assert len(asked) <= 2
