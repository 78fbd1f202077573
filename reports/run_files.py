"""Writes a run's files to the store and its tables, each as it is made, then publishes `latest`."""

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from remediator.state.store import run_folder, started_at
from reports.data import columns
from reports.data.coverage import by_account
from reports.data.functions_table import functions_table
from reports.data.read_back import POINTER, read_csv, read_latest, read_summary
from reports.data.run_result import Mode, RunResult
from reports.data.summary import Previous, summarize
from reports.latest import advance_latest, copy_latest
from reports.render import html
from reports.render.csv import GZIP_ABOVE, csv_file
from storage.protocol import Store, StoreFailed

log = logging.getLogger(__name__)

# stacksets/athena.yaml reads them.
TABLES = "tables"
_CONTENT_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}
# A file of the run is missing: as for an error that ends a run.
_MISSING_FILES = StoreFailed.exit_code


def begin_run(store: Store, run_id: str, mode: Mode) -> None:
    """Write run.json, the first file of a run that may change functions. Raise StoreFailed: nothing may begin then.

    A run whose changes could not be reported must not make any.
    """
    document = {"run_id": run_id, "mode": mode, "started": f"{started_at(run_id):%Y-%m-%dT%H:%M:%SZ}"}
    store.upload(f"{run_folder(run_id)}/run.json", [_json(document)], _CONTENT_TYPES[".json"])


def write_run(store: Store, result: RunResult, *, gzip_above: int = GZIP_ABOVE) -> dict[str, Any]:
    """Write every file of a run and return its summary.

    A file that can't be made or written costs no other file: the summary lists it with the reason (`files_missing`), and
    its exit code is at least 1. `latest` is published for a complete run over the whole scope, and not for a rollback.
    gzip_above: bytes of a CSV file's text above which it is zipped.
    """
    files, warnings = _RunFiles(store, result, gzip_above), list[str]()
    accounts = cache(lambda: by_account(result.accounts, result.units, result.functions))
    functions = cache(lambda: functions_table(result.functions, result.accounts, result.partition))
    previous = _previous(store, result.run_id, warnings) if _swept(result) else None
    if not result.whole_scope:
        _warn(warnings, "latest stays as it was: this run ended before it had asked every account and region")
    files.write_csv("changes", lambda: result.changes, columns.CHANGES)
    if (plan := result.plan_json) is not None:
        files.write("plan.json", lambda: plan)
        files.write("rollout.json", lambda: _json(result.rollout.as_dict(), indent=1))
    files.write_csv("units", lambda: result.units, columns.UNITS)
    files.write_csv("accounts", accounts, columns.ACCOUNTS)
    files.write_csv("functions", functions, columns.FUNCTIONS)
    summary = summarize(result, previous) | {"files": files.written, "files_missing": files.missing}
    summary |= {"warnings": warnings, "trigger": result.trigger, "whole_scope": result.whole_scope}
    summary["notice"] = result.rollout.notice_counts()
    files.write(
        "report.html", lambda: html.render_run(result, summary, accounts(), functions(), previous).encode()
    )
    summary["files"] = dict(files.written)  # the others: without summary.json itself
    files.write_summary(summary)
    if _swept(result) and result.whole_scope and not files.missing:
        _publish(store, summary, files, result.ended)
    return summary


def _swept(result: RunResult) -> bool:
    return result.mode != "rollback" and not result.units.empty


def _previous(store: Store, run_id: str, warnings: list[str]) -> Previous | None:
    """Return the previous run; None, with a warning, where it can't be read: the report is written without it."""
    try:
        return read_previous(store, run_id)
    except (StoreFailed, ValueError) as error:
        _warn(warnings, f"the report is not compared with the previous run, which can't be read: {error}")
        return None


def read_previous(store: Store, run_id: str) -> Previous | None:
    """Read the summary and the units of the newest complete run; None where there is none that began before this one.

    Raise ValueError if one is broken.
    """
    newest = read_latest(store)
    if newest is None or newest >= run_id:
        return None
    folder = run_folder(newest)
    summary = read_summary(store, folder)
    units = read_csv(store, folder, "units", list(columns.UNITS))
    return None if summary is None or units is None else Previous(summary, units)


def _publish(store: Store, summary: dict[str, Any], files: "_RunFiles", ended: datetime) -> None:
    """Publish this run as `latest`, unless a newer one is. What went wrong is added to summary.json.

    Old copies in latest/ are a warning: readers have latest.json.
    """
    warnings: list[str] = summary["warnings"]
    before = len(warnings)
    with files.reported(POINTER):
        named = advance_latest(store, summary, ended)
        if named != summary["run_id"]:
            _warn(warnings, f"latest stays with run {named}, which is newer")
        else:
            _copy(store, warnings)
    if files.missing or len(warnings) > before:
        files.write_summary(summary)


def _copy(store: Store, warnings: list[str]) -> None:
    try:
        copy_latest(store)
    except (StoreFailed, ValueError) as error:
        _warn(warnings, f"latest/ may have files of an earlier run: {error}")


def _warn(warnings: list[str], text: str) -> None:
    log.warning("%s", text)
    warnings.append(text)


def _json(document: Mapping[str, Any], indent: int = 2) -> bytes:
    return json.dumps(document, indent=indent, ensure_ascii=True).encode() + b"\n"


class _RunFiles:
    """A run's files: those written, with their size and SHA-256, and those missing, with the reason."""

    def __init__(self, store: Store, result: RunResult, gzip_above: int) -> None:
        self.written: dict[str, dict[str, Any]] = {}
        self.missing: dict[str, str] = {}
        self._store = store
        self._result = result
        self._gzip_above = gzip_above
        self._present: frozenset[str] | None = None  # the files of this run before this writing

    def write(self, name: str, make: Callable[[], bytes]) -> None:
        """Make a file and write it."""
        with self.reported(name):
            self._upload(name, [make()])

    def write_csv(
        self, name: str, make: Callable[[], pd.DataFrame], columns_of_file: tuple[str, ...]
    ) -> None:
        """Write a table as CSV, in blocks of rows, and add it to its table in Athena."""
        with self.reported(f"{name}.csv"):
            file, chunks = csv_file(make(), columns_of_file, name, self._limit_of(name))
            path, run_id = self._upload(file, chunks), self._result.run_id
            table = f"{TABLES}/{name}/dt={started_at(run_id):%Y-%m-%d}/{run_id}/{file}"
            with self.reported(table):
                self._store.add_to_table(path, table)

    @contextmanager
    def reported(self, name: str) -> Iterator[None]:
        """Turn an error into the reason why a file is missing."""
        try:
            yield
        except StoreFailed as error:
            log.error("%s is missing: %s", name, error)  # noqa: TRY400 - one clear line, no traceback
            self.missing[name] = str(error)
        except Exception as error:
            log.exception("%s could not be made", name)
            self.missing[name] = f"internal error: {type(error).__name__}; please report it with the log"

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json, with the exit code that missing files mean."""
        self._count_in(summary)
        self.write("summary.json", lambda: _json(summary))
        self._count_in(summary)  # where summary.json itself is missing

    def _count_in(self, summary: dict[str, Any]) -> None:
        if self.missing:
            summary["exit_code"] = max(summary["exit_code"], _MISSING_FILES)

    def _limit_of(self, name: str) -> int:
        """Return the bytes above which a table is zipped. A run that is written a second time keeps the form of its files.

        Both forms of one table would be read twice in Athena; and the run may delete nothing.
        """
        if self._present is None:
            self._present = frozenset(self._store.list(f"{self._result.folder}/"))
        path = f"{self._result.folder}/{name}.csv"
        if f"{path}.gz" in self._present:
            return 0
        return sys.maxsize if path in self._present else self._gzip_above

    def _upload(self, name: str, chunks: Iterable[bytes]) -> str:
        path, counted = f"{self._result.folder}/{name}", _Counted(chunks)
        self._store.upload(path, counted, _CONTENT_TYPES[PurePosixPath(name).suffix])
        self.written[name] = counted.described()
        return path


class _Counted:
    """A file's chunks on their way to the store; counts what passes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._bytes = 0
        self._sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._bytes += len(chunk)
            self._sha256.update(chunk)
            yield chunk

    def described(self) -> dict[str, Any]:
        """Return what summary.json has of a file."""
        return {"bytes": self._bytes, "sha256": self._sha256.hexdigest()}
