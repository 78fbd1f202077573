"""The health watch of a run: recently changed functions are checked before anything new is planned."""

from dataclasses import replace
from datetime import datetime

from auto_defender.context import Context
from auto_defender.observation import Observation
from remediator.execution.regressions import HealthReport, roll_back_regressed
from remediator.rollout.guards import check_kill_switch, state_unreadable
from remediator.rollout.health import breaker, observe_health
from remediator.rollout.lock import RunLock
from scanner.core.errors import BadInput, GuardStop
from storage.protocol import StoreFailed


def watch(context: Context, observed: Observation, lock: RunLock | None) -> HealthReport:
    """Check recently changed functions; under the lock, roll back what regressed, unless a kill switch is on."""
    settings, now = context.configuration, context.clock.now()
    with context.stage("health"):
        functions = observe_health(
            context.aws,
            settings.rollout.health,
            settings.sweep,
            journals=context.journals,
            assessed=observed.functions,
            now=now,
            deadline=context.deadline,
        )
    watched, stopped = HealthReport(functions), None
    if lock is not None and watched.regressed:
        stopped = _kill_switch(context)
        watched = watched if stopped else _rolled_back(context, watched, lock, now)
    return replace(watched, stopped_by=stopped or watched.stopped_by or _breaker(context, watched, now))


def _breaker(context: Context, watched: HealthReport, now: datetime) -> GuardStop | None:
    try:
        return breaker(watched.functions, context.configuration.rollout.health, context.store, now)
    except (StoreFailed, BadInput) as error:
        if watched.changes.empty:
            raise
        return state_unreadable(error)


def _kill_switch(context: Context) -> GuardStop | None:
    try:
        for check in (lambda: check_kill_switch(context.store), *context.switches):
            check()
    except GuardStop as stop:
        return stop
    return None


def _rolled_back(context: Context, watched: HealthReport, lock: RunLock, now: datetime) -> HealthReport:
    settings = context.configuration
    with context.writing("health_rollback"):
        return roll_back_regressed(
            watched.functions,
            context.aws,
            settings.defender,
            journals=context.journals,
            run_id=context.run_id,
            release=settings.release,
            lock=lock,
            now=now,
            stop=context.stop,
            deadline=context.deadline,
        )
