"""A run's files: their places, that they agree, and what happens when the store fails."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.data.run_result import RunResult
from reports.run_files import begin_run, read_previous, write_run
from scanner.inventory.functions_frame import FunctionsFrame
from scanner.inventory.ledger import Ledger
from scanner.organization import accounts
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.unit.reports.frames import NOW, organization

CONTRACT = (
    "run_id mode started ended units_expected units_read functions protected eligible skipped excluded "
    "changed failed exit_code"
).split()


LATER = organization(functions=40, started=NOW + timedelta(hours=1))


def written(folder: Path, run: RunResult) -> tuple[dict[str, Any], Path]:
    store = FolderStore(folder)
    store.check_writable()
    return write_run(store, run), folder / "runs/2026/11/24" / run.run_id


def test_every_file_of_the_contract_is_in_its_place_and_in_latest(tmp_path: Path) -> None:
    _, folder = written(tmp_path, organization())
    names = {
        "functions.csv", "accounts.csv", "units.csv", "changes.csv", "report.html", "summary.json", "plan.json",
        "rollout.json",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in (tmp_path / "latest").iterdir()} == names


def test_the_summary_returned_is_the_one_written_and_has_the_contracts_keys(tmp_path: Path) -> None:
    summary, folder = written(tmp_path, organization(mode="apply"))
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert list(summary)[1:3] == ["version", "run_id"]
    assert set(CONTRACT) <= set(summary)
    assert (summary["mode"], summary["started"], summary["exit_code"]) == ("apply", "2026-11-24T03:42:32Z", 4)
    for name, described in summary["files"].items():
        body = (folder / name).read_bytes()
        assert described == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_the_files_agree_with_each_other(tmp_path: Path) -> None:
    summary, folder = written(tmp_path, organization(mode="apply"))
    functions = pd.read_csv(folder / "functions.csv", keep_default_na=False)
    table = pd.read_csv(folder / "accounts.csv")
    units = pd.read_csv(folder / "units.csv")
    changes = pd.read_csv(folder / "changes.csv")
    assert summary["functions"] == len(functions) == table["functions"].sum() == units["functions"].sum()
    for verdict in ("protected", "eligible", "skipped", "excluded"):
        assert summary[verdict] == (functions["verdict"] == verdict).sum() == table[verdict].sum()
    assert summary["units_expected"] == len(units) == table["units_expected"].sum()
    assert summary["units_read"] == (units["outcome"] == "read").sum()
    assert summary["units_by_outcome"] == units["outcome"].value_counts().to_dict()
    assert summary["changed"] == (changes["outcome"] == "changed").sum() == 58
    assert summary["failed"] == (changes["outcome"] == "failed").sum() == 1
    assert sum(summary["by_protection"].values()) == len(functions)


def test_the_next_run_says_what_changed_since(tmp_path: Path) -> None:
    first, _ = written(tmp_path, organization())
    assert first["since_previous"] is None
    later = organization(mode="apply", started=NOW + timedelta(hours=1))
    second, _ = written(tmp_path, later)
    since = second["since_previous"]
    assert since["run_id"] == first["run_id"]
    assert since["protected"] == second["protected"] - first["protected"] == 58
    assert since["units_read"] == 0


def test_a_run_is_not_compared_with_itself_or_with_one_that_began_later(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for run in (LATER, LATER, organization()):
        assert write_run(store, run)["since_previous"] is None


def test_a_rollback_leaves_latest_alone(tmp_path: Path) -> None:
    first, _ = written(tmp_path, organization())
    run = organization(mode="apply", started=NOW + timedelta(hours=1))
    rollback = dataclasses.replace(
        run, mode="rollback", units=run.units.iloc[:0], functions=run.functions.iloc[:0], plan_json=None
    )
    summary, folder = written(tmp_path, rollback)
    assert (folder / "report.html").is_file()
    assert summary["units_expected"] == 0
    assert json.loads((tmp_path / "latest/summary.json").read_text())["run_id"] == first["run_id"]


def test_a_run_without_a_sweep_has_its_files_too(tmp_path: Path) -> None:
    """An approved plan and a rollback change functions without reading the organization."""
    run = organization(mode="apply")
    nothing = FunctionsFrame().finish()
    blind = dataclasses.replace(
        run,
        accounts=pd.DataFrame(columns=list(accounts.COLUMNS)),
        units=Ledger().frame(),
        functions=nothing.assign(
            **{
                name: pd.Categorical([])
                for name in ("family", "protection", "verdict", "reasons", "warnings")
            },
            fails_opted_out=False,
            remove=False,
        ),
    )
    summary, folder = written(tmp_path, blind)
    assert (summary["changed"], summary["functions"], summary["coverage"]["of_all"]["pct"]) == (58, 0, None)
    page = (folder / "report.html").read_text()
    assert "58 changed" in page
    assert "Covered, of all functions" not in page
    assert not (tmp_path / "latest").exists()


def test_the_first_file_of_a_run_that_writes_is_there_before_any_other_and_in_latest_too(
    tmp_path: Path,
) -> None:
    run, store = organization(mode="apply"), FolderStore(tmp_path)
    begin_run(store, run.run_id, run.mode)
    first = {"run_id": run.run_id, "mode": "apply", "started": "2026-11-24T03:42:32Z"}
    assert json.loads((tmp_path / run.folder / "run.json").read_text()) == first
    write_run(store, run)
    assert json.loads((tmp_path / "latest/run.json").read_text()) == first


class Refusing(FolderStore):
    """Refuses to write what matches."""

    refused = ""

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        if re.search(self.refused, path):
            raise StoreFailed(f"can't write {path}: No space left on device")
        super().upload(path, chunks, content_type)


def refusing(folder: Path, refused: str) -> Refusing:
    store = Refusing(folder)
    store.refused = refused
    return store


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize(
    "name",
    ["changes.csv", "plan.json", "rollout.json", "units.csv", "accounts.csv", "functions.csv", "report.html"],
)
def test_a_file_that_the_store_refuses_costs_that_file_alone(tmp_path: Path, name: str) -> None:
    first, folder = written(tmp_path, organization())
    run = organization(started=NOW + timedelta(hours=1), unread=0)
    summary = write_run(refusing(tmp_path, name), run)
    folder = tmp_path / run.folder
    assert files_of(folder) == files_of(tmp_path / "latest") - {name}
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["files_missing"] == {name: f"can't write {run.folder}/{name}: No space left on device"}
    assert (run.exit_code, summary["exit_code"]) == (0, 1)
    assert name not in summary["files"]
    # A run with a missing file is not a complete one.
    assert json.loads((tmp_path / "latest.json").read_text())["run_id"] == first["run_id"]
    assert json.loads((tmp_path / "latest/summary.json").read_text())["run_id"] == first["run_id"]


def test_a_store_that_refuses_all_leaves_the_summary_to_the_caller(tmp_path: Path) -> None:
    run = organization(mode="apply")
    summary = write_run(refusing(tmp_path, "."), run)
    assert (summary["changed"], summary["exit_code"], summary["files"]) == (58, 4, {})
    assert set(summary["files_missing"]) == {
        "changes.csv", "plan.json", "rollout.json", "units.csv", "accounts.csv", "functions.csv", "report.html",
        "summary.json",
    }  # fmt: skip
    assert not (tmp_path / "latest.json").exists()


def test_a_report_that_can_not_be_made_costs_the_report_alone(tmp_path: Path) -> None:
    unfit: Any = [1]  # no mapping: the page can't show it
    summary, folder = written(tmp_path, dataclasses.replace(organization(unread=0), quarantine=unfit))
    why = summary["files_missing"]["report.html"]
    assert why == "internal error: TypeError; please report it with the log"
    assert summary["exit_code"] == 1
    assert {"functions.csv", "changes.csv", "summary.json"} <= files_of(folder)


def test_tables_that_can_not_be_made_leave_the_changes_and_the_summary(tmp_path: Path) -> None:
    run = dataclasses.replace(organization(mode="apply"), accounts=organization().accounts[["in_scope"]])
    summary, folder = written(tmp_path, run)
    assert files_of(folder) == {"changes.csv", "units.csv", "plan.json", "rollout.json", "summary.json"}
    assert set(summary["files_missing"]) == {"accounts.csv", "functions.csv", "report.html"}


def test_a_full_or_read_only_temporary_folder_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    summary, _ = written(tmp_path, organization(mode="apply"))
    assert summary["files_missing"] == {}
    assert (tmp_path / "latest/report.html").is_file()


def test_an_empty_organization_is_reported_like_any_other(tmp_path: Path) -> None:
    run = organization()
    empty = dataclasses.replace(
        run,
        functions=run.functions.iloc[:0],
        changes=run.changes.iloc[:0],
        units=run.units.assign(functions=0),
    )
    summary, folder = written(tmp_path, empty)
    assert summary["functions"] == 0
    assert summary["coverage"]["of_all"]["pct"] is None
    assert "100 %" not in (folder / "report.html").read_text().split("<main")[1].split("Where</h2>")[0]


def test_the_previous_units_are_read_back_with_their_account_ids_whole(tmp_path: Path) -> None:
    run = organization()
    written(tmp_path, run)
    previous = read_previous(FolderStore(tmp_path), LATER.run_id)
    assert previous is not None
    assert previous.units["account_id"].tolist() == run.units["account_id"].tolist()


@pytest.mark.parametrize("name", ["summary.json", "units.csv"])
@pytest.mark.parametrize("body", [b"", b"[]", b'{"run_id": "x"}', b"\xff\xfe", b"a,b\r\n1,2,3,4\r\n5\r\n"])
def test_a_run_before_that_is_broken_is_not_compared_with(
    tmp_path: Path, name: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    run = organization(functions=40)
    store = FolderStore(tmp_path)
    write_run(store, run)
    store.write(f"{run.folder}/{name}", body, "text/plain")
    assert write_run(store, LATER)["since_previous"] is None
    assert "not compared with the previous run, which can't be read" in caplog.text


@pytest.mark.parametrize("limits", [(10, 10**9), (10**9, 10)])
def test_a_run_that_is_written_again_has_each_table_once(tmp_path: Path, limits: tuple[int, int]) -> None:
    """The last step of a run in batches may be called again, with more or fewer rows than before."""
    run, store = organization(), FolderStore(tmp_path)
    for limit in limits:
        summary = write_run(store, run, gzip_above=limit)
    tables = {name for name in files_of(tmp_path / run.folder) if ".csv" in name}
    assert tables == {name for name in summary["files"] if ".csv" in name}
    assert len(tables) == 4
