"""Checks of the state in the store: the kill switch, the lock, open journals, the quarantine."""

from collections.abc import Iterator
from datetime import UTC, datetime

from auto_defender.context import Context
from auto_defender.doctor.finding import Finding
from remediator.journal.journal import open_runs
from remediator.rollout.guards import check_kill_switch
from remediator.rollout.lock import RunLock
from scanner.core.errors import AutoDefenderError, GuardStop


def state(context: Context) -> Iterator[Finding]:
    """Yield a finding for each; what keeps a run from writing is a warning, because it may be intended."""
    yield _kill_switch(context)
    try:
        yield _lock(context)
    except AutoDefenderError as error:
        yield Finding("problem", "lock", str(error), "No run can write until then.")
    yield _open_runs(context)
    count = len(context.quarantine)
    yield Finding("ok", "quarantine", f"{count} functions are left alone" if count else "empty")


def _kill_switch(context: Context) -> Finding:
    try:
        check_kill_switch(context.store)
        for check in context.switches:
            check()
    except GuardStop as stop:
        return Finding("warning", "kill switch", f"on: {stop.why}", f"{stop.how_to_go_on}.")
    return Finding("ok", "kill switch", "off")


def _lock(context: Context) -> Finding:
    held = RunLock(context.store, context.run_id).held_by()
    if held is None:
        return Finding("ok", "lock", "free")
    run_id, until = held
    if until < datetime.now(UTC):
        return Finding("ok", "lock", f"run {run_id} ended without releasing it; the next run takes it over")
    return Finding("ok", "lock", f"run {run_id} is under way; its lock is valid until {until:%H:%M:%S} UTC")


def _open_runs(context: Context) -> Finding:
    runs = open_runs(context.store)
    if not runs:
        return Finding("ok", "journals", "all closed")
    remedy = "Nothing to do: the next run that writes reads their outcome before it begins anything."
    return Finding("warning", "journals", f"changes of {', '.join(runs)} are not settled", remedy)
