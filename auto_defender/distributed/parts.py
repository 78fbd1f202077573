"""The files by which the steps of a run exchange data, below state/batches/RUN_ID/ in the store.

manifest.json: the batches, one item per batch
begun.json.gz: the first step's result; BATCH.json.gz: a batch's; BATCH.failed.json: why a batch has none
ending.json: the last step's result, which it returns again when it is called again
Like functions.csv they contain facts and verdicts, no secrets. The last step deletes all but the ending; what lies there
for a week, it deletes too, whichever run it is of.
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import orjson
import pandas as pd

from auto_defender.distributed.frames import packed, unpacked
from auto_defender.job_result import JobResult
from auto_defender.observation import Observation
from remediator.execution.apply import ApplyResult
from remediator.execution.results import COLUMNS as CHANGE_COLUMNS
from remediator.execution.results import changes_frame
from remediator.state.store import started_at
from reports.data.run_result import Mode
from scanner.core.errors import BadInput, GuardStop
from scanner.organization.accounts import COLUMNS as ACCOUNT_COLUMNS
from storage.protocol import Store

_JSON, _GZIP = "application/json", "application/gzip"
_FOLDER = "state/batches/"
# As long as the lifecycle rule of stacksets/central.yaml keeps them.
_KEPT = timedelta(days=7)


@dataclass(frozen=True)
class StepUsage:
    """The duration of a step's stages, in seconds, and its calls by service and operation."""

    stages: Mapping[str, float]
    calls: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class StartedRun:
    """The first step's result.

    version: of the code that wrote it. batches: account ids by batch. config_digest: of the configuration at the start.
    """

    version: str
    mode: Mode
    config_digest: str
    accounts: pd.DataFrame
    batches: Mapping[str, list[str]]
    resolved: ApplyResult
    usage: StepUsage

    def accounts_of(self, batch: str) -> pd.DataFrame:
        """Return a batch's accounts."""
        if batch not in self.batches:
            raise BadInput(f"the run has no batch '{batch}'")
        return self.accounts[self.accounts["account_id"].isin(self.batches[batch])]


@dataclass(frozen=True)
class BatchResult:
    """A batch's result."""

    observed: Observation
    usage: StepUsage


@dataclass(frozen=True)
class OtherVersion:
    """A batch's result by another version of the code, whose checks and columns may be others."""

    version: str


@dataclass(frozen=True)
class BatchFailure:
    """Why a batch has no result: the error's class and message."""

    error: str
    detail: str


class Parts:
    """The files of one run between its steps."""

    def __init__(self, store: Store, run_id: str, version: str) -> None:
        """Take the store, the run's id and the version of the code that runs."""
        self._store = store
        self._run_id = run_id
        self._version = version
        self._folder = f"{_FOLDER}{run_id}"

    def write_started(self, started: StartedRun) -> None:
        """Write the first step's result."""
        stopped = started.resolved.stopped_by
        self._write(
            "begun.json.gz",
            {
                "version": started.version,
                "mode": started.mode,
                "config_digest": started.config_digest,
                "accounts": packed(started.accounts),
                "batches": started.batches,
                "resolved": packed(started.resolved.changes),
                "stopped_by": [stopped.guard, stopped.why, stopped.how_to_go_on] if stopped else None,
                "cut_short": started.resolved.cut_short,
                "work": started.usage,
            },
        )

    def write_manifest(self, batches: Iterable[str]) -> str:
        """Write the manifest of the batches; return its address."""
        items = [{"job": "batch", "run_id": self._run_id, "batch": batch} for batch in batches]
        self._store.write(f"{self._folder}/manifest.json", orjson.dumps(items), _JSON)
        return self._store.url(f"{self._folder}/manifest.json")

    def started(self) -> StartedRun:
        """Read the first step's result, whichever version of the code wrote it.

        Raise BadInput where no such run is under way, or where this version can't use that result.
        """
        if (started := self.started_before()) is None:
            raise BadInput(f"no run {self._run_id} is under way in {self._store.url(self._folder)}")
        return started

    def started_before(self) -> StartedRun | None:
        """Read the first step's result as `started` does; None where it has none yet."""
        data = self._read("begun.json.gz")
        if data is None:
            return None
        try:
            return _started(data)
        except (KeyError, TypeError, ValueError):
            if data.get("version") == self._version:
                raise
            raise BadInput(
                f"run {self._run_id} was begun by version {data.get('version')}, whose result version {self._version} "
                "can't use; the run changes nothing more, and the next one starts from the beginning"
            ) from None

    def resolved(self) -> ApplyResult:
        """Read what the first step resolved; nothing where there is no such result, or this version can't use it."""
        try:
            return _resolved(self._read("begun.json.gz") or {})
        except (KeyError, TypeError, ValueError):
            return ApplyResult(changes_frame(()), None)

    def write_part(self, batch: str, part: BatchResult) -> None:
        """Write a batch's result, without its accounts: the first step has written those."""
        units, functions = packed(part.observed.units), packed(part.observed.functions)
        data = {"units": units, "functions": functions, "work": part.usage}
        more = {"version": self._version, "whole_scope": part.observed.whole_scope}
        self._write(f"{batch}.json.gz", {**data, **more})

    def part(self, batch: str, accounts: pd.DataFrame) -> BatchResult | OtherVersion | None:
        """Read a batch's result; None where it did not finish, OtherVersion where this version can't use it."""
        data = self._read(f"{batch}.json.gz")
        if data is None:
            return None
        if data.get("version") != self._version:
            return OtherVersion(str(data.get("version")))
        units, functions = unpacked(data["units"]), unpacked(data["functions"])
        observed = Observation(accounts, units, functions, data["whole_scope"])
        return BatchResult(observed, StepUsage(**data["work"]))

    def write_failed(self, batch: str, failed: BatchFailure) -> None:
        """Write why a batch has no result."""
        self._store.write(f"{self._folder}/{batch}.failed.json", orjson.dumps(failed), _JSON)

    def failed(self, batch: str) -> BatchFailure | None:
        """Read why a batch has no result; None where it could not be written."""
        text = self._store.read(f"{self._folder}/{batch}.failed.json")
        return None if text is None else BatchFailure(**orjson.loads(text))

    def write_ending(self, result: JobResult) -> None:
        """Write the last step's result."""
        self._store.write(self._ending, json.dumps(asdict(result)).encode(), _JSON)

    def ending(self) -> JobResult | None:
        """Read the last step's result; None where it has not ended."""
        text = self._store.read(self._ending)
        return None if text is None else JobResult(**json.loads(text))

    def clear(self) -> None:
        """Delete the run's files but its ending, and all files of runs that began more than a week before it."""
        # Run ids sort by their start.
        oldest = f"{_FOLDER}{started_at(self._run_id) - _KEPT:%Y%m%dT%H%M%SZ}"
        for path in self._store.list(_FOLDER):
            if path < oldest or (path.startswith(f"{self._folder}/") and path != self._ending):
                self._store.delete(path)

    @property
    def _ending(self) -> str:
        return f"{self._folder}/ending.json"

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
        self._store.write(f"{self._folder}/{name}", gzip.compress(text, compresslevel=5), _GZIP)

    def _read(self, name: str) -> Any:
        text = self._store.read(f"{self._folder}/{name}")
        return None if text is None else orjson.loads(gzip.decompress(text))


def _started(data: Mapping[str, Any]) -> StartedRun:
    """Raise KeyError, TypeError or ValueError for what another version of the code has written differently."""
    return StartedRun(
        version=data["version"],
        mode=data["mode"],
        config_digest=data["config_digest"],
        accounts=_with_columns(unpacked(data["accounts"]), ACCOUNT_COLUMNS),
        batches=data["batches"],
        resolved=_resolved(data),
        usage=StepUsage(**data["work"]),
    )


def _resolved(data: Mapping[str, Any]) -> ApplyResult:
    """Raise KeyError, TypeError or ValueError, as _started does."""
    stopped = GuardStop(*data["stopped_by"]) if data["stopped_by"] else None
    return ApplyResult(_with_columns(unpacked(data["resolved"]), CHANGE_COLUMNS), stopped, data["cut_short"])


def _with_columns(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return the frame; raise ValueError where its columns are not these."""
    if list(frame.columns) != list(columns):
        raise ValueError(f"columns {list(frame.columns)}")
    return frame
