"""`latest`: it names the newest complete run over the whole scope, whatever the order in which runs end."""

import dataclasses
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from reports.data.read_back import read_latest
from reports.data.run_result import RunResult
from reports.run_files import write_run
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.unit.reports.frames import NOW, organization

RUNS = tuple(organization(functions=40, started=NOW + timedelta(hours=hour)) for hour in range(3))
NEWEST = RUNS[-1].run_id


def published(folder: Path) -> list[str]:
    """Return the run that latest.json names, and the one whose files are in latest/."""
    paths = (folder / "latest.json", folder / "latest/summary.json")
    return [str(json.loads(path.read_text())["run_id"]) for path in paths if path.exists()]


def written(folder: Path, run: RunResult) -> dict[str, Any]:
    """Return a run's summary.json."""
    summary: dict[str, Any] = json.loads((folder / run.folder / "summary.json").read_text())
    return summary


def test_the_pointer_has_the_run_its_folder_and_its_headline(tmp_path: Path) -> None:
    run = RUNS[0]
    summary = write_run(FolderStore(tmp_path), run)
    pointer = json.loads((tmp_path / "latest.json").read_text())
    assert (pointer["format"], pointer["run_id"], pointer["folder"]) == (1, run.run_id, run.folder)
    assert pointer["summary"].items() <= summary.items()
    assert {"ended", "exit_code", "units_expected", "units_read", "functions", "protected"} <= set(
        pointer["summary"]
    )


@pytest.mark.parametrize("order", list(permutations(RUNS)))
def test_an_older_run_that_ends_later_changes_nothing(tmp_path: Path, order: Sequence[RunResult]) -> None:
    for done, run in enumerate(order, start=1):
        summary = write_run(FolderStore(tmp_path), run)
        newest = max(one.run_id for one in order[:done])
        assert published(tmp_path) == [newest, newest]
        assert summary["exit_code"] == run.exit_code
        overtaken = [f"latest stays with run {newest}, which is newer"] if newest != run.run_id else []
        assert summary["warnings"] == written(tmp_path, run)["warnings"] == overtaken


def test_of_runs_that_end_at_once_the_newest_is_published(tmp_path: Path) -> None:
    threads = [threading.Thread(target=write_run, args=(FolderStore(tmp_path), run)) for run in RUNS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert published(tmp_path) == [NEWEST, NEWEST]


class Overtaken(FolderStore):
    """Lets another run end at a moment of this one's publication."""

    moment, other = "", RUNS[-1]

    def _let_it_end(self, moment: str) -> None:
        if self.moment == moment:
            self.moment = ""
            write_run(FolderStore(self.root), self.other)

    def create(self, path: str, body: bytes, content_type: str = "application/json") -> str | None:
        self._let_it_end("create")
        return super().create(path, body, content_type)

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        self._let_it_end("replace")
        return super().replace(path, body, tag)

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        self._let_it_end("publish")
        super().publish(source, target, names)


@pytest.mark.parametrize("moment", ["create", "replace", "publish"])
@pytest.mark.parametrize("newer", [True, False])
def test_a_run_that_is_overtaken_while_it_publishes_leaves_the_newer_one(
    tmp_path: Path, moment: str, newer: bool
) -> None:
    first, older, later = RUNS
    if moment != "create":
        write_run(FolderStore(tmp_path), first)
    store = Overtaken(tmp_path)
    store.moment, store.other = moment, later if newer else older
    write_run(store, older if newer else later)
    assert store.moment == ""
    assert published(tmp_path) == [NEWEST, NEWEST]


def test_a_run_that_did_not_reach_the_end_of_its_scope_is_not_published(tmp_path: Path) -> None:
    write_run(FolderStore(tmp_path), RUNS[0])
    summary = write_run(FolderStore(tmp_path), dataclasses.replace(RUNS[1], whole_scope=False))
    assert published(tmp_path) == [RUNS[0].run_id] * 2
    [warning] = summary["warnings"]
    assert warning.startswith("latest stays as it was")
    # The next one is compared with the complete run.
    since = write_run(FolderStore(tmp_path), RUNS[2])["since_previous"]
    assert since["run_id"] == RUNS[0].run_id


def test_what_an_older_release_left_is_compared_with_and_not_gone_behind(tmp_path: Path) -> None:
    write_run(FolderStore(tmp_path), RUNS[1])
    (tmp_path / "latest.json").unlink()
    assert read_latest(FolderStore(tmp_path)) == RUNS[1].run_id
    write_run(FolderStore(tmp_path), RUNS[0])
    assert published(tmp_path) == [RUNS[1].run_id]  # no pointer yet, and latest/ did not go back
    assert write_run(FolderStore(tmp_path), RUNS[2])["since_previous"]["run_id"] == RUNS[1].run_id
    assert published(tmp_path) == [NEWEST, NEWEST]


BROKEN = [
    b"",
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    json.dumps({"run_id": "zzz"}).encode(),
    json.dumps({"run_id": RUNS[2].run_id}).encode(),
    json.dumps({"format": 1, "run_id": "../../state", "folder": "runs/../../state"}).encode(),
    json.dumps({"format": 1, "run_id": RUNS[0].run_id, "folder": "runs/elsewhere"}).encode(),
]


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_pointer_is_one_line_and_is_replaced(tmp_path: Path, body: bytes) -> None:
    store = FolderStore(tmp_path)
    store.write("latest.json", body, "application/json")
    with pytest.raises(ValueError, match=r"latest\.json is broken") as reported:
        read_latest(store)
    assert "\n" not in str(reported.value)
    summary = write_run(store, RUNS[1])
    assert summary["since_previous"] is None
    assert "latest.json is broken" in summary["warnings"][0]
    assert published(tmp_path) == [RUNS[1].run_id] * 2


def test_a_run_of_a_clock_that_was_years_ahead_blocks_no_later_one(tmp_path: Path) -> None:
    ahead = organization(functions=40, started=max(NOW, datetime.now(UTC)) + timedelta(days=400))
    write_run(FolderStore(tmp_path), ahead)
    summary = write_run(FolderStore(tmp_path), RUNS[0])
    assert summary["warnings"] == []
    assert published(tmp_path) == [RUNS[0].run_id] * 2


def test_a_format_that_this_version_does_not_know_is_not_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    newer = {"format": 2, "run_id": RUNS[1].run_id, "folder": RUNS[1].folder}
    store.write("latest.json", json.dumps(newer).encode(), "application/json")
    with pytest.raises(ValueError, match=r"latest\.json is broken: format: "):
        read_latest(store)


class FailingPublication(FolderStore):
    """Refuses latest.json, or the copies."""

    refused = ""

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        if self.refused == path:
            raise StoreFailed(f"can't replace {path}: AccessDenied")
        return super().replace(path, body, tag)

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        if self.refused == target:
            raise StoreFailed(f"can't copy to {target}: AccessDenied")
        super().publish(source, target, names)


@pytest.mark.parametrize("refused", ["latest", "latest.json"])
def test_copies_that_fail_are_a_warning_and_a_pointer_that_fails_is_an_error(
    tmp_path: Path, refused: str
) -> None:
    first, run = (dataclasses.replace(one, exit_code=0) for one in RUNS[:2])
    write_run(FolderStore(tmp_path), first)
    store = FailingPublication(tmp_path)
    store.refused = refused
    summary = write_run(store, run)
    assert (tmp_path / run.folder / "report.html").is_file()
    if refused == "latest":
        assert published(tmp_path) == [run.run_id, first.run_id]
        assert (summary["exit_code"], summary["files_missing"]) == (0, {})
        assert (
            summary["warnings"]
            == written(tmp_path, run)["warnings"]
            == ["latest/ may have files of an earlier run: can't copy to latest: AccessDenied"]
        )
    else:
        assert published(tmp_path) == [first.run_id] * 2
        assert (summary["exit_code"], summary["warnings"]) == (1, [])
        assert summary["files_missing"] == {"latest.json": "can't replace latest.json: AccessDenied"}
        assert written(tmp_path, run) == summary


def test_a_pointer_that_never_stays_ends_in_one_line(tmp_path: Path) -> None:
    class Restless(FolderStore):
        def replace(self, path: str, body: bytes, tag: str) -> str | None:
            return None

    write_run(FolderStore(tmp_path), RUNS[0])
    summary = write_run(Restless(tmp_path), RUNS[1])
    assert "changed 20 times meanwhile" in summary["files_missing"]["latest.json"]
