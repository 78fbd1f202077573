"""Which functions were changed lately, by the journals: what the health watch looks at."""

from dataclasses import dataclass
from datetime import datetime

from remediator.journal.journal import Journal, runs_since
from remediator.journal.store import Store


@dataclass(frozen=True)
class Changed:
    """A function that carries a change: the run that made it, its wave, and when (UTC) it began and was confirmed."""

    account_id: str
    region: str
    function_name: str
    function_arn: str
    run_id: str
    wave: str
    begun: datetime
    ended: datetime


def changed_since(store: Store, moment: datetime) -> list[Changed]:
    """Give each function that was changed since a moment and still carries it; its newest change, by ARN.

    Raises BadInput for a journal that can't be understood.
    """
    found: dict[str, Changed] = {}
    for run_id in runs_since(store, moment):
        for entry in Journal(store, run_id).entries():
            if not entry.stands or entry.ended is None or entry.ended < moment:
                continue
            intent = entry.intent
            found[intent.function_arn] = Changed(
                intent.account_id,
                intent.region,
                intent.function_name,
                intent.function_arn,
                run_id,
                intent.wave,
                entry.begun,
                entry.ended,
            )
    return [found[arn] for arn in sorted(found)]
