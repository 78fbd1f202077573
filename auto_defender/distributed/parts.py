"""The files by which the steps of a run exchange data, below state/batches/RUN_ID/ in the store.

manifest.json: the batches, one item per batch, the input of {"job": "batch"}
begun.json.gz: the first step's result; BATCH.json.gz: a batch's; BATCH.failed.json: why a batch has none
Like functions.csv they contain facts and verdicts, no secrets. The last step deletes them.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd

from auto_defender.distributed.frames import packed, unpacked
from auto_defender.observation import Observation
from remediator.execution.apply import ApplyResult
from reports.data.run_result import Mode
from scanner.core.errors import BadInput, GuardStop
from storage.protocol import Store

_JSON, _GZIP = "application/json", "application/gzip"


@dataclass(frozen=True)
class StepUsage:
    """The duration of a step's stages, in seconds, and its calls by service and operation."""

    stages: Mapping[str, float]
    calls: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class StartedRun:
    """The first step's result. batches: account ids by batch. config_digest: of the configuration at the start."""

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
class BatchFailure:
    """Why a batch has no result: the error's class and message."""

    error: str
    detail: str


class Parts:
    """The files of one run between its steps."""

    def __init__(self, store: Store, run_id: str) -> None:
        """Take the store and the run's id."""
        self._store = store
        self._run_id = run_id
        self._folder = f"state/batches/{run_id}"

    def write_started(self, started: StartedRun) -> str:
        """Write the first step's result and the manifest of the batches; return the manifest's address."""
        stopped = started.resolved.stopped_by
        self._write(
            "begun.json.gz",
            {
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
        items = [{"job": "batch", "run_id": self._run_id, "batch": batch} for batch in started.batches]
        self._store.write(f"{self._folder}/manifest.json", orjson.dumps(items), _JSON)
        return self._store.url(f"{self._folder}/manifest.json")

    def started(self) -> StartedRun:
        """Read the first step's result; raise BadInput where no such run is under way."""
        data = self._read("begun.json.gz")
        if data is None:
            raise BadInput(f"no run {self._run_id} is under way in {self._store.url(self._folder)}")
        stopped = GuardStop(*data["stopped_by"]) if data["stopped_by"] else None
        return StartedRun(
            mode=data["mode"],
            config_digest=data["config_digest"],
            accounts=unpacked(data["accounts"]),
            batches=data["batches"],
            resolved=ApplyResult(unpacked(data["resolved"]), stopped, data["cut_short"]),
            usage=StepUsage(**data["work"]),
        )

    def write_part(self, batch: str, part: BatchResult) -> None:
        """Write a batch's result, without its accounts: the first step has written those."""
        units, functions = packed(part.observed.units), packed(part.observed.functions)
        data = {"units": units, "functions": functions, "work": part.usage}
        self._write(f"{batch}.json.gz", {**data, "whole_scope": part.observed.whole_scope})

    def part(self, batch: str, accounts: pd.DataFrame) -> BatchResult | None:
        """Read a batch's result; None where it did not finish."""
        data = self._read(f"{batch}.json.gz")
        if data is None:
            return None
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

    def clear(self) -> None:
        """Delete all of them."""
        for path in self._store.list(f"{self._folder}/"):
            self._store.delete(path)

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
        self._store.write(f"{self._folder}/{name}", gzip.compress(text, compresslevel=5), _GZIP)

    def _read(self, name: str) -> Any:
        text = self._store.read(f"{self._folder}/{name}")
        return None if text is None else orjson.loads(gzip.decompress(text))
