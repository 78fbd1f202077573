"""The quarantine: functions that were rolled back and are left alone until someone takes them out."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from remediator.state import QUARANTINE, Store, load, save


@dataclass(frozen=True)
class Quarantined:
    """One function: since when (ISO 8601, UTC), by which run, why."""

    function_arn: str
    since: str
    run_id: str
    reason: str


def quarantined(store: Store) -> tuple[Quarantined, ...]:
    """Read state/quarantine.json; empty where there is none yet, BadInput where it is malformed."""
    return load(store, QUARANTINE, tuple[Quarantined, ...], ())


def put_in_quarantine(
    store: Store, function_arns: Iterable[str], *, run_id: str, now: datetime, reason: str
) -> None:
    """Add functions; one that is there already keeps its entry. The caller holds the lock."""
    present = quarantined(store)
    known: Mapping[str, Quarantined] = {entry.function_arn: entry for entry in present}
    new = (
        Quarantined(arn, now.isoformat(timespec="seconds"), run_id, reason)
        for arn in sorted(set(function_arns) - known.keys())
    )
    save(store, QUARANTINE, [asdict(entry) for entry in (*present, *new)])
