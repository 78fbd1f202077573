"""`rollback`: removes what runs added, function by function."""

from collections.abc import Sequence
from contextlib import nullcontext

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.jobs.observe import nothing_observed
from auto_defender.jobs.run import finish
from remediator.execution.rollback import rollback
from remediator.journal.history import select
from remediator.journal.upgrade import upgrade
from remediator.rollout.lock import RunLock
from reports.run_files import begin_run


def roll_back(
    context: Context, run_ids: Sequence[str], function_arns: Sequence[str], apply: bool
) -> JobResult:
    """Roll changes back, or show in a dry run what would be rolled back."""
    settings = context.configuration
    with (
        RunLock(context.store, context.run_id) if apply else nullcontext() as lock,
        context.writing("rollback"),
    ):
        if lock:
            begin_run(context.store, context.run_id, context.mode)
            upgrade(context.store)
        undos = select(context.journals, run_ids, function_arns)
        rolled_back = rollback(
            undos,
            context.aws,
            settings.defender,
            journals=context.journals,
            run_id=context.run_id,
            lock=lock,
            stop=context.stop,
            deadline=context.deadline,
            progress=context.display.changed,
        )
        return finish(
            context,
            nothing_observed(context),
            rolled_back.changes,
            stopped=rolled_back.stopped_by,
            cut_short=rolled_back.cut_short,
        )
