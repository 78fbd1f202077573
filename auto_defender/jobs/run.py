"""The hourly job: sweep, assess, plan, protect, report."""

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pandas as pd

from auto_defender import __version__
from auto_defender.context import Context
from auto_defender.job_result import (
    JobResult,
    exit_code,
    rollback_exit_code,
    rollback_text,
    rollout_lines,
    run_text,
)
from auto_defender.notify.security_hub import update_security_hub
from auto_defender.notify.sns import notify_run
from auto_defender.observation import Observation
from auto_defender.stages.health import watch
from auto_defender.stages.notices import announce
from auto_defender.stages.observe import nothing_observed, observe
from auto_defender.stages.planning import PlannedRun, plan_run
from auto_defender.stages.scope import interrupted, unlisted, within_scope
from remediator.execution.apply import ApplyResult, apply_plan
from remediator.execution.preflight import preflight
from remediator.execution.recover import resolve_open_runs
from remediator.execution.regressions import HealthReport
from remediator.execution.results import changes_frame, deferred_plan
from remediator.journal.journal import Basis
from remediator.journal.upgrade import upgrade
from remediator.plan.plan import Plan
from remediator.rollout.guards import nothing_begun, own_function, state_unreadable
from remediator.rollout.lock import RunLock, Step
from remediator.state.quarantine import Quarantined, quarantined
from remediator.state.store import run_folder
from reports.data.read_back import read_summary
from reports.data.rollout_status import RolloutStatus
from reports.data.run_result import RunResult
from reports.run_files import begin_run, write_run
from scanner.core.errors import AutoDefenderError, BadInput, GuardStop, InternalError
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)


def scan(context: Context) -> JobResult:
    """Sweep, assess and report; no plan."""
    return finish(context, observe(context), changes_frame(()))


def run(context: Context) -> JobResult:
    """Sweep, assess and plan; make the changes unless this is a dry run; report.

    The lock is taken before the sweep: two runs at once would plan the same changes.
    """
    with run_lock(context) as lock:
        resolved = resolve(context, lock)
        try:
            observed = observe(context)
        except AutoDefenderError as error:
            return unobserved(context, resolved, error)
        return conclude(context, observed, resolved, lock)


def run_lock(context: Context, step: Step = "whole") -> AbstractContextManager[RunLock | None]:
    """Return the lock of a run, or of a step of it; a null context where the run writes nothing."""
    return (
        RunLock(context.store, context.run_id, step=step, clock=context.clock)
        if context.mode == "apply"
        else nullcontext()
    )


def resolve(context: Context, lock: RunLock | None) -> ApplyResult:
    """Take over what an earlier release left, and resolve the changes of killed runs, before anything new begins.

    Raise StoreFailed where this run's own files can't be written.
    """
    if lock is None:
        return ApplyResult(changes_frame(()), None)
    begin_run(context.store, context.run_id, context.mode)
    upgrade(context.journals, context.run_id)
    with context.writing("resolve"):
        return resolve_open_runs(
            context.aws,
            context.configuration.defender,
            journals=context.journals,
            lock=lock,
            basis=Basis(context.configuration.release, context.configuration.digest),
            switches=context.switches,
            stop=context.stop,
            deadline=context.deadline,
        )


def conclude(
    context: Context,
    observed: Observation,
    resolved: ApplyResult,
    lock: RunLock | None,
    stopped: GuardStop | None = None,
    made_before: Mapping[str, int] | None = None,
) -> JobResult:
    """Roll back what regressed; plan; announce; make the changes under the lock, unless a guard has stopped the run; report.

    made_before: how many changes an earlier, killed call has made in this run, by account; the limits count them.
    """
    watched = HealthReport()
    try:
        watched = watch(context, observed, lock)
        observed = observed.after_rollback(watched.changes, watched.protection_before)
        context = context.with_current_quarantine()
        planned = plan_run(context, observed, watched, made_before)
        if lock is not None:
            planned.record_seen(context)
    except (StoreFailed, BadInput, InternalError) as error:
        return _without_plan(context, observed, resolved, watched, error)
    log.info("%d changes planned", len(planned.plan.changes))
    stopped = stopped or resolved.stopped_by or watched.stopped_by
    announced = announce(context, planned.plan.notices if stopped is None else (), lock)
    made = _make(context, planned, lock, stopped or announced.stopped_by)
    unsaved = None
    if lock is not None:
        planned, unsaved = planned.save_state(context, made)
    observed = observed.after(made.changes)
    return finish(
        context,
        observed,
        pd.concat([_not_tried_again(resolved, made), watched.changes, made.changes], ignore_index=True),
        planned.plan,
        resolved.stopped_by or made.stopped_by or unsaved,
        planned.rollout_status(context, observed, announced),
        cut_short=resolved.cut_short or watched.cut_short or made.cut_short,
    )


def _not_tried_again(resolved: ApplyResult, made: ApplyResult) -> pd.DataFrame:
    """Return the rows of what was resolved, but none of a change that was not made then and is tried in this run."""
    changes = resolved.changes
    again = changes["function_arn"].isin(made.changes["function_arn"])
    return changes[~again | changes["outcome"].isin(["changed", "rolled_back"])]


def unobserved(
    context: Context, resolved: ApplyResult, error: AutoDefenderError, *, notify: bool = True
) -> JobResult:
    """Report what was resolved before the sweep failed; raise the error where that is nothing.

    The run's end, which interrupts the listing of the accounts, is no guard's stop.
    """
    cut_short = interrupted(context) and not isinstance(error, InternalError)
    stopped = None if cut_short else nothing_begun("scope", error)
    return report_resolved(context, resolved, error, stopped, cut_short=cut_short, notify=notify)


def report_resolved(
    context: Context,
    resolved: ApplyResult,
    error: AutoDefenderError,
    stopped: GuardStop | None,
    *,
    cut_short: bool = False,
    notify: bool = True,
) -> JobResult:
    """Report what was resolved in a run that begins nothing new; raise the error where that is nothing."""
    if resolved.changes.empty:
        raise error
    log.error("%s", error)
    return finish(
        context,
        nothing_observed(context),
        resolved.changes,
        stopped=resolved.stopped_by or stopped,
        cut_short=resolved.cut_short or cut_short,
        notify=notify,
    )


def _without_plan(
    context: Context,
    observed: Observation,
    resolved: ApplyResult,
    watched: HealthReport,
    error: AutoDefenderError,
) -> JobResult:
    """Report what was done before planning failed; raise the error where that is nothing."""
    done = pd.concat([resolved.changes, watched.changes], ignore_index=True)
    if done.empty:
        raise error
    stopped = resolved.stopped_by or watched.stopped_by or state_unreadable(error)
    return finish(context, observed, done, stopped=stopped, cut_short=resolved.cut_short or watched.cut_short)


def _make(
    context: Context, planned: PlannedRun, lock: RunLock | None, stopped: GuardStop | None
) -> ApplyResult:
    if lock is None:
        return ApplyResult(preflighted(context, planned), stopped)
    if stopped is not None:
        return ApplyResult(deferred_plan(planned.plan, stopped), stopped)
    return applied_plan(context, planned.plan, lock)


def preflighted(context: Context, planned: PlannedRun) -> pd.DataFrame:
    """Check every planned change as apply would, so that what AWS would reject shows in the dry run."""
    with context.stage("preflight"):
        return preflight(
            planned.plan,
            context.aws,
            context.rules,
            context.configuration.rollout,
            refused=planned.held_back.refused,
            stop=context.stop,
            deadline=context.deadline,
            progress=context.display.changed,
        )


def applied_plan(context: Context, plan: Plan, lock: RunLock, *, approved: bool = False) -> ApplyResult:
    """Make a plan's changes under the lock, but none that is out of scope by now."""
    settings = context.configuration
    try:
        plan, outside = within_scope(context, plan)
    except BadInput as error:
        return unlisted(context, plan, error)
    with context.writing("apply"):
        applied = apply_plan(
            plan,
            context.aws,
            context.rules,
            settings.rollout,
            journals=context.journals,
            lock=lock,
            run_id=context.run_id,
            release=settings.release,
            approved=approved,
            own_function=own_function(os.environ, context.aws.partition, context.aws.central_account_id),
            switches=context.switches,
            stop=context.stop,
            deadline=context.deadline,
            progress=context.display.changed,
        )
    return replace(applied, changes=pd.concat([outside, applied.changes], ignore_index=True))


def finish(
    context: Context,
    observed: Observation,
    changes: pd.DataFrame,
    plan: Plan | None = None,
    stopped: GuardStop | None = None,
    rollout: RolloutStatus | None = None,
    *,
    cut_short: bool = False,
    notify: bool = True,
    defect: InternalError | None = None,
) -> JobResult:
    """Write the run's files, publish its notification and return its result.

    defect: what went wrong after the changes were made; the exit code is 1 then.
    """
    if stopped is not None:
        log.error("%s", stopped, extra={"guard": stopped.guard})
    findings = update_security_hub(context, observed)
    rollout = rollout or RolloutStatus()
    rolling_back = context.mode == "rollback"
    code = (
        rollback_exit_code(changes, stopped)
        if rolling_back
        else exit_code(
            observed.units,
            observed.functions,
            changes,
            stopped,
            cut_short=cut_short,
            unannounced=rollout.unannounced,
        )
    )
    if defect is not None:
        log.error("%s", defect)
        code = defect.exit_code
    result = RunResult(
        run_id=context.run_id,
        mode=context.mode,
        started=context.started,
        ended=context.clock.now(),
        partition=context.aws.partition,
        accounts=observed.accounts,
        units=observed.units,
        functions=observed.functions,
        changes=changes,
        exit_code=code,
        stopped_by=stopped.guard if stopped else None,
        cut_short=cut_short,
        plan_json=plan.to_json() if plan else None,
        optouts=context.optouts.entries,
        quarantine=[vars(entry) for entry in _quarantine(context)],
        stages=context.stages,
        calls=context.aws.calls.as_dict(),
        version=__version__,
        rollout=rollout,
        security_hub=findings,
        whole_scope=observed.whole_scope,
        trigger=context.trigger,
    )
    summary = write_run(context.store, result)
    address = context.store.url(f"{result.folder}/report.html")
    text = (
        rollback_text(summary, changes, address)
        if rolling_back
        else run_text(summary, address, rollout_lines(result.rollout))
    )
    text = "\n".join([text, *(str(problem) for problem in (stopped, defect) if problem)])
    job_result = JobResult(summary, text, summary["exit_code"])
    if context.mode == "scan" or not notify:
        return job_result
    return notify_run(context.configuration.notifications, context.session, job_result)


def reported(context: Context) -> JobResult | None:
    """Return the result of this run from its report; None where there is no whole report."""
    folder = run_folder(context.run_id)
    try:
        found = read_summary(context.store, folder)
    except ValueError as error:
        log.warning("the run is reported again: %s", error)
        return None
    if found is None:
        return None
    summary = dict(found)
    text = run_text(summary, context.store.url(f"{folder}/report.html"))
    return JobResult(summary, text, summary["exit_code"])


def _quarantine(context: Context) -> tuple[Quarantined, ...]:
    """Read the quarantine again, because a rollback adds to it; where that fails, return it as first read."""
    try:
        return quarantined(context.store)
    except AutoDefenderError as error:
        log.warning("the report shows the quarantine as read at the start of the run: %s", error)
        return context.quarantine
