"""A run's journal: each change's intent before it is sent, and its outcome afterwards. One JSON line each, no secrets.

journals/RUN_ID/00001.jsonl, 00002.jsonl, …: segments, each created once. Lines, by `event`:
  basis    at, release, config_digest: what the run's changes are made and counted under; before its first intent
  intent   id, at, run_id, action, account_id, region, function_name, function_arn, family, revision_id, delta,
           layers_before, wrapper_before ("" absent), wave; that of a removal or a rollback has untag and deltas (all that
           it removes; `delta` is the first), and a rollback's has `undoes`: [[run_id, id], ...]
  outcome  id, at, outcome, detail, attempts, left (true: not made, and all or a part of it is on the function),
           revision_id (the function's after a change that failed and was removed again, "" otherwise)

An entry without an outcome is open: the run was killed, or its time ended, before the change was settled, or what AWS could
not carry out could not be removed yet. While a run's journal may have open entries, or outcomes that are not counted in the
derived state, state/open/RUN_ID.json says so.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from remediator.change.records import Intent, OutcomeRecord
from remediator.journal.store import is_run_id
from scanner.core.clock import SYSTEM_CLOCK, Clock
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
        return not self.intent.removes and made and self.undone_by is None


@dataclass(frozen=True)
class Basis:
    """What a run's changes are made and counted under: digests of what is attached, and of the configuration."""

    release: str
    config_digest: str


class Journal:
    """One run's journal, to be written; any thread may. Lines that belong together are written in one append."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        entries: Sequence[Entry] = (),
        segments: int = 0,
        basis: Basis | None = None,
        *,
        marked: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Take what the journal has already: its entries, how many segments, and whether state/open/ names it.

        basis: written before the first intent; None for a journal that only removes changes, or of release 0.1.
        The run must have ended, or be this one. Nothing is written before the first intent.
        """
        self.run_id = run_id
        self.clock = clock
        # No two processes that write on one journal give their intents the same ids.
        self.prefix = str(segments)
        self._store = store
        self._segments = Segments(store, f"{FOLDER}/{run_id}", segments)
        self.basis = basis
        self._announced = False
        self._marked = marked or bool(entries)
        self._entries = {entry.intent.id: entry for entry in entries}

    @property
    def entries(self) -> Sequence[Entry]:
        """Return what the journal has, of earlier processes and of this one; nothing that is not durable."""
        return tuple(self._entries.values())

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Write intents; on return they are durable, and the changes may be sent."""
        if not intents:
            return
        basis = []
        if not self._announced:
            self._store.write(_open_marker(self.run_id), b"{}\n", JSON)
            self._announced = self._marked = True
            basis = [("basis", vars(self.basis))] if self.basis else []
        at = self._append([*basis, *(("intent", vars(intent)) for intent in intents)])
        self._entries |= {intent.id: Entry(intent, None, None, at, None) for intent in intents}

    def record_outcomes(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Write outcomes."""
        if not outcomes:
            return
        at = self._append([("outcome", vars(outcome)) for outcome in outcomes])
        for outcome in outcomes:
            if entry := self._entries.get(outcome.id):
                self._entries[outcome.id] = replace(entry, outcome=outcome, ended=at)

    def close(self) -> None:
        """Delete the marker if no entry is open; otherwise the next run resolves what is. The outcomes are counted."""
        if not self._marked or any(entry.outcome is None for entry in self._entries.values()):
            return
        try:
            self._store.delete(_open_marker(self.run_id))
        except AutoDefenderError as error:
            log.warning("the journal of run %s stays open for the next run: %s", self.run_id, error)

    def _append(self, lines: Sequence[tuple[str, Mapping[str, object]]]) -> datetime:
        """Write lines, each an event and its fields, and return the moment that they have."""
        at = self.clock.now()
        stamp = at.isoformat(timespec="milliseconds")
        self._segments.append(
            b"".join(orjson.dumps({"event": event, "at": stamp, **record}) + b"\n" for event, record in lines)
        )
        return datetime.fromisoformat(stamp)


def _open_marker(run_id: str) -> str:
    return f"{_OPEN}{run_id}.json"


def open_runs(store: Store) -> list[str]:
    """Return the ids of the runs whose journals may have open entries, oldest first. Other files there are ignored."""
    names = (path.removeprefix(_OPEN) for path in store.list(_OPEN))
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and is_run_id(name[:-5])]
