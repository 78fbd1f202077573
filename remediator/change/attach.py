"""Attaches the Defender to one function, or removes it from one that opted out: a generator that yields the seconds to wait."""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from remediator.change.api_errors import CALL_ERRORS, classify_error
from remediator.change.batcher import Wait
from remediator.change.context import ChangeContext
from remediator.change.delta import Delta, State, are_without, has_delta
from remediator.change.recheck import ChangeValidator, Ready, Refusal
from remediator.change.records import Change, ChangeResult, Intent, OutcomeRecord
from remediator.change.settlement import Settlement, Steps, refused
from remediator.change.update import (
    Configuration,
    Effect,
    Function,
    Update,
    send,
    state_of,
    verify_outcome,
)

# Another deployment came between read and update: read once more, then leave it to the next run.
_READS = 2
_STOPPED = "the run was stopped before it was sent"


@dataclass(frozen=True)
class AttachContext:
    """What all changes of a plan share.

    record_outcomes: writes outcomes to the journal. own_function: the ARN of the function that this runs in.
    """

    run: ChangeContext
    validator: ChangeValidator
    record_outcomes: Callable[[Sequence[OutcomeRecord]], None]
    own_function: str | None


def attach(context: AttachContext, change: Change, name: str) -> Steps:
    """Make one change by the write protocol. name: the prefix of its intents' ids."""
    run = context.run
    if change.function_arn == context.own_function:
        return ChangeResult("dropped", "this is the function that Auto-Defender itself runs in")
    for attempt in range(1, _READS + 1):
        try:
            configuration, decision = yield from _decide(context, change, f"{name}.{attempt}")
        except CALL_ERRORS as error:
            return refused(classify_error(error), attempt - 1)
        if isinstance(decision, Refusal):
            return ChangeResult(decision.outcome, decision.detail, attempt - 1, lasting=decision.lasting)
        intent = decision.intent
        if run.stopping.is_set():
            return ChangeResult("deferred", _STOPPED, attempt - 1, intent)
        update = yield from send(Update(_effect(run, intent), configuration, decision.after, run.may_change))
        if attempt == _READS or update.error is None or update.error.kind != "concurrent_deploy":
            earlier = _replaced_values(configuration, intent.delta)
            return (yield from _settlement(run, intent, attempt, earlier).finish(update))
        context.record_outcomes([OutcomeRecord(intent.id, "deferred", str(update.error), attempt)])
        yield random.uniform(0.5, 2.0)  # noqa: S311 - spreads reads, keeps no secret
    raise AssertionError("the last attempt returns")


def _decide(
    context: AttachContext, change: Change, intent_id: str
) -> Generator[Wait, None, tuple[Configuration, Ready | Refusal]]:
    """Read the function and validate the change: what was read, and whether it may be sent."""
    if context.run.stopping.is_set():
        return {}, Refusal("deferred", _STOPPED)
    function = context.run.function(change)
    configuration = function.read()
    tags = tags_of(function) if context.validator.needs_tags else {}
    decision = yield from context.validator.validate(change, intent_id, configuration, tags)
    return configuration, decision


def resume_attach(run: ChangeContext, intent: Intent) -> Steps:
    """Find out how a change of a killed run ended, and finish it. It is not sent again; what AWS could not carry out is
    removed.
    """  # noqa: D205
    update = yield from verify_outcome(_effect(run, intent))
    return (yield from _settlement(run, intent, 1, {}).finish(update))


def _effect(run: ChangeContext, intent: Intent) -> Effect:
    values = run.values(intent)

    def is_done(state: State) -> bool | None:
        if intent.removes:
            return are_without(state, intent.all_deltas, values)
        return has_delta(state, intent.delta, values)

    return Effect(run.function(intent), is_done, run.on_accepted)


def _settlement(run: ChangeContext, intent: Intent, attempts: int, earlier: Mapping[str, str]) -> Settlement:
    return Settlement(run, intent, attempts, earlier)


def _replaced_values(configuration: Configuration, delta: Delta) -> Mapping[str, str]:
    """Return the values that a change replaces; secrets, kept in memory only until the change has settled."""
    variables = state_of(configuration).variables or {}
    return {name: variables[name] for name in delta.variables_changed if name in variables}


def tags_of(function: Function) -> Mapping[str, str]:
    """Return a function's tags."""
    tags: Mapping[str, str] = function.call("list_tags", Resource=function.arn).get("Tags", {})
    return tags
