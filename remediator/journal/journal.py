"""A run's journal: all that outlives the run, written before it is used. One JSON line each, no secrets.

journals/RUN_ID/00001.jsonl, 00002.jsonl, …: segments, each created once. Lines, by `event`:
  segment  term, number: the segment's mark (remediator/state/order.py); its first line
  basis    at, release, config_digest: what the run's changes are made and counted under; before its first intent
  intent   id, at, run_id, action, account_id, region, function_name, function_arn, family, revision_id, delta,
           layers_before, wrapper_before ("" absent), wave; that of a removal or a rollback has untag and deltas (all that
           it removes; `delta` is the first), and a rollback's has `undoes`: [[run_id, id], ...]
  outcome  id, at, outcome, detail, attempts, left (true: not made, and all or a part of it is on the function),
           revision_id (the function's after a change that failed and was removed again, "" otherwise)
and, each with `at`, the fields of a class: result (Result), retry (Retried), seen (Seen), record (Taken), all in
functions.py; wave (WaveObserved, wave_states.py); quarantine (Quarantined) and release (Released), quarantine.py.

An entry without an outcome is open: the run was killed, or its time ended, before the change was settled, or what AWS
could not carry out could not be removed yet. While a run's journal may have open entries, or lines that are not folded
into the state files, state/open/RUN_ID.json says so.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from remediator.change.records import Intent, OutcomeRecord
from remediator.state.functions import Ended, Result, Retried, Seen, Taken
from remediator.state.order import Event, Mark, Order
from remediator.state.quarantine import Quarantined, Released
from remediator.state.store import OPEN, is_run_id
from remediator.state.wave_states import WaveObserved
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import AutoDefenderError
from storage.protocol import JSON, Store
from storage.segments import Segments

log = logging.getLogger(__name__)

FOLDER = "journals"
Fact = Result | Retried | Seen | Taken | WaveObserved | Quarantined | Released


@dataclass(frozen=True)
class Entry:
    """An intent and its outcome, None while it is open.

    undone_by: the run that has removed the change, None where none has, or where later journals were not read.
    begun, ended: when intent and outcome were written; the update took effect in between. mark: the intent's.
    """

    intent: Intent
    outcome: OutcomeRecord | None
    undone_by: str | None
    begun: datetime
    ended: datetime | None
    mark: Mark

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


Line = Basis | Intent | OutcomeRecord | Fact
LINES: Mapping[str, type[Line]] = {
    "basis": Basis,
    "intent": Intent,
    "outcome": OutcomeRecord,
    "result": Result,
    "retry": Retried,
    "seen": Seen,
    "record": Taken,
    "wave": WaveObserved,
    "quarantine": Quarantined,
    "release": Released,
}
_NAMES = {kind: name for name, kind in LINES.items()}


def ended(intent: Intent, outcome: OutcomeRecord, basis: Basis | None) -> Ended:
    """Return how an entry ended."""
    return Ended(
        intent.function_arn,
        intent.action,
        outcome.outcome,
        outcome.detail,
        intent.revision_id,
        outcome.revision_id or ("" if outcome.left else intent.revision_id),
        intent.wave,
        basis.release if basis else "",
        basis.config_digest if basis else "",
        installs=intent.delta.installs,
    )


def fact_of(line: Fact, basis: Basis | None) -> object:
    """Return what a line says that is no entry's."""
    if not isinstance(line, Result):
        return line
    return Ended(
        line.function_arn,
        line.action,
        line.outcome,
        line.detail,
        line.revision_id,
        line.revision_id,
        line.wave,
        basis.release if basis else "",
        basis.config_digest if basis else "",
        lasting=line.lasting,
    )


@dataclass
class Written:
    """What a journal has already: its entries, its events, the number of its last segment, its basis."""

    segments: int = 0
    basis: Basis | None = None
    entries: Sequence[Entry] = ()
    events: Sequence[Event] = ()


class Journal:
    """One run's journal, to be written; any thread may. Lines that belong together are written in one append."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        order: Order,
        written: Written | None = None,
        *,
        marked: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Take what the journal has already, and whether state/open/ names it.

        order: gives the segments their marks. The run must have ended, or be this one. Nothing is written before the
        first line.
        """
        written = written or Written()
        self.run_id = run_id
        self._clock = clock
        self._store = store
        self._order = order
        self._segments = Segments(store, f"{FOLDER}/{run_id}", written.segments)
        self._basis, self._basis_written = written.basis, written.basis is not None
        self._announced = False
        self._marked = marked
        self._entries = {entry.intent.id: entry for entry in written.entries}
        self._adding = threading.Lock()
        self._unfolded = list(written.events)

    @property
    def prefix(self) -> str:
        """Return what the ids of the next intents begin with: no two processes give intents the same ids."""
        return str(self._segments.last)

    @property
    def entries(self) -> Sequence[Entry]:
        """Return what the journal has, of earlier processes and of this one; nothing that is not durable."""
        return tuple(self._entries.values())

    @property
    def unfolded(self) -> Sequence[Event]:
        """Return the events that may not be in the state files yet."""
        with self._adding:
            return tuple(self._unfolded)

    def count_under(self, basis: Basis) -> None:
        """Count what follows under a basis, where the journal has none yet."""
        self._basis = self._basis or basis

    def mark_open(self) -> None:
        """Take that state/open/ names the journal."""
        self._marked = True

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Write intents; on return they are durable, and the changes may be sent."""
        if not intents:
            return
        mark, at = self._append(intents)
        self._entries |= {intent.id: Entry(intent, None, None, at, None, mark) for intent in intents}
        self._add(mark, at, intents)

    def record_outcomes(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Write outcomes."""
        if not outcomes:
            return
        mark, at = self._append(outcomes)
        known = [(outcome, self._entries[outcome.id]) for outcome in outcomes if outcome.id in self._entries]
        for outcome, entry in known:
            self._entries[outcome.id] = replace(entry, outcome=outcome, ended=at)
        self._add(mark, at, [ended(entry.intent, outcome, self._basis) for outcome, entry in known])

    def record(self, facts: Sequence[Fact]) -> None:
        """Write what else outlives the run; on return it is durable."""
        if not facts:
            return
        mark, at = self._append(facts)
        self._add(mark, at, [fact_of(fact, self._basis) for fact in facts])

    def folded(self, events: Sequence[Event]) -> None:
        """Take which events are in the state files now."""
        done = set(map(id, events))
        with self._adding:
            self._unfolded = [event for event in self._unfolded if id(event) not in done]

    def close(self) -> None:
        """Delete the marker if no entry is open and all is folded; otherwise the next run goes on from there.

        A segment may still be on its way: no thread is waited for once the run's time is up.
        """
        if self._order.is_writing or self._unfolded or any(one.outcome is None for one in self.entries):
            if not self._marked:
                self._announce()
            return
        if not self._marked:
            return
        try:
            self._store.delete(open_marker(self.run_id))
        except AutoDefenderError as error:
            log.warning("the journal of run %s stays open for the next run: %s", self.run_id, error)
        else:
            self._announced = self._marked = False

    def _announce(self) -> None:
        self._store.write(open_marker(self.run_id), MARKER, JSON)
        self._announced = self._marked = True

    def _append(self, lines: Sequence[Line]) -> tuple[Mark, datetime]:
        """Write lines, and return their mark and the moment that they have."""
        if not self._announced:
            self._announce()
        if self._basis and not self._basis_written:
            lines = [self._basis, *lines]
        at = self._clock.now()
        stamp = at.isoformat(timespec="milliseconds")
        mark = self._order.next(self.run_id)
        head = {"event": "segment", **mark._asdict()}
        body = [head, *({"event": _NAMES[type(line)], "at": stamp, **vars(line)} for line in lines)]
        self._segments.append(b"".join(orjson.dumps(line) + b"\n" for line in body))
        self._basis_written = self._basis is not None
        return mark, datetime.fromisoformat(stamp)

    def _add(self, mark: Mark, at: datetime, facts: Sequence[object]) -> None:
        stamp = at.isoformat(timespec="milliseconds")
        with self._adding:
            self._unfolded += [Event(mark, stamp, self.run_id, fact) for fact in facts]
        self._order.written(mark)


MARKER = b"{}\n"


def open_marker(run_id: str) -> str:
    """Return the path of the file that says that a run's journal is open."""
    return f"{OPEN}{run_id}.json"


def open_runs(store: Store) -> list[str]:
    """Return the ids of the runs whose journals may be open, oldest first. Other files there are ignored."""
    names = (path.removeprefix(OPEN) for path in store.list(OPEN))
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and is_run_id(name[:-5])]
