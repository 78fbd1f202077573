"""Writes a run's files: to a local folder, then to the store and its tables, then publishes `latest`."""

import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from remediator.journal.store import started_at
from reports.data import columns
from reports.data.coverage import by_account
from reports.data.functions_table import functions_table
from reports.data.read_back import read_csv, read_summary
from reports.data.run_result import RunResult
from reports.data.summary import Previous, summarize
from reports.render import csv as csv_files
from reports.render import html
from storage.protocol import Store, StoreFailed

log = logging.getLogger(__name__)

LATEST = "latest"
# stacksets/athena.yaml reads them.
TABLES = "tables"
_SUMMARY = "summary.json"
_CONTENT_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}


def write_run(store: Store, result: RunResult) -> dict[str, Any]:
    """Write every file of a run and return its summary.

    `latest` is published only after all files are uploaded, and only for a run that swept (not for a rollback).
    Raise StoreFailed, which names the local folder where the files remain.
    """
    previous = _previous(store) if _swept(result) else None
    staging = Path(tempfile.mkdtemp(prefix=f"auto-defender-{result.run_id}-"))
    summary = _stage(result, previous, staging)
    try:
        for path in _summary_last(staging):
            with path.open("rb") as file:
                store.upload(f"{result.folder}/{path.name}", file, _CONTENT_TYPES[path.suffix])
        for path in staging.glob("*.csv*"):
            store.add_to_table(f"{result.folder}/{path.name}", _table_path(result, path.name))
        if _swept(result):
            _publish(store, result.folder)
    except StoreFailed as error:
        raise StoreFailed(f"{error}; the run's files are kept in {staging}") from error
    shutil.rmtree(staging)
    return summary


def _previous(store: Store) -> Previous | None:
    """Return the previous run; None, with a warning, where it can't be read: the report is written without it."""
    try:
        return read_previous(store)
    except (StoreFailed, ValueError) as error:
        log.warning("the report is not compared with the previous run, which can't be read: %s", error)
        return None


def read_previous(store: Store) -> Previous | None:
    """Read the newest complete run's summary and units, or None before the first run. Raise ValueError if one is broken."""
    summary = read_summary(store, LATEST)
    if summary is None:
        return None
    units = read_csv(store, LATEST, "units", list(columns.UNITS))
    return None if units is None else Previous(summary, units)


def _swept(result: RunResult) -> bool:
    return result.mode != "rollback" and not result.units.empty


def _stage(result: RunResult, previous: Previous | None, folder: Path) -> dict[str, Any]:
    """Write all files into a local folder, summary.json last: it lists the others."""
    summary = summarize(result, previous)
    accounts = by_account(result.accounts, result.units, result.functions)
    functions = functions_table(result.functions, result.accounts, result.partition)
    csv_files.write_csv(functions, columns.FUNCTIONS, folder, "functions")
    csv_files.write_csv(accounts, columns.ACCOUNTS, folder, "accounts")
    csv_files.write_csv(result.units, columns.UNITS, folder, "units")
    csv_files.write_csv(result.changes, columns.CHANGES, folder, "changes")
    if result.plan_json is not None:
        (folder / "plan.json").write_bytes(result.plan_json)
        rollout = json.dumps(result.rollout.as_dict(), indent=1, ensure_ascii=True)
        (folder / "rollout.json").write_text(rollout + "\n", encoding="utf-8")
    summary["files"] = _checksums(folder)
    report = html.render_run(result, summary, accounts, functions, previous)
    (folder / "report.html").write_text(report, encoding="utf-8")
    summary["files"] = _checksums(folder)
    (folder / _SUMMARY).write_text(json.dumps(summary, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
    return summary


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: _checksum(path) for path in sorted(folder.iterdir())}


def _checksum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _table_path(result: RunResult, name: str) -> str:
    """Return a CSV file's path in its table, which is partitioned by the day of the run."""
    table = name.partition(".")[0]
    return f"{TABLES}/{table}/dt={started_at(result.run_id):%Y-%m-%d}/{result.run_id}/{name}"


def _summary_last(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: (path.name == _SUMMARY, path.name))


def _publish(store: Store, folder: str) -> None:
    """Publish this run as `latest`: all files of its folder, summary.json last."""
    names = {path.removeprefix(f"{folder}/") for path in store.list(f"{folder}/")} - {_SUMMARY}
    store.publish(folder, LATEST, [*sorted(names), _SUMMARY])
