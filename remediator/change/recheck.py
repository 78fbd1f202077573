"""The check right before a change: the risk engine on what was just read, the delta, and the intent in the journal."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from remediator.change.batcher import Batches, Wait
from remediator.change.delta import (
    Delta,
    DeltaAbsent,
    DeltaConflict,
    State,
    add_delta,
    deltas_of_ours,
    plan_delta,
    remove_deltas,
)
from remediator.change.desired_state import desired_state, ours_on
from remediator.change.records import Change, Intent, Outcome
from remediator.change.update import Configuration, busy, modified_within, revision_of, state_of
from scanner.core.clock import Clock
from scanner.core.settings import Tag
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules


@dataclass(frozen=True)
class Refusal:
    """The change is not made. lasting: a try soon afterwards would meet the same reason."""

    outcome: Outcome
    detail: str
    lasting: bool = False


@dataclass(frozen=True)
class Ready:
    """The change may be sent: its intent is durable, and `after` is what the function is to carry."""

    intent: Intent
    after: State


@dataclass(frozen=True)
class _Request:
    change: Change
    intent_id: str
    configuration: Configuration
    facts: Sequence[tuple[Any, ...]]
    tags: Mapping[str, str]


class ChangeValidator:
    """Validates changes against fresh reads, in batches: one frame, one assessment and one journal write for all that wait."""

    def __init__(
        self,
        rules: Rules,
        run_id: str,
        record_intents: Callable[[Sequence[Intent]], None],
        clock: Clock,
        *,
        approved: bool,
        quiet: timedelta,
    ) -> None:
        """Take the rules of the run, and what makes intents durable before they are returned.

        approved: a saved plan, which holds only for functions that have not changed since. quiet: how long nobody may have
        modified a function before it is changed.
        """
        self._rules = rules.for_reread()
        self._run_id = run_id
        self._record_intents = record_intents
        self._clock = clock
        self._approved = approved
        self._quiet = quiet
        self._batches = Batches(self._decide)

    @property
    def needs_tags(self) -> bool:
        """Return whether `validate` needs a function's tags."""
        return self._rules.need_tags

    def validate(
        self, change: Change, intent_id: str, configuration: Configuration, tags: Mapping[str, str]
    ) -> Generator[Wait, None, Ready | Refusal]:
        """Validate one change; yield what to wait for.

        Raises WrongAccount and BrokenAnswer for an answer that can't be trusted.
        """
        why = busy(configuration)
        if why:
            return Refusal("deferred", why, lasting=configuration.get("State") == "Failed")
        if self._approved and revision_of(configuration) != change.revision_id:
            return Refusal("dropped", "the function has changed since the plan was made")
        if why := modified_within(configuration, self._quiet, self._clock.now()):
            return Refusal("deferred", why)
        read = facts(
            [configuration],
            self._rules.partition,
            change.account_id,
            change.region,
            self._rules.defender.watched_variables,
        )
        return (yield from self._batches.ask(_Request(change, intent_id, configuration, read, tags)))

    def _decide(self, requests: Sequence[_Request]) -> list[Ready | Refusal]:
        answers = [
            self._answer(request, row)
            for request, row in zip(requests, self._assessed(requests), strict=True)
        ]
        self._record_intents([answer.intent for answer in answers if isinstance(answer, Ready)])
        return answers

    def _assessed(self, requests: Sequence[_Request]) -> list[dict[Any, Any]]:
        frame = FunctionsFrame()
        for request in requests:
            frame.add(request.change.account_id, request.change.region, request.facts)
        functions = frame.finish()
        if self._rules.need_tags:
            functions = functions.assign(
                required_tag=[_has(request.tags, self._rules.require_tag) for request in requests],
                optout_tag=[_has(request.tags, self._rules.optout_tag) for request in requests],
                tags_read=True,
            )
        columns = ["verdict", "reasons", "family", "exec_wrapper", "env_names", "env_different", "remove"]
        rows: list[dict[Any, Any]] = assess_risk(functions, self._rules, self._clock.now().date())[
            columns
        ].to_dict("records")
        return rows

    def _answer(self, request: _Request, row: Mapping[Any, Any]) -> Ready | Refusal:
        change = request.change
        if change.action == "remove":
            return self._removal(request, row)
        if row["verdict"] != "eligible":
            why = f" ({row['reasons']})" if row["reasons"] else ""
            return Refusal("dropped", f"on a fresh read its verdict is {row['verdict']}{why}", lasting=True)
        family = row["family"]
        ours = desired_state(self._rules.defender, family, change.region, change.account_id)
        if family != change.family or str(ours.layer) != change.layer:
            return Refusal("dropped", "its runtime has changed since the plan was made", lasting=True)
        values = self._rules.defender.variables_for(
            family, change.function_name, change.region, change.account_id
        )
        before = state_of(request.configuration)
        names, different = (row[column].split(";") for column in ("env_names", "env_different"))
        try:
            delta = plan_delta(before.layers, row["exec_wrapper"], names, ours, list(filter(None, different)))
            after = add_delta(before, delta, values)
        except DeltaConflict as error:
            return Refusal("dropped", f"on a fresh read it does not fit ({error})", lasting=True)
        return Ready(self._intent(request, row, (delta,)), after)

    def _removal(self, request: _Request, row: Mapping[Any, Any]) -> Ready | Refusal:
        change, before = request.change, state_of(request.configuration)
        going = set(change.before.variables).difference(change.after.variables)
        anything = ours_on(self._rules.defender, change.region, change.account_id, change.function_name)
        ours = anything.only(going)
        try:
            deltas = deltas_of_ours(before, ours) if row["remove"] else ()
        except DeltaAbsent as error:
            return Refusal("dropped", f"on a fresh read: {error}", lasting=True)
        if not deltas:
            why = "on a fresh read it carries nothing of ours, or no entry of the opt-out file says to remove it"
            return Refusal("dropped", why)
        return Ready(self._intent(request, row, deltas), remove_deltas(before, deltas, ours.variables))

    def _intent(self, request: _Request, row: Mapping[Any, Any], deltas: tuple[Delta, ...]) -> Intent:
        change, removes = request.change, request.change.action == "remove"
        return Intent(
            id=request.intent_id,
            run_id=self._run_id,
            action=change.action,
            account_id=change.account_id,
            region=change.region,
            function_name=change.function_name,
            function_arn=change.function_arn,
            family=change.family,
            revision_id=revision_of(request.configuration),
            delta=deltas[0],
            layers_before=state_of(request.configuration).layers,
            wrapper_before=row["exec_wrapper"],
            untag=removes and any(delta.installs for delta in deltas),
            wave=change.wave,
            deltas=deltas if removes else (),
        )


def _has(tags: Mapping[str, str], tag: Tag | None) -> bool:
    return tag is not None and tags.get(tag.key) == tag.value
