"""The preflight of a dry run: what AWS would refuse, before a change board approves it. Nothing is written."""

import threading
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import starmap

import pandas as pd

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.attach import tags_of
from remediator.change.batcher import Wait, result_of
from remediator.change.context import ChangeContext
from remediator.change.recheck import ChangeValidator, Refusal
from remediator.change.records import Action, Change, ChangeResult, ChangeRow, Outcome
from remediator.change.settlement import Steps
from remediator.change.update import Aws, Function
from remediator.execution.executor import Executor, Progress
from remediator.execution.results import changes_frame, planned_detail
from remediator.plan.plan import Plan
from remediator.rollout.guards import Guards
from remediator.settings import RolloutSettings
from remediator.state.failures import Failure
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput, InternalError
from scanner.risk.rules import Rules


def preflight(
    plan: Plan,
    aws: Aws,
    rules: Rules,
    rollout: RolloutSettings,
    *,
    refused: Mapping[str, Failure] | None = None,
    stop: threading.Event | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Validate every change of a plan as apply would, and return the changes frame of the dry run.

    Each function is read and assessed again, which also shows whether its KMS key can be used; whether a code
    signing policy applies to it; and once an account-region, whether the layer is available there. A change that
    would not be made is `dropped` or `deferred`, its detail begins with "preflight: "; the others are `planned`.
    refused: by function ARN, what has failed and the plan holds back until its next try; reported in the same way.
    """
    stopping = threading.Event()
    guards = Guards(())
    checks = _Preflight(
        ChangeContext(aws, rules.defender, stopping, deadline),
        ChangeValidator(
            rules,
            plan.run_id,
            lambda intents: None,
            aws.clock,
            approved=False,
            quiet=rollout.quiet_time,
        ),
    )
    executor = Executor({}, guards, stopping, aws.clock, stop=stop, deadline=deadline, progress=progress)
    rows = executor.run(plan.changes, lambda number: _check(checks, plan.changes[number]))
    if executor.stopped_by:
        raise InternalError(executor.stopped_by.why)
    return changes_frame([*rows, *starmap(_refused_before, (refused or {}).items())])


@dataclass(frozen=True)
class _Refused:
    """A function that could not be changed, and whose next try is still to come."""

    account_id: str
    region: str
    function_name: str
    function_arn: str
    action: Action


def _refused_before(arn: str, failure: Failure) -> ChangeRow:
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"state/functions names '{arn}', which is no function ARN")
    of = _Refused(function.account_id, function.region, function.name, arn, failure.action)
    return ChangeRow(of, _would_not(f"{failure.says}; so it ended in run {failure.run_id}"))


@dataclass(frozen=True)
class _Preflight:
    run: ChangeContext
    validator: ChangeValidator
    layers: dict[tuple[str, str], "Future[ApiError | None]"] = field(default_factory=dict)

    def layer_refusal(self, function: Function, layer: str) -> Generator[Wait, None, ApiError | None]:
        """Return why a layer version is not available in an account, None where it is; AWS is asked once."""
        key = (function.account_id, layer)
        mine: Future[ApiError | None] = Future()
        answer = self.layers.setdefault(key, mine)
        if answer is mine:
            try:
                answer.set_result(_layer_refusal(function, layer))
            except BaseException as error:
                answer.set_exception(error)
                raise
        return (yield from result_of(answer))


def _layer_refusal(function: Function, layer: str) -> ApiError | None:
    name, _, version = layer.rpartition(":")
    try:
        function.call("get_layer_version", LayerName=name, VersionNumber=int(version))
    except CALL_ERRORS as error:
        meaning = classify_error(error)
        if meaning.kind == "gone":
            meaning = ApiError(
                "layer_unavailable", "the layer version does not exist in this region", "failed"
            )
        return meaning
    return None


def _check(checks: _Preflight, change: Change) -> Steps:
    function = checks.run.function(change)
    removes = change.action == "remove"
    try:
        if not removes and (refusal := (yield from checks.layer_refusal(function, change.layer))):
            return _not_checked(refusal)
        configuration = function.read()
        tags = tags_of(function) if checks.validator.needs_tags else {}
        decision = yield from checks.validator.validate(change, "", configuration, tags)
        if isinstance(decision, Refusal):
            return ChangeResult(decision.outcome, f"preflight: {decision.detail}")
    except CALL_ERRORS as error:
        return _not_checked(classify_error(error))
    detail = planned_detail(change)
    return ChangeResult("planned", detail) if removes else _signing(function, detail)


def _signing(function: Function, detail: str) -> ChangeResult:
    """Check whether a code signing policy applies to a function; where that can't be read, the detail says so."""
    try:
        answer = function.call("get_function_code_signing_config", FunctionName=function.arn)
    except CALL_ERRORS as error:
        return ChangeResult(
            "planned",
            f"{detail}; not known whether a code signing policy refuses it: {classify_error(error)}",
        )
    if answer.get("CodeSigningConfigArn"):
        return _would_not("signature: a code signing policy applies to it and may refuse the layer")
    return ChangeResult("planned", detail)


def _would_not(why: str, outcome: Outcome = "dropped") -> ChangeResult:
    return ChangeResult(outcome, f"preflight: {why}")


def _not_checked(error: ApiError) -> ChangeResult:
    """Report a refusal; one that may pass by itself defers the change."""
    return _would_not(str(error), "deferred" if error.outcome == "deferred" else "dropped")
