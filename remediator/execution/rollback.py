"""Removes changes: exactly what a run, or all runs, added to a function, and nothing that came later."""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from remediator.change.context import ChangeContext
from remediator.change.detach import DetachContext, carries_nothing, detach
from remediator.change.records import Undo
from remediator.change.settlement import Steps
from remediator.change.update import Aws
from remediator.execution.apply import ApplyResult
from remediator.execution.bookkeeping import count_results
from remediator.execution.executor import Executor, Progress
from remediator.execution.results import changes_frame
from remediator.journal.journal import Journal
from remediator.journal.journals import Journals
from remediator.rollout.guards import Guards, save_state
from remediator.rollout.lock import RunLock
from remediator.state.quarantine import Quarantined, Released
from scanner.core.errors import BadInput, GuardStop
from scanner.settings import DefenderSettings
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)


def refuse_unknown(
    undos: Sequence[Undo],
    aws: Aws,
    defender: DefenderSettings,
    refused: Sequence[str],
    deadline: float | None = None,
) -> None:
    """Read the functions that no journal knows; raise BadInput for one that does not exist or carries nothing of ours.

    One that can't be read is left to `rollback`, whose row says why. refused: what of the journals can't be ours.
    """
    run = ChangeContext(aws, defender, threading.Event(), deadline)
    for undo in undos:
        if undo.by_reading and not undo.undone_by and carries_nothing(run, undo):
            unknown = f"; of journals is refused: {refused[0]}" if refused else ""
            raise BadInput(
                f"no run has changed {undo.function_arn}, and it does not exist or carries nothing of ours: "
                f"check its account, region and name; explain shows its history{unknown}"
            )


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
    """Remove the changes that selection.select returned as `undos`; the changes frame has a row a function.

    lock: the lock that a rollback which writes holds; None for a dry run, whose rows are planned or dropped.
    What is removed is put in quarantine first, so that the next run does not add it again; where nothing was done it
    is taken out again. Where the quarantine can't be kept, the changes are removed without, and a stop says so. The kill
    switch and the failure breaker stop protection, not rollback. stop, deadline, progress: as for apply_plan.
    """
    stopping = threading.Event()
    journal = journals.open(run_id)
    guards = Guards((lock.check,) if lock else (), clock=aws.clock)
    context = DetachContext(
        ChangeContext(
            aws, defender, stopping, deadline, partial(guards.count, tried=1), may_remove=guards.check
        ),
        run_id,
        journal.record_intents,
        journal.record_outcomes,
        dry_run=lock is None,
    )
    entries = _quarantine_entries(undos, run_id, aws.clock.now())
    unquarantined = _put_in(journals, journal, entries) if lock else None
    begun: set[int] = set()

    def begin(number: int) -> Steps:
        begun.add(number)
        return detach(context, undos[number], f"{journal.prefix}.{number}")

    executor = Executor(
        {run_id: journal}, guards, stopping, aws.clock, stop=stop, deadline=deadline, progress=progress
    )
    rows = executor.run(undos, begin)
    untouched = [
        entries[row.item.function_arn]
        for number, row in enumerate(rows)
        if (number not in begun or row.result.untouched) and row.item.function_arn in entries
    ]
    unkept = None
    if lock:
        unkept = save_state(
            partial(_release, journal, lock, untouched),
            partial(count_results, journals, journal),
            journal.close,
        )
    stopped = executor.stopped_by or unquarantined or unkept
    return ApplyResult(changes_frame(rows), stopped, executor.cut_short)


def _quarantine_entries(undos: Sequence[Undo], run_id: str, now: datetime) -> dict[str, Quarantined]:
    """Return an entry for each function that something may be removed from, by ARN."""
    since, why = now.isoformat(timespec="seconds"), f"rolled back by run {run_id}"
    going = [undo.function_arn for undo in undos if (undo.intents or undo.by_reading) and not undo.refusal]
    return {arn: Quarantined(arn, since, run_id, why) for arn in going}


def _put_in(journals: Journals, journal: Journal, entries: Mapping[str, Quarantined]) -> GuardStop | None:
    """Put functions in quarantine; return a stop, for after the changes, where that fails: an incident goes first."""
    try:
        journal.record([entries[arn] for arn in sorted(entries)])
        journals.fold()
    except (BadInput, StoreFailed) as error:
        return GuardStop(
            "memory",
            f"what is rolled back is not in quarantine, and the next run that can read that adds it again: {error}",
            "Repair the quarantine by 'auto-defender state rebuild', then roll the same functions back again, each by "
            "--function",
        )
    return None


def _release(journal: Journal, lock: RunLock, entries: Sequence[Quarantined]) -> None:
    """Take functions out of quarantine again; not where another run holds the lock by now, for it writes the quarantine."""
    if not entries:
        return
    try:
        lock.check()
    except GuardStop as lost:
        log.warning(
            "%d functions stay in quarantine, although nothing was done to them: %s", len(entries), lost
        )
        return
    journal.record([Released(entry) for entry in entries])
