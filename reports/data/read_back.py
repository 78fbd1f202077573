"""Reads files of earlier runs. They may have been edited since: an invalid one raises ValueError."""

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import AfterValidator, AwareDatetime, BaseModel, ValidationError, model_validator

from remediator.state.store import run_folder
from scanner.core.errors import BadInput
from storage.protocol import Store

# The copies of the newest complete run's files, and the one file that says which run that is.
LATEST = "latest"
POINTER = "latest.json"
POINTER_FORMAT = 1


def _run_id(text: str) -> str:
    try:
        run_folder(text)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return text


_RunId = Annotated[str, AfterValidator(_run_id)]


class _Share(BaseModel):
    covered: int
    total: int
    assumed_unread: int
    pct: float | None
    worst_pct: float | None
    best_pct: float | None


class _Shares(BaseModel):
    of_all: _Share
    of_coverable: _Share


class _Effective(BaseModel):
    on_latest: _Share
    where_traffic_goes: _Share
    left_behind: int
    unknown: int


class _OptOut(BaseModel):
    expires: date | None


class _TagsUnread(BaseModel):
    functions: int = 0


class _Summary(BaseModel):
    """The keys of a run's summary.json that reports read; docs/schema.md has all."""

    run_id: _RunId
    mode: str
    started: AwareDatetime
    ended: AwareDatetime
    units_expected: int
    units_read: int
    units_unread: int
    tags_unread: _TagsUnread = _TagsUnread()  # runs of earlier versions have none
    functions: int
    protected: int
    eligible: int
    skipped: int
    excluded: int
    changed: int
    failed: int
    stopped_by: str | None
    coverage: _Shares
    effective_coverage: _Effective | None = None  # not measured, or by an earlier version
    changes_by_outcome: dict[str, int]
    optouts: list[_OptOut]
    trigger: str | None = (
        None  # runs of earlier versions have none, and do not say whether they asked every unit
    )
    whole_scope: bool = True


class _WeekEnd(BaseModel):
    coverage: _Shares


class _MeasuredLast(BaseModel):
    end: _Effective


class _Weekly(BaseModel):
    """The keys of an earlier week's summary.json that the trend reads."""

    end: _WeekEnd
    effective_coverage: _MeasuredLast | None = None  # as in a run's


class _Pointer(BaseModel):
    """The keys of latest.json that lead to the run; its folder is never taken from elsewhere."""

    format: Literal[1]
    run_id: _RunId
    folder: str

    @model_validator(mode="after")
    def _own_folder(self) -> Self:
        if self.folder != run_folder(self.run_id):
            raise ValueError(f"the folder of run {self.run_id} is {run_folder(self.run_id)}")
        return self


def read_latest(store: Store) -> str | None:
    """Return the id of the newest complete run, None before the first. Raise ValueError, in one line, if it can't be read.

    A release before latest.json has left only latest/summary.json.
    """
    body = store.read(POINTER)
    return newest_of_older_release(store) if body is None else newest_run(store, body)


def newest_run(store: Store, body: bytes) -> str:
    """Return the run that latest.json names; errors as in read_latest(). body: its bytes."""
    return str(_parsed(store, POINTER, body, _Pointer)["run_id"])


def newest_of_older_release(store: Store) -> str | None:
    """Return the run whose files are in latest/, None where there are none; errors as in read_latest()."""
    summary = read_summary(store, LATEST)
    return None if summary is None else str(summary["run_id"])


def read_summary(store: Store, folder: str) -> Mapping[str, Any] | None:
    """Read a run's summary.json; None if there is none. Raise ValueError, in one line, if it is invalid."""
    return _read(store, f"{folder}/summary.json", _Summary)


def read_weekly(store: Store, week: str) -> Mapping[str, Any] | None:
    """Read a week's summary.json; None and errors as in read_summary()."""
    return _read(store, f"weekly/{week}/summary.json", _Weekly)


def read_csv(store: Store, folder: str, name: str, columns: list[str] | None = None) -> pd.DataFrame | None:
    """Read one of a run's CSV files, plain or gzipped; None if the run has none. No text is parsed as a number.

    columns: those to read, None for all. Raise ValueError, in one line, for a file that is broken or lacks a column.
    """
    # An account id is text: it may have leading zeros. 'NA' and the like are names, not missing values.
    text = {"account_id": "str", "account_name": "str", "ou_path": "str"}
    try:
        body = store.read(f"{folder}/{name}.csv")
        if body is None:
            packed = store.read(f"{folder}/{name}.csv.gz")
            if packed is None:
                return None
            body = gzip.decompress(packed)
        return pd.read_csv(io.BytesIO(body), dtype=text, keep_default_na=False, usecols=columns)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{store.url(folder)}: {name}.csv is broken: {str(error).strip()}") from error


def _read(store: Store, path: str, shape: type[BaseModel]) -> Mapping[str, Any] | None:
    body = store.read(path)
    return None if body is None else _parsed(store, path, body, shape)


def _parsed(store: Store, path: str, body: bytes, shape: type[BaseModel]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(body)
        shape.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise ValueError(f"{store.url(path)} is broken: {place}{first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{store.url(path)} is broken: {error}") from error
    return found
