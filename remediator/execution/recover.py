"""Resolves what killed runs left open: reads how each change ended, finishes it, and closes its journal."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from remediator.change.attach import resume_attach
from remediator.change.context import ChangeContext
from remediator.change.detach import resume_detach
from remediator.change.settlement import Steps
from remediator.change.update import Aws
from remediator.execution.apply import ApplyResult
from remediator.execution.executor import Executor
from remediator.execution.results import changes_frame
from remediator.journal.journal import Basis, Entry, open_runs
from remediator.journal.journals import Journals
from remediator.rollout.guards import Guards, check_kill_switch, save_state
from remediator.rollout.lock import RunLock
from scanner.core.clock import Clock
from scanner.settings import DefenderSettings

log = logging.getLogger(__name__)

# Of the time that a run has: what earlier runs left must not take it from the run's own work.
_SHARE = 0.1
# What nobody could find out for so long is not asked for again: its account has left, or is denied for good.
_GIVEN_UP_AFTER = timedelta(days=7)


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
    AWS accepted is finished and tagged, one that it did not is closed, one that it could not carry out is removed. What
    can't be determined or removed now stays open, and is given up after seven days: its function may carry it, and a
    rollback looks. deadline: the run's; a tenth of the time until then is used, for the newest runs first.
    """
    store = journals.store
    marked = set(open_runs(store))
    opened = {
        run_id: journals.open(run_id, basis, marked=run_id in marked)
        for run_id in reversed(journals.unfolded_runs())
    }
    entries = []
    for run_id, journal in opened.items():
        found = [entry for entry in journal.entries if entry.outcome is None]
        log.warning("run %s was killed or ran out of time: %d changes to find out about", run_id, len(found))
        entries += found
    intents, now, until = [entry.intent for entry in entries], aws.clock.now(), _share_of(deadline, aws.clock)
    stopping = threading.Event()
    guards = Guards((lock.check, lambda: check_kill_switch(store), *switches), clock=aws.clock)
    run = ChangeContext(
        aws,
        defender,
        stopping,
        until,
        partial(guards.count, tried=1),
        may_remove=Guards((lock.check,), clock=aws.clock).check,
    )
    executor = Executor(opened, guards, stopping, aws.clock, stop=stop, deadline=until)
    rows = executor.run(intents, lambda number: _resume(run, entries[number], now))
    # All of each journal is counted: its run may have been killed after an outcome, and before it counted that.
    unkept = save_state(journals.fold, *(journal.close for journal in opened.values()))
    cut_short = executor.cut_short and stop is not None and stop.is_set()
    return ApplyResult(changes_frame(rows), executor.stopped_by or unkept, cut_short)


def _resume(run: ChangeContext, entry: Entry, now: datetime) -> Steps:
    resume = resume_detach if entry.intent.action == "rollback" else resume_attach
    result = yield from resume(run, entry.intent)
    if not result.unsettled or now - entry.begun < _GIVEN_UP_AFTER:
        return result
    since = f"{'not removed' if result.left else 'unknown'} for {_GIVEN_UP_AFTER.days} days"
    detail = f"{since}, given up: rollback --function removes what is there"
    return replace(result, outcome="failed", detail=detail, left=True, unsettled=False)


def _share_of(deadline: float | None, clock: Clock) -> float | None:
    if deadline is None:
        return None
    now = clock.monotonic()
    return now + _SHARE * max(0.0, deadline - now)
