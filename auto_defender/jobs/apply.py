"""`apply`: makes the changes of an approved plan and its announcements, and nothing else."""

import pandas as pd

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.jobs.run import applied_plan, finish, resolve
from auto_defender.sources import read_source
from auto_defender.stages.health import watch
from auto_defender.stages.notices import Due, announce, within_notice
from auto_defender.stages.observe import nothing_observed
from remediator.execution.apply import ApplyResult
from remediator.execution.regressions import HealthReport
from remediator.execution.results import deferred_plan
from remediator.plan.plan_file import MAX_PLAN_BYTES, read_plan
from remediator.rollout.guards import state_unreadable
from remediator.rollout.lock import RunLock
from reports.data.rollout_status import RolloutStatus
from scanner.core.errors import BadInput, InternalError
from storage.protocol import StoreFailed


def apply_saved(context: Context, source: str) -> JobResult:
    """Make the changes of a saved plan, and announce what it plans to announce.

    Raise BadInput if the plan was edited, has expired, or was made under another configuration.
    The health of recently changed functions is read first and can stop it; nothing is rolled back: the plan does not
    include that.
    """
    observed = nothing_observed(context)
    plan = read_plan(
        read_source(
            source, context.session, "plan", context.configuration.storage.bucket_owner, most=MAX_PLAN_BYTES
        ),
        source,
        now=context.clock.now(),
        config_digest=context.configuration.digest,
    )
    with RunLock(context.store, context.run_id, clock=context.clock) as lock:
        resolved, watched = resolve(context, lock), HealthReport()
        try:
            context = context.with_current_quarantine()
            watched = watch(context, observed, None)
            due, stopped = within_notice(context, plan), resolved.stopped_by or watched.stopped_by
        except (StoreFailed, BadInput, InternalError) as error:
            if resolved.changes.empty:
                raise
            due, stopped = Due(plan), state_unreadable(error)
        announced = announce(context, due.unannounced if stopped is None else (), lock)
        stopped = stopped or announced.stopped_by
        if stopped is not None:
            applied = ApplyResult(deferred_plan(due.plan, stopped), stopped)
        else:
            applied = applied_plan(context, due.plan, lock, approved=True)
        return finish(
            context,
            observed,
            pd.concat([resolved.changes, due.later, applied.changes], ignore_index=True),
            plan,
            resolved.stopped_by or applied.stopped_by,
            RolloutStatus(health=watched.functions, notices=announced.notices),
            cut_short=resolved.cut_short or applied.cut_short,
        )
