"""The journals of all runs, read back. They may have been edited since: what can't be ours is refused and reported.

A segment that can't be read as one costs itself, an entry that names what is not ours costs itself; the rest counts.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter

from remediator.change.records import Action, Intent, Outcome, OutcomeRecord
from remediator.journal.journal import (
    FOLDER,
    LINES,
    Basis,
    Entry,
    Fact,
    Journal,
    Line,
    Written,
    ended,
    fact_of,
    open_runs,
)
from remediator.journal.validation import refusal
from remediator.state.fields import checked_moment
from remediator.state.fold import fold
from remediator.state.order import (
    NEVER,
    UNMARKED,
    Event,
    Mark,
    Order,
    folded_term,
    save_folded_term,
    terms_since,
)
from remediator.state.store import started_at
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import BadInput
from scanner.settings import DefenderSettings
from storage.protocol import Store
from storage.segments import read_segments, segment_number

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # the ids of a run and of its entry
_LINES: Mapping[str, TypeAdapter[Line]] = {name: TypeAdapter(kind) for name, kind in LINES.items()}


@dataclass
class Run:
    """What one run's segments have given so far. segments: the last one's number. mark: of the newest one."""

    run_id: str
    segments: int = 0
    mark: Mark = NEVER
    basis: Basis | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Return whether it has an open entry."""
        return any(entry.outcome is None for entry in self.entries.values())


@dataclass(frozen=True)
class _Segment:
    """A segment's lines, each with its moment. mark: UNMARKED for one of an earlier release."""

    mark: Mark
    lines: Sequence[tuple[Line, datetime]]


class Journals:
    """Reads journals, and opens those that a process writes; folds what is written into the state files.

    refused: a line for each segment and entry that was refused, in the order they were met.
    """

    def __init__(self, store: Store, defender: DefenderSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        """Take the store, and the settings that say which layers and wrappers are ours."""
        self.store = store
        self.clock = clock
        self._defender = defender
        self._order = Order(store)
        self._opened: dict[str, Journal] = {}
        # Terms that the state files know, and that there are; None before the first fold.
        self._term: int | None = None
        self._newest = 0
        self.refused: list[str] = []

    def open(self, run_id: str, basis: Basis | None = None, *, marked: bool = False) -> Journal:
        """Return a run's journal with what it has already, to be written on. The run must have ended, or be this one.

        basis: of the changes that are to be made; None for the one that the journal has. marked: whether state/open/
        names it.
        """
        if run_id not in self._opened:
            run = next(self._read([f"{FOLDER}/{run_id}/"]), Run(run_id))
            written = Written(run.segments, run.basis, tuple(run.entries.values()), run.events)
            self._order.add(run_id)
            self._opened[run_id] = Journal(self.store, run_id, self._order, written, clock=self.clock)
        journal = self._opened[run_id]
        if basis:
            journal.count_under(basis)
        if marked:
            journal.mark_open()
        return journal

    def exists(self, run_id: str) -> bool:
        """Return whether a run has a journal: whether it has changed anything."""
        return run_id in self.store.folders(f"{FOLDER}/{run_id}")

    def unfolded_runs(self) -> list[str]:
        """Return the runs whose journals may have lines that the state files do not know, oldest first."""
        terms = terms_since(self.store, folded_term(self.store))
        return sorted({*open_runs(self.store), *(run_id for term in terms for run_id in term.runs)})

    def record(self, run_id: str, facts: Sequence[Fact]) -> None:
        """Write facts to a run's journal and fold them into the state files. The caller holds the lock."""
        journal = self.open(run_id)
        journal.record(facts)
        self.fold()
        journal.close()

    def fold(self) -> None:
        """Fold all that journals have into the state files, of earlier runs first. The caller holds the lock.

        Raises BadInput where a state file can't be used, StoreFailed where one can't be read or written.
        """
        earlier, limit = self._open_unfolded(), self._order.limit()
        events = {
            journal: [event for event in journal.unfolded if event.mark < limit]
            for journal in self._opened.values()
        }
        newest = max(self._newest, self._order.term)
        fold(self.store, [event for of_journal in events.values() for event in of_journal], newest)
        self._save_term(max((event.mark.term for of_one in events.values() for event in of_one), default=0))
        for journal, of_journal in events.items():
            journal.folded(of_journal)
        for journal in earlier:
            journal.close()

    def _open_unfolded(self) -> list[Journal]:
        """Open, once, the journals that earlier runs have not folded, and return them: no fold may go past them."""
        if self._term is not None:
            return []
        known = folded_term(self.store)
        terms, marked = terms_since(self.store, known), set(open_runs(self.store))
        runs = sorted({*marked, *(run_id for term in terms for run_id in term.runs)} - self._opened.keys())
        opened = [self.open(run_id, marked=run_id in marked) for run_id in runs]
        self._term = known
        self._newest = max((term.number for term in terms), default=known)
        return opened

    def _save_term(self, term: int) -> None:
        newest = max(term, self._newest)
        if newest > (self._term or 0):
            save_folded_term(self.store, newest)
            self._term = newest

    def history(self, since: date | None = None) -> list[Entry]:
        """Return the entries of all runs that started on a day (UTC) or later, oldest first, with what undid them.

        since: None for all.
        """
        return _entries(list(self._read([f"{FOLDER}/"] if since is None else self._days_since(since))))

    def of_runs(self, run_ids: Collection[str]) -> list[Entry]:
        """Return the entries of some runs, oldest first, with what of these undid them."""
        return _entries(list(self._read(f"{FOLDER}/{run_id}/" for run_id in sorted(run_ids))))

    def all_runs(self) -> list[Run]:
        """Return all runs with their entries and events, by id."""
        return list(self._read([f"{FOLDER}/"]))

    def _read(self, prefixes: Iterable[str]) -> Iterator[Run]:
        """Yield the runs below the prefixes."""
        segments = read_segments(self.store, prefixes)
        for folder, group in groupby(segments, key=lambda segment: segment[0].rpartition("/")[0]):
            if folder == FOLDER:
                continue
            run = Run(folder.removeprefix(f"{FOLDER}/"))
            for path, lines in group:
                # By its name, for one before it may be lost: entries' ids begin with this number.
                run.segments = max(run.segments + 1, segment_number(path))
                self._add(run, path, lines)
            yield run

    def _add(self, run: Run, path: str, lines: bytes) -> None:
        """Add a segment to its run, or refuse all of it."""
        try:
            started_at(run.run_id)
            segment = _parsed(lines)
        except (BadInput, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
            self.refuse(f"{self.store.url(path)}: not a segment of a journal")
            return
        events = len(run.events)
        for line, at in segment.lines:
            if why := self._add_line(run, line, at, segment.mark):
                self.refuse(f"{self.store.url(path)}: {why}")
        if segment.mark.term < run.mark.term:
            # Its writer had lost the lock, and a later holder had written here: the state files do without it.
            del run.events[events:]
        run.mark = max(run.mark, segment.mark)

    def _add_line(self, run: Run, line: Line, at: datetime, mark: Mark) -> str:
        """Add a line to its run, or return why it is refused: nothing that was written can be replaced."""
        if isinstance(line, Basis):
            run.basis = run.basis or line
            return ""
        if isinstance(line, Intent | OutcomeRecord):
            why, fact = self._add_record(run, line, at, mark)
        else:
            why, fact = "", fact_of(line, run.basis)
        if fact:
            run.events.append(Event(mark, at.isoformat(timespec="milliseconds"), run.run_id, fact))
        return f"entry {line.id} {why}" if why and isinstance(line, Intent | OutcomeRecord) else why

    def _add_record(
        self, run: Run, record: Intent | OutcomeRecord, at: datetime, mark: Mark
    ) -> tuple[str, object]:
        """Add a line about an entry; return why it is refused, and what it says anew, if anything."""
        entry = run.entries.get(record.id)
        if isinstance(record, OutcomeRecord):
            if entry and entry.outcome:
                return ("" if entry.outcome == record else "has another outcome already"), None
            if entry:
                run.entries[record.id] = replace(entry, outcome=record, ended=at)
                return "", ended(entry.intent, record, run.basis)
            return "", None
        if entry:
            return "is there already", None
        if why := refusal(record, run.run_id, self._defender):
            return why, None
        run.entries[record.id] = Entry(record, None, None, at, None, mark)
        return "", record

    def _days_since(self, first: date) -> list[str]:
        """Return the prefixes of the folders of runs that started on a day or later; a clock may be a day ahead."""
        days = range((self.clock.now().date() - first).days + 2)
        return [f"{FOLDER}/{first + timedelta(day):%Y%m%d}" for day in days]

    def refuse(self, problem: str) -> None:
        """Report, once, what of the journals counts for nothing."""
        if problem not in self.refused:
            log.error("refused: %s; what was changed then is not known in full", problem)
            self.refused.append(problem)


def _parsed(lines: bytes) -> _Segment:
    """Return a segment; raise one of many errors for what is none."""
    mark, parsed = UNMARKED, []
    for number, line in enumerate(lines.splitlines()):
        data = json.loads(line)
        event = data.pop("event")
        if event == "segment" and number == 0:
            mark = Mark(_positive(data["term"]), _positive(data["number"]))
            continue
        parsed.append(
            (
                _LINES[event].validate_python(data),
                datetime.fromisoformat(checked_moment(data["at"])).astimezone(UTC),
            )
        )
    return _Segment(mark, parsed)


def _positive(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("no number of a segment")
    return value


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """Return runs' entries in the order of their segments, with what undid them."""
    ordered = sorted((entry for run in runs for entry in run.entries.values()), key=lambda entry: entry.mark)
    undone = _undone({(entry.intent.run_id, entry.intent.id): entry for entry in ordered})
    return [replace(entry, undone_by=undone.get((entry.intent.run_id, entry.intent.id))) for entry in ordered]


def _undone(entries: Mapping[_Key, Entry]) -> dict[_Key, str]:
    """Return which run has removed which entry: a rollback names what it removes, a removal takes all that was there.

    entries: oldest first.
    """
    undone: dict[_Key, str] = {}
    earlier: defaultdict[str, list[_Key]] = defaultdict(list)
    for key, entry in entries.items():
        run_id, arn = entry.intent.run_id, entry.intent.function_arn
        if _ended_as(entry, "remove", "changed"):
            undone |= dict.fromkeys(earlier.pop(arn, ()), run_id)
        elif _ended_as(entry, "rollback", "rolled_back"):
            undone |= {
                of: run_id
                for of in entry.intent.undoes
                if of in entries and entries[of].intent.function_arn == arn
            }
        elif entry.in_effect:
            earlier[arn].append(key)
    return undone


def _ended_as(entry: Entry, action: Action, outcome: Outcome) -> bool:
    return entry.intent.action == action and entry.outcome is not None and entry.outcome.outcome == outcome
