"""The journal: what is about to be done, before; what became of it, after. One JSON line each, no secrets.

Lines, by `event`:
  intent   id, at, run_id, action, account_id, region, function_name, function_arn, family, revision_id, delta,
           layers_before, wrapper_before ("" absent), wave; a rollback's has `undoes`: [[run_id, id], ...], and untag
  outcome  id, at, outcome, detail, attempts, left (true: failed, and still on the function)
  undone   id, at, by: a later run has taken this change back

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

from remediator.change.delta import Delta
from remediator.journal.store import Store, run_folder
from scanner.core.errors import AutoDefenderError, BadInput
from scanner.settings import Family

log = logging.getLogger(__name__)

Action = Literal["protect", "repair", "upgrade", "rollback"]
Outcome = Literal["planned", "changed", "deferred", "dropped", "failed", "rolled_back"]
_OPEN = "state/open/"


@dataclass(frozen=True)
class Intent:
    """One change that is about to be sent. `delta` is what it puts in, or for a rollback what it takes out."""

    id: str
    run_id: str
    action: Action
    account_id: str
    region: str
    function_name: str
    function_arn: str
    family: Family
    revision_id: str
    delta: Delta
    layers_before: tuple[str, ...]
    wrapper_before: str
    undoes: tuple[tuple[str, str], ...] = ()
    untag: bool = False
    wave: str = ""


@dataclass(frozen=True)
class OutcomeRecord:
    """What became of an intent. `left`: it failed, and what was put in could not be taken out again."""

    id: str
    outcome: Outcome
    detail: str
    attempts: int
    left: bool = False


@dataclass(frozen=True)
class Entry:
    """An intent with what is known of it since; `settled` is None while it is open.

    begun, ended: when the intent and its outcome were written; the update took effect between the two.
    """

    intent: Intent
    settled: OutcomeRecord | None
    undone_by: str | None
    begun: datetime
    ended: datetime | None

    @property
    def stands(self) -> bool:
        """Tell whether the change may be on the function: made and not taken back, or never found out."""
        made = self.settled is None or self.settled.outcome == "changed" or self.settled.left
        return self.intent.action != "rollback" and made and self.undone_by is None


class Journal:
    """One run's journal; any thread may write. Lines that belong together are written in one append."""

    def __init__(self, store: Store, run_id: str) -> None:
        """Take where it is kept and whose it is; nothing is written before the first intent."""
        self.run_id = run_id
        self._store = store
        self._path = f"{run_folder(run_id)}/journal.jsonl"
        self._announced = False
        self._looked = False
        self._open: set[str] = set()

    def intend(self, intents: Sequence[Intent]) -> None:
        """Write intents; on return they are durable, and the changes may be sent."""
        if not intents:
            return
        if not self._announced:
            self._store.write(_open_marker(self.run_id), b"{}\n", "application/json")
            self._announced = True
        self._open.update(intent.id for intent in intents)
        self._append("intent", [vars(intent) for intent in intents])

    def settle(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Write outcomes."""
        self._append("outcome", [vars(outcome) for outcome in outcomes])
        self._open.difference_update(outcome.id for outcome in outcomes)

    def undone(self, ids: Iterable[str], by: str) -> None:
        """Write that a later run has taken these changes back."""
        self._append("undone", [{"id": identity, "by": by} for identity in ids])

    def close(self) -> None:
        """Take the marker away if no entry is open; otherwise the next run looks into what is.

        One that has not looked what was left open before knows nothing, and leaves all as it is.
        """
        if self._open or not self._looked:
            return
        try:
            self._store.delete(_open_marker(self.run_id))
        except AutoDefenderError as error:
            log.warning("the journal of run %s stays open for the next run: %s", self.run_id, error)

    def entries(self) -> list[Entry]:
        """Read all entries, in the order of their intents.

        A last line that was cut off by the kill is left out: what it was to announce was never sent. Raises
        BadInput for any other line that can't be understood.
        """
        return _entries(self._whole_lines()[0], self._store.url(self._path))

    def take_up(self) -> list[Entry]:
        """Read what is there: of a run that was killed, or of this one's rollback of what regressed.

        For a run that writes; the run whose journal it is must have ended, or be this one. `close` then knows what is
        open, and a line that was cut off goes, so that lines can follow. Raises what `entries` raises.
        """
        lines, cut = self._whole_lines()
        if cut:
            log.warning("%s: its last line was cut off, and goes", self._store.url(self._path))
            self._store.write(self._path, b"".join(lines), "application/x-ndjson")
        entries = _entries(lines, self._store.url(self._path))
        self._open.update(entry.intent.id for entry in entries if entry.settled is None)
        self._looked = True
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


def open_runs(store: Store) -> list[str]:
    """Give the ids of the runs whose journals may have open entries, oldest first."""
    return [path.removeprefix(_OPEN).removesuffix(".json") for path in store.list(_OPEN)]


def runs_with_journal(store: Store) -> list[str]:
    """Give the ids of all runs that have changed anything, oldest first."""
    paths = store.list("runs/")
    return sorted(path.split("/")[-2] for path in paths if path.endswith("/journal.jsonl"))


def runs_since(store: Store, moment: datetime) -> list[str]:
    """Give the ids of the runs with a journal that may have changed something since a moment (UTC), oldest first."""
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
