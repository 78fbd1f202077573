"""A run's files: their places, that they agree, and what happens when the store fails."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.data.run_result import RunResult
from reports.run_files import read_previous, write_run
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
            }
        ),
    )
    summary, folder = written(tmp_path, blind)
    assert (summary["changed"], summary["functions"], summary["coverage"]["of_all"]["pct"]) == (58, 0, None)
    page = (folder / "report.html").read_text()
    assert "58 changed" in page
    assert "Covered, of all functions" not in page
    assert not (tmp_path / "latest").exists()


class FullStore(FolderStore):
    """A folder whose disk is full once the first file is in."""

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        if path.endswith("functions.csv"):
            raise StoreFailed(f"can't write {path}: No space left on device")
        super().upload(path, chunks, content_type)


def test_a_store_that_fails_keeps_the_files_here_and_latest_where_it_was(tmp_path: Path) -> None:
    first, _ = written(tmp_path, organization())
    run = organization(started=NOW + timedelta(hours=1))
    with pytest.raises(
        StoreFailed, match=r"No space left on device; the run's files are kept in (\S+)$"
    ) as failed:
        write_run(FullStore(tmp_path), run)
    kept = Path(str(failed.value).rpartition(" ")[2])
    assert {"functions.csv", "report.html", "summary.json"} <= {path.name for path in kept.iterdir()}
    assert json.loads((tmp_path / "latest/summary.json").read_text())["run_id"] == first["run_id"]
    shutil.rmtree(kept)


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
    previous = read_previous(FolderStore(tmp_path))
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
    assert write_run(store, run)["since_previous"] is None
    assert "not compared with the previous run, which can't be read" in caplog.text
