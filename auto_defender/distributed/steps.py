"""The hourly job in three steps, one invocation each: begin it, sweep a batch of accounts, merge the batches.

The batches only read, with sessions that can't write. Everything that changes a function or has a limit (the plan, the
changes, the breaker, the journal) is in the last step: one process does it, as in a run of one process.
"""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pandas as pd

from auto_defender.context import Context
from auto_defender.distributed.code_version import code_version
from auto_defender.distributed.frames import joined
from auto_defender.distributed.parts import (
    BatchFailure,
    BatchResult,
    OtherVersion,
    Parts,
    StartedRun,
    StepUsage,
)
from auto_defender.job_result import JobResult
from auto_defender.jobs.run import (
    conclude,
    report_resolved,
    reported,
    resolve,
    run_lock,
    unobserved,
)
from auto_defender.notify.sns import notify_run
from auto_defender.observation import Observation
from auto_defender.stages.observe import nothing_observed, observe_accounts, organization_accounts
from remediator.change.records import ChangeResult, ChangeRow, Undo
from remediator.execution.apply import ApplyResult
from remediator.execution.results import changes_frame
from remediator.journal.journal import Entry
from remediator.rollout.guards import nothing_begun, state_unreadable
from remediator.rollout.lock import RunLock, Step
from scanner.core.errors import AutoDefenderError, BadInput, GuardStop, InternalError, WrongAccount
from scanner.inventory.ledger import ANY_REGION, Ledger, Outcome, UnitResult, settle_without_calls
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)
_INTERNAL_ERRORS = (InternalError.__name__, WrongAccount.__name__)
_AFTER_FAILURES = "See the failed batches in the state machine's map run, fix the cause; the next run starts again from the beginning"


def begin(context: Context, batch_size: int) -> dict[str, Any]:
    """Take the lock, resolve the open changes of killed runs, list the accounts, and write the manifest of the batches.

    Return run_id, bucket and manifest (its key), and in `stopped` no Error yet: all that the state machine passes on.
    May be called again: it returns the same.
    """
    if not context.store.url("state").startswith("s3://"):
        raise BadInput("a state machine reads its batches from S3: make the key 'output' s3://bucket/prefix")
    parts = _parts(context)
    with run_lock(context, "first") as lock:
        started = parts.started_before() or _start(context, parts, batch_size, lock)
        address = parts.write_manifest(started.batches)
    bucket, _, key = address.removeprefix("s3://").partition("/")
    log.info("%d batches of up to %d accounts", len(started.batches), batch_size)
    return {"run_id": context.run_id, "bucket": bucket, "manifest": key, "stopped": {"Error": ""}}


def _start(context: Context, parts: Parts, batch_size: int, lock: RunLock | None) -> StartedRun:
    """Resolve the open changes of killed runs, list the accounts, and write that.

    Where the accounts can't be listed, what was resolved is reported before the error is raised.
    """
    if reported(context):
        raise BadInput(f"run {context.run_id} has ended and is reported; start a new execution")
    resolved = resolve(context, lock)
    try:
        accounts = organization_accounts(context)
    except AutoDefenderError as error:
        unobserved(context, resolved, error, notify=False)
        raise
    started = StartedRun(
        version=code_version(),
        mode=context.mode,
        config_digest=context.configuration.digest,
        accounts=accounts,
        batches=_batches(accounts, batch_size),
        resolved=resolved,
        usage=_usage(context),
    )
    parts.write_started(started)
    return started


def sweep_batch(context: Context, batch: str) -> dict[str, Any]:
    """Sweep and assess the accounts of one batch and write the result for the last step; renew the run's lock.

    An error is written for the last step, then raised. May be called again for the same batch.
    """
    parts = _parts(context)
    started = parts.started()
    accounts = started.accounts_of(batch)
    try:
        with _lock_of(context, started, "middle"):
            _check_configuration(context, started)
            observed = observe_accounts(context, accounts)
    except AutoDefenderError as error:
        parts.write_failed(batch, BatchFailure(type(error).__name__, str(error)))
        raise
    parts.write_part(batch, BatchResult(observed, _usage(context)))
    return {"batch": batch, "units": len(observed.units), "functions": len(observed.functions)}


def ending(context: Context) -> JobResult | None:
    """Return the last step's result where that has ended, None where it has not."""
    return _parts(context).ending()


def merge(context: Context, stopped: str) -> JobResult:
    """Merge the batches' results, then continue as a run of one process does after its sweep.

    stopped: why the state machine stopped the batches, in which case nothing is changed; "" where it did not. Units
    of a batch without a result are `timed_out`, of one that failed `error`; the accounts of a batch that another version
    of the code swept are swept again. Raise BadInput where the run can't go on, InternalError where a batch had one;
    a run that has made or resolved changes is reported and stopped by a guard instead.

    May be called again after a kill: it resumes the lock and the journal of its run, or returns what it has reported.
    """
    parts = _parts(context)
    try:
        started = parts.started()
    except BadInput as error:
        return _unusable(context, parts, error)
    with _lock_of(context, started, "last") as lock:
        result = _reported(context) or _merge(context, started, parts, stopped, lock)
        _keep(parts, result)
    _clear(parts)
    return result


def _unusable(context: Context, parts: Parts, error: BadInput) -> JobResult:
    """Report what the run has made and resolved, where what the first step has written can't be used otherwise."""
    with run_lock(context, "last") as lock:
        result = _reported(context)
        if result is None:
            resolved = _joined(parts.resolved(), _resumed(context, lock))
            result = report_resolved(context, resolved, error, nothing_begun("configuration", error))
        _keep(parts, result)
    _clear(parts)
    return result


def _merge(
    context: Context, started: StartedRun, parts: Parts, stopped: str, lock: RunLock | None
) -> JobResult:
    writes = started.mode == context.mode == "apply"
    concluding = replace(context, mode="apply" if writes else "dry_run")
    writing = lock if writes else None
    resumed = _resumed(concluding, writing)
    resolved = _joined(started.resolved, resumed)
    try:
        _check_configuration(context, started)
        observed = _observed(concluding, started, parts)
    except AutoDefenderError as error:
        return report_resolved(concluding, resolved, error, _stop_of(error))
    # The batches were swept before those changes.
    observed = observed.after(resumed.changes).after_rollback(resumed.changes, _protection_before(context))
    made = resumed.changes[resumed.changes["outcome"] == "changed"]
    return conclude(
        concluding,
        observed,
        resolved,
        writing,
        GuardStop("tolerated_failures", stopped, _AFTER_FAILURES) if stopped else None,
        made["account_id"].value_counts().to_dict(),
    )


def _stop_of(error: AutoDefenderError) -> GuardStop:
    return (
        state_unreadable(error) if isinstance(error, StoreFailed) else nothing_begun("configuration", error)
    )


def _reported(context: Context) -> JobResult | None:
    """Return the result of an earlier call that was killed after its report, and publish it: that call may not have."""
    result = reported(context)
    return notify_run(context.configuration.notifications, context.session, result) if result else None


def _keep(parts: Parts, result: JobResult) -> None:
    """Keep the result for the case that its answer is lost, before another run may begin.

    The run has ended and is reported: a store that refuses costs a warning.
    """
    try:
        parts.write_ending(result)
    except StoreFailed as error:
        log.warning(
            "the run has ended; called again, its last step reads its result from its report: %s", error
        )


def _clear(parts: Parts) -> None:
    """Delete what led to the result; a store that refuses costs a warning."""
    try:
        parts.clear()
    except StoreFailed as error:
        log.warning("the run has ended; its steps' files are left to a later run: %s", error)


def _joined(first: ApplyResult, then: ApplyResult) -> ApplyResult:
    return ApplyResult(
        pd.concat([first.changes, then.changes], ignore_index=True),
        first.stopped_by or then.stopped_by,
        first.cut_short or then.cut_short,
    )


def _resumed(context: Context, lock: RunLock | None) -> ApplyResult:
    """Return what an earlier, killed call of the last step has made, and under the lock resolve what it left open."""
    entries = context.journals.open(context.run_id).entries
    made = ApplyResult(_made(entries), None)
    return _joined(made, resolve(context, lock)) if entries else made


def _made(entries: Iterable[Entry]) -> pd.DataFrame:
    """Return the changes frame of what was made; what failed is tried again, and gets its row from that."""
    return changes_frame(
        ChangeRow(
            entry.intent, ChangeResult(entry.outcome.outcome, entry.outcome.detail, entry.outcome.attempts)
        )
        for entry in entries
        if entry.outcome is not None and entry.outcome.outcome in {"changed", "rolled_back"}
    )


def _protection_before(context: Context) -> dict[str, str]:
    """Return the protection before the changes that an earlier call of the run has rolled back, by function ARN."""
    journals = context.journals
    rollbacks = [entry.intent for entry in journals.open(context.run_id).entries if entry.intent.undoes]
    runs = {run_id for rollback in rollbacks for run_id, _ in rollback.undoes}
    undone = {
        (run_id, entry.intent.id): entry.intent for run_id in runs for entry in journals.open(run_id).entries
    }
    return {
        one.function_arn: Undo(
            one.account_id,
            one.region,
            one.function_name,
            one.function_arn,
            tuple(undone[key] for key in one.undoes if key in undone),
        ).protection_before
        for one in rollbacks
        if one.undoes[-1] in undone
    }


def _observed(context: Context, started: StartedRun, parts: Parts) -> Observation:
    """Merge the batches; their stages and calls count as the run's."""
    _include(context, started.usage)
    units, functions, again, whole_scope = [], [], [], True
    for batch in started.batches:
        accounts = started.accounts_of(batch)
        part = parts.part(batch, accounts)
        if part is None:
            whole_scope = False
            units.append(_unread(context, accounts, parts.failed(batch)))
        elif isinstance(part, OtherVersion):
            log.warning("batch %s was swept by version %s and is swept again", batch, part.version)
            again.append(accounts)
        else:
            _include(context, part.usage)
            whole_scope = whole_scope and part.observed.whole_scope
            units.append(part.observed.units)
            functions.append(part.observed.functions)
    if again:
        swept = observe_accounts(context, pd.concat(again, ignore_index=True))
        whole_scope = whole_scope and swept.whole_scope
        units.append(swept.units)
        functions.append(swept.functions)
    merged = joined(functions) if functions else nothing_observed(context).functions
    return Observation(started.accounts, joined(units), merged, whole_scope)


def _unread(context: Context, accounts: pd.DataFrame, failed: BatchFailure | None) -> pd.DataFrame:
    """Return the ledger of a batch without a result: every expected unit, none of them read."""
    if failed is not None and failed.error in _INTERNAL_ERRORS:
        raise InternalError(f"a batch had an internal error, nothing is changed: {failed.detail}")
    outcome: Outcome = "timed_out" if failed is None else "error"
    detail = f"its batch failed: {failed.detail}" if failed else "its batch did not finish"
    log.error("%d accounts not read: %s", len(accounts), detail)
    regions = context.configuration.organization.regions
    expected = [ANY_REGION] if regions == "enabled" else list(regions)
    ledger = Ledger()
    regions_of = dict.fromkeys(accounts["account_id"], expected)
    settle_without_calls(ledger, accounts, regions_of, context.optouts, context.clock.now().date())
    for unit in ledger.open_units():
        ledger.settle(UnitResult(unit, outcome, detail=detail))
    return ledger.frame()


def _batches(accounts: pd.DataFrame, size: int) -> dict[str, list[str]]:
    """Split the accounts into batches; return account ids by batch."""
    account_ids = accounts["account_id"].tolist()
    starts = range(0, len(account_ids), size)
    return {f"{number:04}": account_ids[start : start + size] for number, start in enumerate(starts, start=1)}


def _lock_of(context: Context, started: StartedRun, step: Step) -> AbstractContextManager[RunLock | None]:
    """Return the lock that the first step took, if it took one."""
    return (
        RunLock(context.store, context.run_id, step=step, clock=context.clock)
        if started.mode == "apply"
        else nullcontext()
    )


def _parts(context: Context) -> Parts:
    return Parts(context.store, context.run_id, code_version())


def _check_configuration(context: Context, started: StartedRun) -> None:
    """Raise BadInput if the configuration has changed: half of the run would be assessed by each.

    The digest is of the settings as the code reads them, so that an update of the code may change it too.
    """
    if context.configuration.digest == started.config_digest:
        return
    version = code_version()
    updated = "" if version == started.version else f" (or the code: {started.version} is now {version})"
    raise BadInput(
        f"the configuration{updated} has changed since run {context.run_id} began; the next run uses it"
    )


def _usage(context: Context) -> StepUsage:
    return StepUsage(dict(context.stages), context.aws.calls.as_dict())


def _include(context: Context, usage: StepUsage) -> None:
    for stage, seconds in usage.stages.items():
        context.stages[stage] = context.stages.get(stage, 0.0) + seconds
    context.aws.calls.include(usage.calls)
