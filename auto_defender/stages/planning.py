"""Planning a run: the plan, what is held back and why, and the status of the waves."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from auto_defender.context import Context
from auto_defender.observation import Observation
from auto_defender.stages.drift import report_drift
from auto_defender.stages.notices import Announced, forget_changed, waiting_notices
from remediator.execution.apply import ApplyResult
from remediator.execution.regressions import HealthReport
from remediator.journal.history import variables_given
from remediator.plan.held_back import HeldBack, hold_back
from remediator.plan.notice import Noticed, check_notice
from remediator.plan.plan import Plan, make_plan
from remediator.rollout.guards import LIMITS, own_function, save_state
from remediator.rollout.health import FunctionHealth
from remediator.rollout.wave_progress import WaveProgress, observe_waves
from remediator.state.functions import FunctionRecord, Seen, after_seen, records, transitions
from reports.data.rollout_status import RolloutStatus
from scanner.core.arns import function_arns
from scanner.core.errors import GuardStop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """The plan, within the limits; the changes held back, and by the notice; the waves; the health watch that they
    depend on; and which known functions have gone or are back.
    """  # noqa: D205

    plan: Plan
    held_back: HeldBack
    noticed: Noticed
    waves: WaveProgress
    watched: HealthReport
    seen: tuple[Seen, ...]

    def record_seen(self, context: Context) -> None:
        """Write which functions have gone or are back, before anything about them: what is back begins anew."""
        context.journals.open(context.run_id).record(self.seen)

    def rollout_status(self, context: Context, observed: Observation, announced: Announced) -> RolloutStatus:
        """Return the waves, the health of changed functions, the drift and the announcements."""
        settings = context.configuration
        with context.stage("drift"):
            drift = report_drift(
                self.held_back.lost,
                observed.functions,
                context.aws,
                settings.defender,
                settings.sweep,
                context.deadline,
            )
        notices = (*announced.notices, *waiting_notices(self.noticed.waiting))
        return RolloutStatus(self.waves.status, self.watched.functions, drift, notices)

    def save_state(self, context: Context, made: ApplyResult) -> "tuple[PlannedRun, GuardStop | None]":
        """Save the waves after the run's changes, and forget announcements that were used; return the plan with the
        waves, and a GuardStop where that failed.
        """  # noqa: D205
        stopped = made.stopped_by is not None and made.stopped_by.guard not in LIMITS
        waves = self.waves.after(self.plan.changes, made.changes, stopped=stopped, late=self.noticed.late)
        saved: list[WaveProgress] = []
        failed = save_state(
            lambda: saved.append(waves.keep(context.journals, context.run_id)),
            lambda: forget_changed(context, made.changes),
        )
        return replace(self, waves=saved[0] if saved else waves), failed


def _transitions(
    context: Context, observed: Observation, known: Mapping[str, FunctionRecord], now: datetime
) -> tuple[Seen, ...]:
    """Return which known functions the sweep no longer shows, and which are back."""
    read = observed.units[observed.units["outcome"] == "read"]
    functions = observed.functions[
        observed.functions["account_id"].isin({arn.split(":")[4] for arn in known})
    ]
    found = transitions(
        known.values(),
        frozenset(function_arns(functions, context.aws.partition)),
        frozenset(zip(read["account_id"], read["region"], strict=True)),
        frozenset(observed.accounts["account_id"]),
        now.isoformat(),
    )
    for one in found:
        log.info(
            "account %s: %d functions have gone, %d are back", one.account_id, len(one.gone), len(one.back)
        )
    return tuple(found)


def plan_run(
    context: Context,
    observed: Observation,
    watched: HealthReport,
    made_before: Mapping[str, int] | None = None,
) -> PlannedRun:
    """Plan a change for every eligible function that may be changed now. made_before: as make_plan takes it."""
    settings, partition = context.configuration, context.aws.partition
    digest, now = settings.digest, context.clock.now().replace(microsecond=0)
    with context.stage("plan"):
        known = records(context.store)
        seen = _transitions(context, observed, known, now)
        for one in seen:
            known |= {record.function_arn: record for record in after_seen(known, one, now.isoformat())}
        held_back = hold_back(
            observed.functions,
            known=known,
            partition=partition,
            config_digest=digest,
            own_function=own_function(os.environ, partition, context.aws.central_account_id),
            now=now,
            regressed=[one.function_arn for one in watched.regressed],
        )
        waves = _waves(context, observed, watched.functions, held_back, now)
        marked = waves.marked(observed.functions)
        noticed = check_notice(
            marked,
            store=context.store,
            partition=partition,
            release=settings.release,
            period=settings.rollout.notice,
            held=held_back.guards.keys(),
            known=held_back.known,
            now=now,
        )
        plan = make_plan(
            marked,
            settings.defender,
            settings.rollout,
            run_id=context.run_id,
            now=now,
            partition=partition,
            config_digest=digest,
            guards={**held_back.guards, **noticed.guards},
            made_before=made_before,
            unannounced=noticed.unannounced,
            given=variables_given(context.journals, function_arns(marked[marked["remove"]], partition)),
        )
    return PlannedRun(plan, held_back, noticed, waves, watched, seen)


def _waves(
    context: Context,
    observed: Observation,
    health: Sequence[FunctionHealth],
    held_back: HeldBack,
    now: datetime,
) -> WaveProgress:
    settings = context.configuration
    return observe_waves(
        observed.functions,
        observed.accounts,
        observed.units,
        settings.rollout.waves,
        context.aws,
        settings.sweep,
        store=context.store,
        release=settings.release,
        health=health,
        held=held_back.guards.keys(),
        now=now,
        deadline=context.deadline,
    )
