"""`plan` and `apply`: what a change board approves, and nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from auto_defender.context import Context
from auto_defender.job_result import JobResult, exit_code
from auto_defender.jobs.health import watch
from auto_defender.jobs.observe import nothing_observed, observe
from auto_defender.jobs.planning import plan_run
from auto_defender.jobs.run import applied_plan, finish, preflighted, resolve
from auto_defender.sources import read_source
from remediator.execution.apply import ApplyResult
from remediator.execution.results import put_off
from remediator.plan.plan import MAX_PLAN_BYTES, configuration_digest, read_plan
from remediator.rollout.guards import state_unreadable
from remediator.rollout.health_watch import HealthReport
from remediator.rollout.lock import RunLock
from reports.data.rollout_status import RolloutStatus
from scanner.core.errors import BadInput
from storage.store_base import StoreFailed


def write_plan(context: Context, out: str) -> JobResult:
    """Sweep, judge, and write the plan to a file; nothing else is written."""
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {path.parent}")
    observed = observe(context)
    intent = plan_run(context, observed, watch(context, observed, None))
    plan = intent.plan
    text = plan.to_json()
    if len(text) > MAX_PLAN_BYTES:
        raise BadInput(
            f"--out {out}: {len(plan.changes):,} changes are too many; lower rollout.max_changes_per_run"
        )
    changes = preflighted(context, intent)
    try:
        path.write_bytes(text)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}") from None
    refused = changes[changes["outcome"] != "planned"]
    lines = [
        f"would not be made: {arn}: {why}"
        for arn, why in zip(refused["function_arn"], refused["detail"], strict=True)
    ]
    told = "\n".join([plan.summary(), *lines, f"written to {path}"])
    return JobResult(json.loads(text), told, exit_code(observed.units, observed.functions, changes, None))


def apply_saved(context: Context, source: str) -> JobResult:
    """Make the changes of a saved plan; it is refused if it was edited, has expired, or fits another configuration.

    What was changed lately is looked at first, and can stop it; it takes nothing back, for nobody has approved that.
    """
    settings, observed = context.configuration, nothing_observed(context)
    plan = read_plan(
        read_source(source, context.session, "plan", MAX_PLAN_BYTES),
        source,
        now=datetime.now(UTC),
        config_digest=configuration_digest(settings.defender, settings.risk, settings.rollout),
    )
    with RunLock(context.store, context.run_id) as lock:
        resolved, watched = resolve(context, lock), HealthReport()
        try:
            context = context.with_quarantine_as_it_is()
            watched = watch(context, observed, None)
            stopped = watched.stopped_by
        except (StoreFailed, BadInput) as error:
            if resolved.changes.empty:
                raise
            stopped = state_unreadable(error)
        if stopped is not None:
            applied = ApplyResult(put_off(plan, stopped), stopped)
        else:
            applied = applied_plan(context, plan, lock, approved=True)
        return finish(
            context,
            observed,
            pd.concat([resolved.changes, applied.changes], ignore_index=True),
            plan,
            resolved.stopped_by or applied.stopped_by,
            RolloutStatus(health=watched.functions),
            cut_short=resolved.cut_short or applied.cut_short,
        )
