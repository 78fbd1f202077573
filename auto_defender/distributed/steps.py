"""The hourly job in three steps, one invocation each: begin it, sweep a batch of accounts, merge the batches.

The batches only read, with sessions that can't write. Everything that changes a function or has a limit (the plan, the
changes, the breaker, the journal) is in the last step: one process does it, as in a run of one process.
"""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
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
from auto_defender.jobs.observe import nothing_observed, observe_accounts, organization_accounts
from auto_defender.jobs.run import conclude, resolve, run_lock
from auto_defender.observation import Observation
from remediator.change.records import ChangeResult, ChangeRow
from remediator.execution.apply import ApplyResult
from remediator.execution.results import changes_frame
from remediator.journal.journal import Entry
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
    """
    if not context.store.url("state").startswith("s3://"):
        raise BadInput("a state machine reads its batches from S3: make the key 'output' s3://bucket/prefix")
    with run_lock(context, "first") as lock:
        resolved = resolve(context, lock)
        accounts = organization_accounts(context)
        started = StartedRun(
            version=code_version(),
            mode=context.mode,
            config_digest=context.configuration.digest,
            accounts=accounts,
            batches=_batches(accounts, batch_size),
            resolved=resolved,
            usage=_usage(context),
        )
        address = _parts(context).write_started(started)
    bucket, _, key = address.removeprefix("s3://").partition("/")
    log.info("%d batches of up to %d accounts", len(started.batches), batch_size)
    return {"run_id": context.run_id, "bucket": bucket, "manifest": key, "stopped": {"Error": ""}}


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


def merge(context: Context, stopped: str) -> JobResult:
    """Merge the batches' results, then continue as a run of one process does after its sweep.

    stopped: why the state machine stopped the batches, in which case nothing is changed; "" where it did not. Units
    of a batch without a result are `timed_out`, of one that failed `error`; the accounts of a batch that another version
    of the code swept are swept again. Raise InternalError where a batch had one.

    May be called again: after its end it returns its result again and does nothing else; after a kill it resumes the
    lock and the journal of its run.
    """
    parts = _parts(context)
    return parts.ending() or _keep(parts, _merge(context, parts, stopped))


def _merge(context: Context, parts: Parts, stopped: str) -> JobResult:
    started = parts.started()
    writes = started.mode == context.mode == "apply"
    concluding = replace(context, mode="apply" if writes else "dry_run")
    guard = GuardStop("tolerated_failures", stopped, _AFTER_FAILURES) if stopped else None
    with _lock_of(context, started, "last") as lock:
        _check_configuration(context, started)
        observed = _observed(concluding, started, parts)
        writing = lock if writes else None
        return conclude(concluding, observed, _resolved(concluding, started, writing), writing, guard)


def _keep(parts: Parts, result: JobResult) -> JobResult:
    """Keep the result for the case that its answer is lost, and delete what led to it.

    The run has ended and is reported: a store that refuses either costs a warning.
    """
    try:
        parts.write_ending(result)
        parts.clear()
    except StoreFailed as error:
        log.warning("the run has ended; its steps' files are left to a later run: %s", error)
    return result


def _resolved(context: Context, started: StartedRun, lock: RunLock | None) -> ApplyResult:
    """Return what the first step resolved, and what an earlier, killed call of the last step changed or left open."""
    first = started.resolved
    if lock is None or not (entries := context.journals.open(context.run_id).entries):
        return first
    made = _made(entries)
    left_open = resolve(context, lock)
    return ApplyResult(
        pd.concat([first.changes, made, left_open.changes], ignore_index=True),
        first.stopped_by or left_open.stopped_by,
        first.cut_short or left_open.cut_short,
    )


def _made(entries: Iterable[Entry]) -> pd.DataFrame:
    """Return the changes frame of what was made; what failed is tried again, and gets its row from that."""
    return changes_frame(
        ChangeRow(
            entry.intent, ChangeResult(entry.outcome.outcome, entry.outcome.detail, entry.outcome.attempts)
        )
        for entry in entries
        if entry.outcome is not None and entry.outcome.outcome in {"changed", "rolled_back"}
    )


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
    settle_without_calls(ledger, accounts, regions_of, context.optouts, datetime.now(UTC).date())
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
    return RunLock(context.store, context.run_id, step=step) if started.mode == "apply" else nullcontext()


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
