"""Resolves what killed runs left open: reads how each change ended, finishes it, and closes its journal."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from remediator.change.attach import resume_attach
from remediator.change.context import ChangeContext
from remediator.change.detach import resume_detach
from remediator.change.settlement import Steps
from remediator.change.update import Aws
from remediator.execution.apply import ApplyResult
from remediator.execution.bookkeeping import count_results
from remediator.execution.executor import Executor
from remediator.execution.results import changes_frame
from remediator.journal.journal import Basis, open_runs
from remediator.journal.journals import Journals
from remediator.rollout.guards import Guards, check_kill_switch, save_state
from remediator.rollout.lock import RunLock
from scanner.settings import DefenderSettings

log = logging.getLogger(__name__)


def resolve_open_runs(
    aws: Aws,
    defender: DefenderSettings,
    *,
    journals: Journals,
    lock: RunLock,
    basis: Basis,
    switches: Sequence[Callable[[], None]] = (),
    stop: threading.Event | None = None,
    deadline: float | None = None,
) -> ApplyResult:
    """Resolve what earlier runs left open; for the start of a run that writes, before its sweep.

    basis: of runs of release 0.1, whose journals have none.
    Returns the changes frame of what was resolved (no rows where nothing was open). No change is sent again: one that
    AWS accepted is finished and tagged, one that it did not is closed. What can't be determined now stays open.
    """
    store = journals.store
    opened = {run_id: journals.open(run_id) for run_id in open_runs(store)}
    intents = []
    for run_id, journal in opened.items():
        found = [entry.intent for entry in journal.entries if entry.outcome is None]
        log.warning("run %s was killed or ran out of time: %d changes to find out about", run_id, len(found))
        intents += found
    stopping = threading.Event()
    guards = Guards((lock.check, lambda: check_kill_switch(store), *switches))
    run = ChangeContext(aws, defender, stopping, deadline, partial(guards.count, tried=1))

    def begin(number: int) -> Steps:
        intent = intents[number]
        if intent.action == "rollback":
            return resume_detach(run, intent)
        return resume_attach(run, intent)

    executor = Executor(opened, guards, stopping, stop=stop, deadline=deadline)
    rows = executor.run(intents, begin)
    rows_of = {
        run_id: [row for row, intent in zip(rows, intents, strict=True) if intent.run_id == run_id]
        for run_id in opened
    }
    # All of each journal is counted: its run may have been killed after an outcome, and before it counted that.
    unkept = save_state(
        *(
            partial(count_results, store, journal, journal.basis or basis, rows_of[run_id])
            for run_id, journal in opened.items()
        ),
        *(journal.close for journal in opened.values()),
    )
    return ApplyResult(changes_frame(rows), executor.stopped_by or unkept, executor.cut_short)
