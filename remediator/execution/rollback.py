"""Removes changes: exactly what a run, or all runs, added to a function, and nothing that came later."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from remediator.change.context import ChangeContext
from remediator.change.detach import DetachContext, detach
from remediator.change.records import Undo
from remediator.change.settlement import Steps
from remediator.change.update import Aws
from remediator.execution.apply import ApplyResult
from remediator.execution.executor import Executor, Progress
from remediator.execution.results import changes_frame
from remediator.journal.drift import forget
from remediator.journal.journals import Journals
from remediator.journal.quarantine import Quarantined, put_in_quarantine
from remediator.rollout.guards import Guards, save_state
from remediator.rollout.lock import RunLock
from scanner.settings import DefenderSettings


def rollback(
    undos: Sequence[Undo],
    aws: Aws,
    defender: DefenderSettings,
    *,
    journals: Journals,
    run_id: str,
    lock: RunLock | None,
    stop: threading.Event | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> ApplyResult:
    """Remove the changes that history.select returned as `undos`; the changes frame has a row a function.

    lock: the lock that a rollback which writes holds; None for a dry run, whose rows are planned or dropped.
    What is removed is put in quarantine first, so that the next run does not add it again. The kill switch and the
    failure breaker stop protection, not rollback. stop, deadline, progress: as for apply_plan.
    """
    stopping, store = threading.Event(), journals.store
    journal = journals.open(run_id)
    guards = Guards((lock.check,) if lock else ())
    context = DetachContext(
        ChangeContext(aws, defender, stopping, deadline, partial(guards.count, tried=1)),
        run_id,
        journal.record_intents,
        dry_run=lock is None,
    )
    if lock:
        since, why = datetime.now(UTC).isoformat(timespec="seconds"), f"rolled back by run {run_id}"
        going = [undo.function_arn for undo in undos if undo.intents]
        put_in_quarantine(store, [Quarantined(arn, since, run_id, why) for arn in going])

    def begin(number: int) -> Steps:
        return detach(context, undos[number], f"{journal.prefix}.{number}")

    executor = Executor({run_id: journal}, guards, stopping, stop=stop, deadline=deadline, progress=progress)
    rows = executor.run(undos, begin)
    journal.close()
    unkept = save_state(
        lambda: forget(store, [row.item for row in rows if row.result.outcome == "rolled_back"])
    )
    return ApplyResult(changes_frame(rows), executor.stopped_by or unkept, executor.cut_short)
