"""Makes the changes of a plan by the write protocol, and stops where a guard says so."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from remediator.change.attach import AttachContext, attach
from remediator.change.context import ChangeContext
from remediator.change.recheck import ChangeValidator
from remediator.change.settlement import Steps
from remediator.change.update import Aws
from remediator.execution.bookkeeping import count_results
from remediator.execution.executor import Executor, Progress
from remediator.execution.results import changes_frame
from remediator.journal.journal import Basis
from remediator.journal.journals import Journals
from remediator.plan.plan import Plan
from remediator.rollout.guards import LIMITS, Guards, check_kill_switch, save_state
from remediator.rollout.lock import RunLock
from remediator.settings import RolloutSettings
from scanner.core.errors import GuardStop
from scanner.risk.rules import Rules


@dataclass(frozen=True)
class ApplyResult:
    """What became of changes, or of their rollback: the changes frame; the guard that stopped them, if any; and
    whether the run was stopped, or its time was up, before all was tried.
    """  # noqa: D205

    changes: pd.DataFrame
    stopped_by: GuardStop | None
    cut_short: bool = False


def apply_plan(
    plan: Plan,
    aws: Aws,
    rules: Rules,
    rollout: RolloutSettings,
    *,
    journals: Journals,
    lock: RunLock,
    run_id: str,
    release: str,
    approved: bool = False,
    own_function: str | None = None,
    switches: Sequence[Callable[[], None]] = (),
    stop: threading.Event | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> ApplyResult:
    """Apply a plan.

    release: under which the waves count the changes. approved: a saved plan, validated when it was made: its limits do not stop the run, and a function that has another
    revision than the plan's is dropped.
    own_function: the ARN of the function that this runs in, which is left alone whatever the plan says.
    switches: kill switches besides state/stop; each raises GuardStop.
    stop: set by a signal handler; no further update is sent, those in flight settle, the journal is completed.
    deadline: the Clock.monotonic() moment by which this returns; what is not settled then stays open in the
    journal. progress(done, total).
    """
    stopping = threading.Event()
    basis = Basis(release, plan.config_digest)
    journal = journals.open(run_id, basis)
    validator = ChangeValidator(
        rules,
        run_id,
        journal.record_intents,
        aws.clock,
        approved=approved,
        quiet=rollout.quiet_time,
    )
    guards = Guards(
        (lock.check, lambda: check_kill_switch(journals.store), *switches),
        rollout.stop_after_failure_pct,
        aws.clock,
    )
    # What AWS could not carry out is removed while the kill switch is on, as in a rollback.
    removing = Guards((lock.check,), clock=aws.clock)
    run = ChangeContext(
        aws,
        rules.defender,
        stopping,
        deadline,
        partial(guards.count, tried=1),
        may_change=guards.check,
        may_remove=removing.check,
    )
    context = AttachContext(run, validator, journal.record_outcomes, own_function)

    def begin(number: int) -> Steps:
        return attach(context, plan.changes[number], f"{journal.prefix}.{number}")

    executor = Executor(
        {run_id: journal}, guards, stopping, aws.clock, stop=stop, deadline=deadline, progress=progress
    )
    rows = executor.run(plan.changes, begin)
    unkept = save_state(lambda: count_results(journals, journal, rows), journal.close)
    limit = None if approved else limit_stop(plan)
    return ApplyResult(changes_frame(rows), executor.stopped_by or unkept or limit, executor.cut_short)


def limit_stop(plan: Plan) -> GuardStop | None:
    """Return the stop that the limits on changes cause, None where nothing had to wait."""
    for guard in LIMITS:
        waiting = plan.held_back.get(guard, 0)
        if waiting:
            return GuardStop(
                guard,
                f"{waiting} more functions are eligible and wait",
                f"The next run goes on by itself; to go faster, raise rollout.{guard}",
            )
    return None
