"""Functions that lost the Defender: how often, and for those given up, the template lines that make it permanent."""

from collections.abc import Mapping

import pandas as pd

from auto_defender.stages.iac_snippets import snippet, tool_of
from remediator.change.api_errors import CALL_ERRORS, classify_error
from remediator.change.attach import tags_of
from remediator.change.desired_state import desired_state
from remediator.change.update import Function
from remediator.state.drift import ProtectionCount
from reports.data.rollout_status import DriftedFunction
from scanner.aws.caller import Aws
from scanner.core.arns import function_arns
from scanner.inventory.parallel import in_parallel
from scanner.settings import DefenderSettings, SweepSettings


def report_drift(
    lost: Mapping[str, ProtectionCount],
    assessed: pd.DataFrame,
    aws: Aws,
    defender: DefenderSettings,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> tuple[DriftedFunction, ...]:
    """Return every function that lost the Defender, most often first. Only the tags of those given up are read."""
    given_up = [arn for arn, one in lost.items() if one.given_up]
    rows = assessed[assessed["function_name"].isin([arn.rpartition(":")[2] for arn in given_up])]
    rows = rows.assign(function_arn=function_arns(rows, aws.partition))
    rows = rows[rows["function_arn"].isin(given_up)]
    families = dict(zip(rows["function_arn"], rows["family"].astype("str"), strict=True))
    functions = {
        row.function_arn: Function(aws, str(row.account_id), str(row.region), str(row.function_arn), deadline)
        for row in rows.itertuples(index=False)
    }
    advice = {
        arn: _advice(tags, functions[arn], families[arn], defender)
        for arn, tags in _tags(functions, aws, sweep, deadline).items()
    }
    drifted = [
        DriftedFunction(arn, one.times, one.run_id, one.at, one.given_up, *advice.get(arn, ("", "", "")))
        for arn, one in lost.items()
    ]
    return tuple(sorted(drifted, key=lambda one: (-one.times, one.function_arn)))


def _tags(
    functions: Mapping[str, Function], aws: Aws, sweep: SweepSettings, deadline: float | None
) -> dict[str, Mapping[str, str] | str]:
    """Read functions' tags, in parallel; where they could not be read, the reason as text."""
    found: dict[str, Mapping[str, str] | str] = {}
    for done in in_parallel(lambda arn: tags_of(functions[arn]), list(functions), aws, sweep, deadline):
        found[done.task] = _why(done.error) if done.error is not None else done.result or {}
    return found


def _why(error: BaseException) -> str:
    if isinstance(error, CALL_ERRORS):
        return str(classify_error(error))
    return "not read in time" if isinstance(error, TimeoutError) else type(error).__name__


def _advice(
    tags: Mapping[str, str] | str, function: Function, family: str, defender: DefenderSettings
) -> tuple[str, str, str]:
    if isinstance(tags, str):
        return "", "", f"its tags could not be read: {tags}"
    if family not in defender.layers:
        return "", "", "its runtime has no layer in the configuration"
    tool = tool_of(tags)
    ours = desired_state(defender, family, function.region, function.account_id)
    return tool, snippet(tool, ours), ""
