"""The dry run's last look: what AWS would refuse, before a change board approves it. Nothing is written."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from remediator.api_errors import CALL_ERRORS, ApiError, told_apart
from remediator.changes import changes_frame, planned_detail
from remediator.collector import Collector, Progress
from remediator.ending import Ended, Steps
from remediator.guards import Guards
from remediator.judge import Judge, Refusal
from remediator.plan import Change, Plan
from remediator.protect import tags_of
from remediator.run import Run
from remediator.update import Aws, Function
from scanner.rules import Rules


def preflight(
    plan: Plan,
    aws: Aws,
    rules: Rules,
    *,
    stop: threading.Event | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
    threads: int = 32,
) -> pd.DataFrame:
    """Look at every change of a plan as apply would, and give the changes frame of the dry run.

    Each function is read again and judged again, which also shows whether its KMS key can be used; whether a code
    signing policy stands over it; and once an account-region, whether the layer can be had there. A change that
    would not be made is `dropped` or `deferred`, its detail begins with "preflight: "; the others are `planned`.
    """
    stopping = threading.Event()
    guards = Guards(())
    looking = _Looking(
        Run(aws, rules.defender, guards, stopping, deadline),
        Judge(rules, plan.run_id, lambda intents: None, datetime.now(UTC).date(), approved=False),
    )
    collector = Collector({}, guards, stopping, stop=stop, deadline=deadline, progress=progress)
    return changes_frame(
        collector.run(plan.changes, lambda number: _look(looking, plan.changes[number]), threads)
    )


@dataclass(frozen=True)
class _Looking:
    run: Run
    judge: Judge
    layers: dict[tuple[str, str], "Future[str]"] = field(default_factory=dict)
    asking: threading.Lock = field(default_factory=threading.Lock)

    def layer_refusal(self, function: Function, layer: str) -> str:
        """Say why a layer version can't be had in an account, "" where it can; AWS is asked once."""
        key = (function.account_id, layer)
        with self.asking:
            first = key not in self.layers
            told = self.layers.setdefault(key, Future())
        if first:
            try:
                told.set_result(_layer_refusal(function, layer))
            except BaseException as error:
                told.set_exception(error)
                raise
        return told.result()


def _layer_refusal(function: Function, layer: str) -> str:
    name, _, version = layer.rpartition(":")
    try:
        function.call("get_layer_version", LayerName=name, VersionNumber=int(version))
    except CALL_ERRORS as error:
        meaning = told_apart(error)
        if meaning.kind == "gone":
            meaning = ApiError(
                "layer_unavailable", "the layer version does not exist in this region", "failed"
            )
        return str(meaning)
    return ""


def _look(looking: _Looking, change: Change) -> Steps:
    function = looking.run.function(change)
    try:
        why = looking.layer_refusal(function, change.layer)
        if why:
            return _would_not(why)
        configuration = function.read()
        tags = tags_of(function) if looking.judge.needs_tags else {}
        decision = yield from looking.judge.ask(change, "", configuration, tags)
        if isinstance(decision, Refusal):
            return Ended(decision.outcome, f"preflight: {decision.detail}")
    except CALL_ERRORS as error:
        return _would_not(str(told_apart(error)))
    return _signing(function, planned_detail(change))


def _signing(function: Function, detail: str) -> Ended:
    """Look whether a code signing policy stands over a function; where nobody may look, say so and let it be."""
    try:
        answer = function.call("get_function_code_signing_config", FunctionName=function.arn)
    except CALL_ERRORS as error:
        return Ended(
            "planned", f"{detail}; not known whether a code signing policy refuses it: {told_apart(error)}"
        )
    if answer.get("CodeSigningConfigArn"):
        return _would_not("signature: a code signing policy stands over it and may refuse the layer")
    return Ended("planned", detail)


def _would_not(why: str) -> Ended:
    return Ended("dropped", f"preflight: {why}")
