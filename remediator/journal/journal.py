"""A run's journal: each change's intent before it is sent, and its outcome afterwards. One JSON line each, no secrets.

journals/RUN_ID/00001.jsonl, 00002.jsonl, …: segments, each created once. Lines, by `event`:
  intent   id, at, run_id, action, account_id, region, function_name, function_arn, family, revision_id, delta,
           layers_before, wrapper_before ("" absent), wave; a rollback's has `undoes`: [[run_id, id], ...], untag, and
           deltas (all that it removes, newest first; `delta` is the newest)
  outcome  id, at, outcome, detail, attempts, left (true: not made, and all or a part of it is on the function)

An entry without an outcome is open: the run was killed, or its time ended, before the change was settled. While a
run's journal may have open entries, state/open/RUN_ID.json says so.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from remediator.change.records import Intent, OutcomeRecord
from scanner.core.errors import AutoDefenderError
from storage.protocol import JSON, Store
from storage.segments import Segments

log = logging.getLogger(__name__)

FOLDER = "journals"
_OPEN = "state/open/"


@dataclass(frozen=True)
class Entry:
    """An intent and its outcome, None while it is open.

    undone_by: the run that has removed the change, None where none has, or where later journals were not read.
    begun, ended: when intent and outcome were written; the update took effect in between.
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
    """One run's journal, to be written; any thread may. Lines that belong together are written in one append."""

    def __init__(self, store: Store, run_id: str, entries: Sequence[Entry] = (), segments: int = 0) -> None:
        """Take what the journal has already: its entries, and the number of its last segment.

        The run must have ended, or be this one. Nothing is written before the first intent.
        """
        self.run_id = run_id
        self.entries = entries
        # No two processes that write on one journal give their intents the same ids.
        self.prefix = str(segments)
        self._store = store
        self._segments = Segments(store, f"{FOLDER}/{run_id}", segments)
        self._announced = False
        self._open = {entry.intent.id for entry in entries if entry.outcome is None}

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Write intents; on return they are durable, and the changes may be sent."""
        if not intents:
            return
        if not self._announced:
            self._store.write(_open_marker(self.run_id), b"{}\n", JSON)
            self._announced = True
        self._open.update(intent.id for intent in intents)
        self._append("intent", [vars(intent) for intent in intents])

    def record_outcomes(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Write outcomes."""
        self._append("outcome", [vars(outcome) for outcome in outcomes])
        self._open.difference_update(outcome.id for outcome in outcomes)

    def close(self) -> None:
        """Delete the marker if no entry is open; otherwise the next run resolves what is."""
        if self._open:
            return
        try:
            self._store.delete(_open_marker(self.run_id))
        except AutoDefenderError as error:
            log.warning("the journal of run %s stays open for the next run: %s", self.run_id, error)

    def _append(self, event: str, records: Sequence[Mapping[str, object]]) -> None:
        if not records:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [orjson.dumps({"event": event, "at": at, **record}) + b"\n" for record in records]
        self._segments.append(b"".join(lines))


def _open_marker(run_id: str) -> str:
    return f"{_OPEN}{run_id}.json"


def open_runs(store: Store) -> list[str]:
    """Return the ids of the runs whose journals may have open entries, oldest first."""
    return [path.removeprefix(_OPEN).removesuffix(".json") for path in store.list(_OPEN)]
