"""`rollback`: removes what runs added, function by function."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pandas as pd

from auto_defender.context import Context
from auto_defender.job_result import ROLLBACK_INCOMPLETE, JobResult, rollback_rows
from auto_defender.jobs.run import finish
from auto_defender.stages.observe import nothing_observed
from auto_defender.stages.served_versions import served_versions
from remediator.change.records import UNKNOWN, Undo
from remediator.execution.rollback import refuse_unknown, rollback
from remediator.journal.selection import Selection, select
from remediator.journal.upgrade import awaits_upgrade, upgrade
from remediator.rollout.lock import RunLock
from remediator.rollout.lock_wait import POLL_SECONDS, awaited_lock
from remediator.state.store import STOP
from reports.run_files import begin_run
from scanner.core.errors import BadInput, GuardStop, InternalError

log = logging.getLogger(__name__)


def roll_back(
    context: Context,
    selection: Selection,
    apply: bool,
    *,
    wait: bool = False,
    stop: bool = False,
    poll_seconds: float = POLL_SECONDS,
) -> JobResult:
    """Roll changes back, or show in a dry run what would be rolled back.

    wait: for a run under way, until its lock is free. stop: put state/stop, which ends its changes, and wait; the file
    stays. poll_seconds: how often the lock is tried.
    """
    store, undos = context.store, list[Undo]()
    if not awaits_upgrade(store):
        undos = _selected(context, selection)  # a typo ends here, before anything is written
    elif not apply:
        raise BadInput(
            f"{store.url('runs')}: written by an earlier release; a run or a rollback with --apply takes it over first"
        )
    if stop:
        _put_stop(context)
    with _lock(context, apply, wait=wait or stop, poll_seconds=poll_seconds) as lock:
        if lock is not None:
            begin_run(store, context.run_id, context.mode)
            upgrade(context.journals, context.run_id)
            undos = _selected(context, selection)  # again: a run has gone on until then
        with context.writing("rollback"):
            done = rollback(
                undos,
                context.aws,
                context.configuration.defender,
                journals=context.journals,
                run_id=context.run_id,
                lock=lock,
                stop=context.stop,
                deadline=context.deadline,
                progress=context.display.changed,
            )
    with context.stage("aliases"):
        aliases, defect = _served(context, undos)
    changes = done.changes.assign(aliases=done.changes["function_arn"].map(aliases).astype("str"))
    result = finish(
        context,
        nothing_observed(context),
        changes,
        stopped=done.stopped_by,
        cut_short=done.cut_short,
        notify=apply,
        defect=defect,
    )
    stop_left = store.url(STOP) if stop else None
    refused = context.journals.refused
    summary = {
        **result.summary,
        "rollback": rollback_rows(changes),
        "stop_left": stop_left,
        "refused": refused,
    }
    notes = [f"refused        {problem}" for problem in refused]
    notes += [] if apply else ["dry run: nothing was changed; --apply rolls back"]
    notes += [_still_stopped(stop_left)] if stop_left else []
    code = result.exit_code
    if code == 0 and _doubtful(selection, changes, refused):
        code = summary["exit_code"] = ROLLBACK_INCOMPLETE
    return replace(result, summary=summary, text="\n".join([result.text, *notes]), exit_code=code)


def _selected(context: Context, selection: Selection) -> list[Undo]:
    """Return what is to be removed by what the journals, and AWS about functions that they do not know, say now."""
    settings, journals = context.configuration, context.journals
    undos = select(journals, selection, [wave.name for wave in settings.rollout.waves])
    refuse_unknown(undos, context.aws, settings.defender, journals.refused, context.deadline)
    return undos


def _doubtful(selection: Selection, changes: pd.DataFrame, refused: Sequence[str]) -> bool:
    """Return whether what is refused of the journals may be about what was asked for: more of it is on a function."""
    of_runs = any(f"/{run_id}/" in problem for run_id in selection.runs for problem in refused)
    carrying = selection.by_journals or bool((changes["layer_after"] != "").any())
    return of_runs or (bool(refused) and carrying)


def _served(context: Context, undos: Sequence[Undo]) -> tuple[dict[str, str], InternalError | None]:
    """Return the aliases' column by ARN; with a defect, which must not cost the report of what was changed."""
    try:
        return served_versions(context, undos), None
    except InternalError as error:
        return {undo.function_arn: f"{UNKNOWN}: {error}" for undo in undos}, error


@contextmanager
def _lock(context: Context, apply: bool, *, wait: bool, poll_seconds: float) -> Iterator[RunLock | None]:
    """Take the lock; a dry run takes none, and only says which run has it."""
    if not apply:
        _say_who_runs(context)
        yield None
        return
    with ExitStack() as stack:
        if wait:
            awaited = awaited_lock(
                context.store,
                context.run_id,
                stop=context.stop,
                deadline=context.deadline,
                poll_seconds=poll_seconds,
                clock=context.clock,
            )
            yield stack.enter_context(awaited)
        else:
            yield _taken_now(context, stack)


def _taken_now(context: Context, stack: ExitStack) -> RunLock:
    try:
        return stack.enter_context(RunLock(context.store, context.run_id, clock=context.clock))
    except GuardStop as held:
        options = "--wait waits until it has ended, --stop makes it stop first"
        raise GuardStop(held.guard, held.why, f"{held.how_to_go_on}. Or: {options}") from held


def _say_who_runs(context: Context) -> None:
    held = RunLock(context.store, context.run_id, clock=context.clock).held_by()
    if held and context.clock.now() < held[1]:
        log.warning("run %s is under way: with --apply, add --wait or --stop", held[0])


def _put_stop(context: Context) -> None:
    """Put state/stop where it is not there already; it stays, for its deletion is a human's decision."""
    if context.store.read(STOP) is None:
        now = context.clock.now().isoformat(timespec="seconds")
        note = f"put by rollback --stop, run {context.run_id}, {now}\n"
        context.store.write(STOP, note.encode(), "text/plain")
    log.warning(
        "the run under way, if any, makes no further change; %s", _still_stopped(context.store.url(STOP))
    )


def _still_stopped(url: str) -> str:
    command = "aws s3 rm" if url.startswith("s3://") else "rm"
    return f"state/stop is on: no run changes anything until it is deleted: {command} {shlex.quote(url)}"
