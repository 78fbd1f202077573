"""One change, from the fresh read to its end: a generator that yields the seconds to wait."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from remediator.change.api_errors import CALL_ERRORS, classify_error
from remediator.change.delta import has_delta
from remediator.change.recheck import ChangeValidator, Refusal
from remediator.change.run_context import ChangeContext
from remediator.change.settlement import ChangeResult, Settlement, Steps, refused
from remediator.change.update import Effect, Function, Update, send, verify_outcome
from remediator.journal.journal import Intent, Journal, OutcomeRecord
from remediator.plan.plan import Change

# Another deployment came between read and update: read once more, then leave it to the next run.
_READS = 2


@dataclass(frozen=True)
class AttachContext:
    """What all changes of a plan share. own_function: the ARN of the function that this runs in."""

    run: ChangeContext
    judge: ChangeValidator
    journal: Journal
    own_function: str | None


def attach(protecting: AttachContext, change: Change, name: str) -> Steps:
    """Make one change by the write protocol. `name`: what its intents' ids begin with."""
    run = protecting.run
    if change.function_arn == protecting.own_function:
        return ChangeResult("dropped", "this is the function that Auto-Defender itself runs in")
    function = run.function(change)
    for attempt in range(1, _READS + 1):
        if run.stopping.is_set():
            return ChangeResult("deferred", "the run was stopped before it was sent", attempt - 1)
        try:
            configuration = function.read()
            tags = tags_of(function) if protecting.judge.needs_tags else {}
            decision = yield from protecting.judge.ask(change, f"{name}.{attempt}", configuration, tags)
        except CALL_ERRORS as error:
            return refused(classify_error(error), attempt - 1)
        if isinstance(decision, Refusal):
            return ChangeResult(decision.outcome, decision.detail, attempt - 1)
        intent = decision.intent
        sent = yield from send(Update(_effect(run, intent), configuration, decision.after))
        if attempt == _READS or sent.error is None or sent.error.kind != "concurrent_deploy":
            return (yield from _sending(run, intent, attempt).end(sent))
        protecting.journal.settle([OutcomeRecord(intent.id, "deferred", str(sent.error), attempt)])
        yield random.uniform(0.5, 2.0)  # noqa: S311 - spreads reads, keeps no secret
    raise AssertionError("the last attempt returns")


def resume(run: ChangeContext, intent: Intent) -> Steps:
    """Find out what became of a change whose run was killed, and bring it to its end. Nothing is sent again."""
    sent = yield from verify_outcome(_effect(run, intent))
    return (yield from _sending(run, intent, 1).end(sent))


def _effect(run: ChangeContext, intent: Intent) -> Effect:
    return Effect(run.function(intent), lambda state: has_delta(state, intent.delta), run.taken)


def _sending(run: ChangeContext, intent: Intent, attempts: int) -> Settlement:
    return Settlement(run.function(intent), intent, run.values(intent), run.defender.tag, attempts)


def tags_of(function: Function) -> Mapping[str, str]:
    """Read a function's tags."""
    tags: Mapping[str, str] = function.call("list_tags", Resource=function.arn).get("Tags", {})
    return tags
