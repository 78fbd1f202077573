"""`explain`: one function, read now, and every check of it."""

from dataclasses import asdict
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.endings import Ending
from remediator.drifted import Drifted, tell_drift
from remediator.holds import Holds, holds_on
from remediator.plan import configuration_digest, make_plan
from scanner.arns import FunctionArn
from scanner.calls import Throttled, TimedOut, Unreachable, describe, error_code
from scanner.errors import BadInput
from scanner.explain import Finding, explain
from scanner.frame import frame_of
from scanner.risk import assess_risk
from scanner.tags import add_tags
from scanner.utilization import add_utilization


def explain_function(context: Context, text: str) -> Ending:
    """Read one function and explain its verdict; BadInput where it can't be read."""
    arn = FunctionArn.parse(text)
    if arn is None:
        raise BadInput(
            f"{text!r} is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME, no version"
        )
    settings, today = context.configuration, datetime.now(UTC).date()
    functions = frame_of(
        [_read(context, arn)], arn.partition, arn.account_id, arn.region, settings.defender.variable_names
    )
    functions = add_tags(functions, context.aws, context.rules, settings.sweep)
    assessed = assess_risk(functions, context.rules, today)
    if settings.risk.utilization.enabled:
        functions = add_utilization(assessed, context.aws, settings.risk.utilization, settings.sweep)
        assessed = assess_risk(functions, context.rules, today)
    findings = explain(assessed, context.rules, today)
    row = assessed.iloc[0]
    digest = configuration_digest(settings.defender, settings.risk, settings.rollout)
    holds = holds_on(
        assessed,
        settings.defender,
        store=context.store,
        partition=arn.partition,
        config_digest=digest,
        own_function=None,
    )
    plan = make_plan(
        assessed,
        settings.defender,
        settings.rollout,
        run_id=context.run_id,
        now=datetime.now(UTC).replace(microsecond=0),
        partition=arn.partition,
        config_digest=digest,
        hold=holds.hold,
    )
    change = asdict(plan.changes[0]) if plan.changes else None
    drift = tell_drift(holds.lost, assessed, context.aws, settings.defender, settings.sweep)
    summary = {
        "function_arn": text,
        "protection": row["protection"],
        "verdict": row["verdict"],
        "reasons": [code for code in row["reasons"].split(";") if code],
        "checks": [asdict(finding) for finding in findings],
        "change": change,
        "held_back": holds.hold.get(text),
        "drift": asdict(drift[0]) if drift else None,
    }
    head = f"{text}\n{row['protection']}, verdict: {row['verdict']}\n"
    would = [f"would {change['action']}: layers {' '.join(change['after']['layers'])}"] if change else []
    return Ending(
        summary, "\n".join([head, *map(_line, findings), *would, *_refused(text, holds), *map(_drift, drift)])
    )


def _refused(arn: str, holds: Holds) -> list[str]:
    return [f"held back, AWS has refused it: {holds.refused[arn].detail}"] if arn in holds.refused else []


def _drift(drifted: Drifted) -> str:
    times = "once" if drifted.times == 1 else f"{drifted.times} times"
    lost = f"it lost the Defender that a run gave it, {times}; last given by run {drifted.run_id}"
    if not drifted.given_up:
        return lost
    if not drifted.snippet:
        return f"{lost}; given up: {drifted.detail}"
    return f"{lost}; given up. To make it permanent, put this into its template ({drifted.tool}):\n{drifted.snippet}"


def _line(finding: Finding) -> str:
    mark = {True: "passed", False: "FAILED", None: "unknown"}[finding.passed]
    remedy = f"\n         {finding.remedy}" if finding.remedy else ""
    return f"{mark:<7}  {finding.title}: {finding.value} (wanted: {finding.threshold}){remedy}"


def _read(context: Context, arn: FunctionArn) -> dict[str, object]:
    try:
        return context.aws.call(
            arn.account_id, arn.region, "lambda", "get_function_configuration", FunctionName=str(arn)
        )
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            raise BadInput(f"{arn}: no such function") from None
        raise BadInput(f"{arn}: could not be read: {describe(error)}") from None
    except (Throttled, TimedOut, Unreachable) as error:
        raise BadInput(f"{arn}: could not be read: {error}") from None
