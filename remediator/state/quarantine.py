"""The quarantine: functions that were rolled back and are left alone until someone takes them out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import model_validator
from pydantic.dataclasses import dataclass as validated_dataclass

from remediator.state.fields import Arn, DayOrNone, Moment
from remediator.state.functions import Seen, is_forgotten
from remediator.state.order import NEVER, Event, Mark
from remediator.state.store import QUARANTINE, load
from storage.protocol import Store

FORMAT = 2


@dataclass(frozen=True)
class Quarantined:
    """One function: since when (ISO 8601, UTC), by which run, why; regressed: the health watch rolled it back.

    gone: the day since which no sweep shows it, "" where one does. release, wave: where it counts as regressed, "" nowhere.
    """

    function_arn: Arn
    since: Moment
    run_id: str
    reason: str
    regressed: bool = False
    gone: DayOrNone = ""
    release: str = ""
    wave: str = ""


@dataclass(frozen=True)
class Released:
    """Exactly this entry was taken out; a function that another entry put there stays."""

    entry: Quarantined


@validated_dataclass(frozen=True)
class QuarantineFile:
    """The content of state/quarantine.json. mark: of the last segment that has changed it."""

    format: int
    mark: Mark
    functions: tuple[Quarantined, ...]

    @model_validator(mode="before")
    @classmethod
    def _of_release_0_1(cls, content: object) -> object:
        """Take what release 0.1 wrote: the list of functions."""
        former = {"format": 1, "mark": NEVER, "functions": content}
        return former if isinstance(content, list) else content


EMPTY = QuarantineFile(FORMAT, NEVER, ())


def read_quarantine(store: Store) -> QuarantineFile:
    """Return the file; BadInput where it is malformed, or of a newer format."""
    return load(store, QUARANTINE, QuarantineFile, EMPTY, FORMAT)


def quarantined(store: Store) -> tuple[Quarantined, ...]:
    """Read state/quarantine.json; empty where there is none yet, BadInput where it is malformed."""
    return read_quarantine(store).functions


def fold_quarantine(before: QuarantineFile, events: Iterable[Event]) -> QuarantineFile:
    """Return the file after events, in their order; those that it has already are skipped."""
    known, mark = {entry.function_arn: entry for entry in before.functions}, before.mark
    for event in events:
        if event.mark > before.mark and _is_about(event.fact, known):
            for arn in [arn for arn, entry in known.items() if is_forgotten(entry.gone, event.at)]:
                del known[arn]
            _fold(known, event)
            mark = event.mark
    return replace(before, format=FORMAT, mark=mark, functions=tuple(known.values()))


def _is_about(fact: object, known: Iterable[str]) -> bool:
    if isinstance(fact, Seen):
        return not set(known).isdisjoint((*fact.gone, *fact.back))
    return isinstance(fact, Quarantined | Released)


def _fold(known: dict[str, Quarantined], event: Event) -> None:
    fact = event.fact
    if isinstance(fact, Quarantined):
        known.setdefault(fact.function_arn, replace(fact, gone=""))
    elif isinstance(fact, Released):
        present = known.get(fact.entry.function_arn)
        if present and replace(present, gone="") == replace(fact.entry, gone=""):
            del known[fact.entry.function_arn]
    elif isinstance(fact, Seen):
        for arns, gone in ((fact.gone, event.at[:10]), (fact.back, "")):
            for arn in known.keys() & set(arns):
                known[arn] = replace(known[arn], gone=gone)
