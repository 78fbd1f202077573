"""After the changes: what came of them is counted in the derived state, for each function and for the waves."""

from collections.abc import Iterable

from remediator.change.records import Change, ChangeRow, Intent
from remediator.journal.functions import Ended, count, ended_entry
from remediator.journal.journal import Basis, Journal
from remediator.rollout.waves import count_changes
from storage.protocol import Store


def count_results(store: Store, journal: Journal, basis: Basis, rows: Iterable[ChangeRow] = ()) -> None:
    """Count what a run's journal says; and rows of changes that were not sent, which are not in it.

    Nothing is counted twice, so that the next run can repeat what a killed one has counted in part.
    """
    now = journal.clock.now().isoformat(timespec="milliseconds")
    entries = map(ended_entry, journal.entries)
    ended = [one for one in (*entries, *(_ended_unsent(row, journal.run_id, now) for row in rows)) if one]
    tallies = count(store, ended, basis)
    if basis.release:
        count_changes(store, basis.release, tallies)


def _ended_unsent(row: ChangeRow, run_id: str, now: str) -> Ended | None:
    """Return how a change ended that has no intent; None where it has one."""
    item, result = row.item, row.result
    if result.intent is not None or not isinstance(item, Change | Intent):
        return None
    return Ended(
        item.account_id,
        item.function_arn,
        run_id,
        item.action,
        result.outcome,
        result.detail,
        now,
        item.revision_id,
        item.revision_id,
        item.wave,
        lasting=result.lasting,
    )
