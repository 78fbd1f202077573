"""The journal: each change's intent before it is sent, and its outcome afterwards. One JSON line each, no secrets.

Lines, by `event`:
  intent   id, at, run_id, action, account_id, region, function_name, function_arn, family, revision_id, delta,
           layers_before, wrapper_before ("" absent), wave; a rollback's has `undoes`: [[run_id, id], ...], and untag
  outcome  id, at, outcome, detail, attempts, left (true: failed, and still on the function)
  undone   id, at, by: a later run has removed this change

An entry without an outcome is open: the run was killed, or its time ended, before the change was settled. While a
run's journal may have open entries, state/open/RUN_ID.json says so.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from remediator.change.records import Intent, OutcomeRecord
from remediator.journal.store import run_folder
from scanner.core.errors import AutoDefenderError, BadInput
from storage.protocol import Store

log = logging.getLogger(__name__)

_OPEN = "state/open/"


@dataclass(frozen=True)
class Entry:
    """An intent and its outcome, None while it is open.

    begun, ended: when the two were written; the update took effect in between.
    """

    intent: Intent
    outcome: OutcomeRecord | None
    undone_by: str | None
    begun: datetime
    ended: datetime | None

    @property
    def in_effect(self) -> bool:
        """Return whether the change may be on the function: made and not rolled back, or of unknown outcome."""
        made = self.outcome is None or self.outcome.outcome == "changed" or self.outcome.left
        return self.intent.action != "rollback" and made and self.undone_by is None


class Journal:
    """One run's journal; any thread may write. Lines that belong together are written in one append."""

    def __init__(self, store: Store, run_id: str) -> None:
        """Take the store and the run; nothing is written before the first intent."""
        self.run_id = run_id
        self._store = store
        self._path = f"{run_folder(run_id)}/journal.jsonl"
        self._announced = False
        self._resumed = False
        self._open: set[str] = set()

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Write intents; on return they are durable, and the changes may be sent."""
        if not intents:
            return
        if not self._announced:
            self._store.write(_open_marker(self.run_id), b"{}\n", "application/json")
            self._announced = True
        self._open.update(intent.id for intent in intents)
        self._append("intent", [vars(intent) for intent in intents])

    def record_outcomes(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Write outcomes."""
        self._append("outcome", [vars(outcome) for outcome in outcomes])
        self._open.difference_update(outcome.id for outcome in outcomes)

    def record_undone(self, ids: Iterable[str], by: str) -> None:
        """Write that a later run has removed these changes."""
        self._append("undone", [{"id": identity, "by": by} for identity in ids])

    def close(self) -> None:
        """Delete the marker if no entry is open; otherwise the next run resolves what is.

        The marker stays where `resume` was not called: it is not known what an earlier process left open.
        """
        if self._open or not self._resumed:
            return
        try:
            self._store.delete(_open_marker(self.run_id))
        except AutoDefenderError as error:
            log.warning("the journal of run %s stays open for the next run: %s", self.run_id, error)

    def entries(self) -> list[Entry]:
        """Read all entries, in the order of their intents.

        A last line that was cut off by the kill is left out: its change was never sent. Raises
        BadInput for any other line that is not a line of a journal.
        """
        return _entries(self._whole_lines()[0], self._store.url(self._path))

    def resume(self) -> list[Entry]:
        """Return the entries of a journal that is written on: a killed run's, or this run's own after its health rollback.

        The run must have ended, or be this one. `close` then knows what is open; a last line that was cut off is
        removed, so that lines can follow. Raises what `entries` raises.
        """
        lines, cut = self._whole_lines()
        if cut:
            log.warning("%s: its last line was cut off, and is removed", self._store.url(self._path))
            self._store.write(self._path, b"".join(lines), "application/x-ndjson")
        entries = _entries(lines, self._store.url(self._path))
        self._open.update(entry.intent.id for entry in entries if entry.outcome is None)
        self._resumed = True
        return entries

    def _whole_lines(self) -> tuple[list[bytes], bool]:
        lines = (self._store.read(self._path) or b"").splitlines(keepends=True)
        cut = bool(lines) and not lines[-1].endswith(b"\n")
        return (lines[:-1] if cut else lines), cut

    def _append(self, event: str, records: Sequence[Mapping[str, object]]) -> None:
        if not records:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [orjson.dumps({"event": event, "at": at, **record}) for record in records]
        self._store.append(self._path, b"\n".join(lines) + b"\n")


def _open_marker(run_id: str) -> str:
    return f"{_OPEN}{run_id}.json"


def record_undone(store: Store, rollback: Intent) -> None:
    """Mark the changes that a rollback has removed, each in the journal of its run."""
    for run_id in dict(rollback.undoes):
        ids = [intent_id for run, intent_id in rollback.undoes if run == run_id]
        Journal(store, run_id).record_undone(ids, by=rollback.run_id)


def open_runs(store: Store) -> list[str]:
    """Return the ids of the runs whose journals may have open entries, oldest first."""
    return [path.removeprefix(_OPEN).removesuffix(".json") for path in store.list(_OPEN)]


def runs_with_journal(store: Store) -> list[str]:
    """Return the ids of all runs that have changed anything, oldest first."""
    paths = store.list("runs/")
    return sorted(path.split("/")[-2] for path in paths if path.endswith("/journal.jsonl"))


def runs_since(store: Store, moment: datetime) -> list[str]:
    """Return the ids of the runs with a journal that may have changed something since a moment (UTC), oldest first."""
    # A run changes things for hours at most after its start, which names its folder.
    days = range((datetime.now(UTC).date() - moment.date()).days + 2)
    first = moment.date() - timedelta(days=1)
    paths = [path for day in days for path in store.list(f"runs/{first + timedelta(day):%Y/%m/%d}/")]
    return sorted(path.split("/")[-2] for path in paths if path.endswith("/journal.jsonl"))


_EVENT: TypeAdapter[Literal["intent", "outcome", "undone"]] = TypeAdapter(
    Literal["intent", "outcome", "undone"]
)
_INTENT: TypeAdapter[Intent] = TypeAdapter(Intent)
_SETTLED: TypeAdapter[OutcomeRecord] = TypeAdapter(OutcomeRecord)


def _entries(lines: Sequence[bytes], source: str) -> list[Entry]:
    intents: dict[str, Intent] = {}
    settled: dict[str, OutcomeRecord] = {}
    undone: dict[str, str] = {}
    begun: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            event = _EVENT.validate_python(record.pop("event"))
            if event == "intent":
                intents[record["id"]] = _INTENT.validate_python(record)
                begun[record["id"]] = datetime.fromisoformat(record["at"])
            elif event == "outcome":
                settled[record["id"]] = _SETTLED.validate_python(record)
                ended[record["id"]] = datetime.fromisoformat(record["at"])
            else:
                undone[record["id"]] = record["by"]
        except (ValueError, ValidationError, KeyError, AttributeError, TypeError, RecursionError):
            raise BadInput(
                f"{source}, line {number}: not a line of a journal; put back what was there, or move the file out of "
                "runs/: then what that run changed is no longer watched, and rollback does not know of it"
            ) from None
    return [
        Entry(intent, settled.get(key), undone.get(key), begun[key], ended.get(key))
        for key, intent in intents.items()
    ]
