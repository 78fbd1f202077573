"""The journals of all runs, read back. They may have been edited since: what can't be ours is refused and reported.

A segment that can't be read as one costs itself, an entry that names what is not ours costs itself; the rest counts.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter

from remediator.change.records import Action, Intent, Outcome, OutcomeRecord
from remediator.journal.journal import FOLDER, Basis, Entry, Journal
from remediator.journal.store import started_at
from remediator.journal.validation import refusal
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import BadInput
from scanner.settings import DefenderSettings
from storage.protocol import Store
from storage.segments import read_segments

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # the ids of a run and of its entry
_Record = Basis | Intent | OutcomeRecord
_RECORDS: Mapping[str, TypeAdapter[Any]] = {
    "basis": TypeAdapter(Basis),
    "intent": TypeAdapter(Intent),
    "outcome": TypeAdapter(OutcomeRecord),
}


@dataclass
class _Run:
    """What one run's segments have given so far."""

    run_id: str
    segments: int = 0
    basis: Basis | None = None
    entries: dict[str, Entry] = field(default_factory=dict)


class Journals:
    """Reads journals. refused: a line for each segment and entry that was refused, in the order they were met."""

    def __init__(self, store: Store, defender: DefenderSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        """Take the store, and the settings that say which layers and wrappers are ours."""
        self.store = store
        self.clock = clock
        self._defender = defender
        self.refused: list[str] = []

    def open(self, run_id: str, basis: Basis | None = None, *, marked: bool = False) -> Journal:
        """Return a run's journal with what it has already, to be written on. The run must have ended, or be this one.

        basis: of the changes that are to be made; None for the one that the journal has. marked: whether state/open/
        names it.
        """
        runs = list(self._read([f"{FOLDER}/{run_id}/"]))
        entries = [entry for run in runs for entry in run.entries.values()]
        known = basis or next((run.basis for run in runs), None)
        segments = sum(run.segments for run in runs)
        return Journal(self.store, run_id, entries, segments, known, marked=marked, clock=self.clock)

    def exists(self, run_id: str) -> bool:
        """Return whether a run has a journal: whether it has changed anything."""
        return run_id in self.store.folders(f"{FOLDER}/{run_id}")

    def history(self, since: date | None = None) -> list[Entry]:
        """Return the entries of all runs that started on a day (UTC) or later, oldest run first, with what undid them.

        since: None for all.
        """
        runs = list(self._read([f"{FOLDER}/"] if since is None else self._days_since(since)))
        undone = _undone(runs)
        return [
            replace(entry, undone_by=undone.get((run.run_id, entry.intent.id)))
            for run in runs
            for entry in run.entries.values()
        ]

    def _read(self, prefixes: Iterable[str]) -> Iterator[_Run]:
        """Yield the runs below the prefixes."""
        segments = read_segments(self.store, prefixes)
        for folder, group in groupby(segments, key=lambda segment: segment[0].rpartition("/")[0]):
            run = _Run(folder.removeprefix(f"{FOLDER}/"))
            for path, lines in group:
                run.segments += 1
                self._add(run, path, lines)
            yield run

    def _add(self, run: _Run, path: str, lines: bytes) -> None:
        """Add a segment to its run, or refuse all of it."""
        try:
            started_at(run.run_id)
            parsed = [_parsed(line) for line in lines.splitlines()]
        except (BadInput, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
            self._refuse(f"{self.store.url(path)}: not a segment of a journal")
            return
        for record, at in parsed:
            if isinstance(record, Basis):
                run.basis = run.basis or record
            elif why := self._add_record(run, record, at):
                self._refuse(f"{self.store.url(path)}: entry {record.id} {why}")

    def _add_record(self, run: _Run, record: Intent | OutcomeRecord, at: datetime) -> str:
        """Add a line to its run, or return why it is refused: nothing that was written can be replaced."""
        entry = run.entries.get(record.id)
        if isinstance(record, OutcomeRecord):
            if entry and entry.outcome:
                return "" if entry.outcome == record else "has another outcome already"
            if entry:
                run.entries[record.id] = replace(entry, outcome=record, ended=at)
            return ""
        if entry:
            return "is there already"
        if why := refusal(record, run.run_id, self._defender):
            return why
        run.entries[record.id] = Entry(record, None, None, at, None)
        return ""

    def _days_since(self, first: date) -> list[str]:
        """Return the prefixes of the folders of runs that started on a day or later; a clock may be a day ahead."""
        days = range((self.clock.now().date() - first).days + 2)
        return [f"{FOLDER}/{first + timedelta(day):%Y%m%d}" for day in days]

    def _refuse(self, problem: str) -> None:
        if problem not in self.refused:
            log.error("refused: %s; what that run changed is not known in full", problem)
            self.refused.append(problem)


def _parsed(line: bytes) -> tuple[_Record, datetime]:
    """Return a line's record and when it was written; raise one of many errors for what is no line of a journal."""
    data = json.loads(line)
    record: _Record = _RECORDS[data.pop("event")].validate_python(data)
    return record, datetime.fromisoformat(data["at"]).astimezone(UTC)


def _undone(runs: Sequence[_Run]) -> dict[_Key, str]:
    """Return which run has removed which entry: a rollback names what it removes, a removal takes all that was there."""
    undone: dict[_Key, str] = {}
    earlier: defaultdict[str, list[_Key]] = defaultdict(list)
    entries = {(run.run_id, entry.intent.id): entry for run in runs for entry in run.entries.values()}
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
