"""After the changes: what came of them is counted in the derived state, for each function and for the waves."""

from collections.abc import Iterable

from remediator.change.records import Change, ChangeRow
from remediator.journal.journal import Journal
from remediator.journal.journals import Journals
from remediator.state.functions import Result


def count_results(journals: Journals, journal: Journal, rows: Iterable[ChangeRow] = ()) -> None:
    """Fold what journals say into the state files; and rows of changes that were not sent, once the journal has them.

    Nothing is counted twice, so that the next run can repeat what a killed one has counted in part.
    """
    journal.record([result for result in map(_unsent, rows) if result])
    journals.fold()


def _unsent(row: ChangeRow) -> Result | None:
    """Return how a change ended that has no intent, and of which anything is learnt; None for another."""
    item, result = row.item, row.result
    if result.intent is not None or not isinstance(item, Change):
        return None
    if not result.lasting and result.outcome not in {"changed", "failed"}:
        return None
    return Result(
        item.function_arn,
        item.action,
        result.outcome,
        result.detail,
        item.revision_id,
        item.wave,
        result.lasting,
    )
