"""The quarantine: functions that were rolled back and are left alone until someone takes them out."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from remediator.journal.store import QUARANTINE, load, save
from storage.protocol import Store


@dataclass(frozen=True)
class Quarantined:
    """One function: since when (ISO 8601, UTC), by which run, why; regressed: the health watch rolled it back."""

    function_arn: str
    since: str
    run_id: str
    reason: str
    regressed: bool = False


def quarantined(store: Store) -> tuple[Quarantined, ...]:
    """Read state/quarantine.json; empty where there is none yet, BadInput where it is malformed."""
    return load(store, QUARANTINE, tuple[Quarantined, ...], ())


def put_in_quarantine(store: Store, entries: Iterable[Quarantined]) -> None:
    """Add functions; one that is there already keeps its entry. The caller holds the lock."""
    present = quarantined(store)
    known = {entry.function_arn for entry in present}
    new = sorted(
        (entry for entry in entries if entry.function_arn not in known), key=lambda entry: entry.function_arn
    )
    save(store, QUARANTINE, [asdict(entry) for entry in (*present, *new)])


def take_out_of_quarantine(store: Store, entries: Iterable[Quarantined]) -> None:
    """Remove exactly these entries; a function that another entry put there stays. The caller holds the lock."""
    leaving = set(entries)
    if leaving:
        save(store, QUARANTINE, [asdict(entry) for entry in quarantined(store) if entry not in leaving])
