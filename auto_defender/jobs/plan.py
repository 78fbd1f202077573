"""`plan`: writes a plan of what a run would change, for approval."""

import json

from auto_defender.context import Context
from auto_defender.job_result import JobResult, exit_code
from auto_defender.jobs.run import preflighted
from auto_defender.stages.health import watch
from auto_defender.stages.observe import observe
from auto_defender.stages.planning import plan_run
from remediator.plan.plan_file import MAX_PLAN_BYTES
from scanner.core.errors import BadInput
from storage.address import local_path


def write_plan(context: Context, out: str) -> JobResult:
    """Sweep, assess, and write the plan to a file; nothing else is written."""
    path = local_path(out, "--out")
    if not path.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {path.parent}")
    observed = observe(context)
    planned = plan_run(context, observed, watch(context, observed, None))
    plan = planned.plan
    document = plan.to_json()
    if len(document) > MAX_PLAN_BYTES:
        raise BadInput(
            f"--out {out}: {len(plan.changes):,} changes are too many; lower rollout.max_changes_per_run"
        )
    changes = preflighted(context, planned)
    try:
        path.write_bytes(document)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}") from None
    rejected = changes[changes["outcome"] != "planned"]
    lines = [
        f"would not be made: {arn}: {why}"
        for arn, why in zip(rejected["function_arn"], rejected["detail"], strict=True)
    ]
    text = "\n".join([plan.summary(), *lines, f"written to {path}"])
    return JobResult(json.loads(document), text, exit_code(observed.units, observed.functions, changes, None))
