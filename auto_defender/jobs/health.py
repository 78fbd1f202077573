"""The health watch within a run: what was changed lately is looked at before anything new is planned."""

from dataclasses import replace
from datetime import UTC, datetime

from auto_defender.context import Context
from auto_defender.jobs.observe import Observed
from remediator.rollout.guards import check_kill_switch, unread
from remediator.rollout.health_watch import Watched, breaker, look, take_back_regressed
from remediator.rollout.lock import RunLock
from scanner.core.errors import BadInput, GuardStop
from storage.store_base import StoreFailed


def watch(context: Context, observed: Observed, lock: RunLock | None) -> Watched:
    """Look at what was changed lately; under the lock, take back what regressed, unless a kill switch is on."""
    settings, now = context.configuration, datetime.now(UTC)
    with context.stage("health"):
        functions = look(
            context.aws,
            settings.rollout.health,
            settings.sweep,
            store=context.store,
            assessed=observed.functions,
            now=now,
            deadline=context.deadline,
        )
    watched, killed = Watched(functions), None
    if lock is not None and watched.regressed:
        killed = _killed(context)
        watched = watched if killed else _taken_back(context, watched, lock, now)
    return replace(watched, stopped_by=killed or watched.stopped_by or _breaker(context, watched, now))


def _breaker(context: Context, watched: Watched, now: datetime) -> GuardStop | None:
    try:
        return breaker(watched.functions, context.configuration.rollout.health, context.store, now)
    except (StoreFailed, BadInput) as error:
        if watched.changes.empty:
            raise
        return unread(error)


def _killed(context: Context) -> GuardStop | None:
    try:
        for check in (lambda: check_kill_switch(context.store), *context.switches):
            check()
    except GuardStop as stop:
        return stop
    return None


def _taken_back(context: Context, watched: Watched, lock: RunLock, now: datetime) -> Watched:
    settings = context.configuration
    with context.writing("health_rollback"):
        return take_back_regressed(
            watched.functions,
            context.aws,
            settings.defender,
            store=context.store,
            run_id=context.run_id,
            lock=lock,
            now=now,
            stop=context.stop,
            deadline=context.deadline,
        )
