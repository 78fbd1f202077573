"""The last look before a change: the risk engine on what was just read, the merge, and the intent in the journal."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from remediator.change.batcher import Batches, Wait
from remediator.change.delta import DeltaConflict, State, add_delta, plan_delta
from remediator.change.update import Configuration, busy, revision_of, state_of
from remediator.journal.journal import Intent, Outcome
from remediator.plan.plan import Change, desired_state
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import Tag


@dataclass(frozen=True)
class Refusal:
    """The change is not made."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Ready:
    """The change may be sent: its intent is durable, and `after` is what the function is to carry."""

    intent: Intent
    after: State


@dataclass(frozen=True)
class _Question:
    change: Change
    intent_id: str
    configuration: Configuration
    facts: Sequence[tuple[Any, ...]]
    tags: Mapping[str, str]


class ChangeValidator:
    """Decides over fresh reads, in batches: one frame, one assessment and one journal write for all that wait."""

    def __init__(
        self,
        rules: Rules,
        run_id: str,
        intend: Callable[[Sequence[Intent]], None],
        today: date,
        *,
        approved: bool,
    ) -> None:
        """Take the rules of the run, and what makes intents durable before they are given out.

        approved: a saved plan, which no function that has changed since falls under.
        """
        self._rules = rules.for_reread()
        self._run_id = run_id
        self._intend = intend
        self._today = today
        self._approved = approved
        self._batches = Batches(self._decide)

    @property
    def needs_tags(self) -> bool:
        """Tell whether `ask` wants a function's tags."""
        return self._rules.need_tags

    def ask(
        self, change: Change, intent_id: str, configuration: Configuration, tags: Mapping[str, str]
    ) -> Generator[Wait, None, Ready | Refusal]:
        """Decide over one change; yield what to wait for.

        Raises WrongAccount and BrokenAnswer for an answer that can't be trusted.
        """
        why = busy(configuration)
        if why:
            return Refusal("deferred", why)
        if self._approved and revision_of(configuration) != change.revision_id:
            return Refusal("dropped", "the function has changed since the plan was made")
        read = facts(
            [configuration],
            self._rules.partition,
            change.account_id,
            change.region,
            self._rules.defender.variable_names,
        )
        return (yield from self._batches.ask(_Question(change, intent_id, configuration, read, tags)))

    def _decide(self, questions: Sequence[_Question]) -> list[Ready | Refusal]:
        answers = [
            self._answer(question, row)
            for question, row in zip(questions, self._assessed(questions), strict=True)
        ]
        self._intend([answer.intent for answer in answers if isinstance(answer, Ready)])
        return answers

    def _assessed(self, questions: Sequence[_Question]) -> list[dict[Any, Any]]:
        frame = FunctionsFrame(self._rules.partition, self._rules.defender.variable_names)
        for question in questions:
            frame.add(question.change.account_id, question.change.region, question.facts)
        functions = frame.finish()
        if self._rules.need_tags:
            functions = functions.assign(
                required_tag=[_has(question.tags, self._rules.require_tag) for question in questions],
                optout_tag=[_has(question.tags, self._rules.optout_tag) for question in questions],
                tags_read=True,
            )
        columns = ["verdict", "reasons", "family", "layers", "exec_wrapper", "env_names"]
        rows: list[dict[Any, Any]] = assess_risk(functions, self._rules, self._today)[columns].to_dict(
            "records"
        )
        return rows

    def _answer(self, question: _Question, row: Mapping[Any, Any]) -> Ready | Refusal:
        change = question.change
        if row["verdict"] != "eligible":
            why = f" ({row['reasons']})" if row["reasons"] else ""
            return Refusal("dropped", f"on a fresh read its verdict is {row['verdict']}{why}")
        family = row["family"]
        ours = desired_state(self._rules.defender, family, change.region, change.account_id)
        if family != change.family or str(ours.layer) != change.layer:
            return Refusal("dropped", "its runtime has changed since the plan was made")
        values = self._rules.defender.variables_for(
            family, change.function_name, change.region, change.account_id
        )
        before = state_of(question.configuration)
        names = [name for name in row["env_names"].split(";") if name]
        try:
            delta = plan_delta(before.layers, row["exec_wrapper"], names, ours)
            after = add_delta(before, delta, values)
        except DeltaConflict as error:
            return Refusal("dropped", f"on a fresh read it does not fit ({error})")
        intent = Intent(
            id=question.intent_id,
            run_id=self._run_id,
            action=change.action,
            account_id=change.account_id,
            region=change.region,
            function_name=change.function_name,
            function_arn=change.function_arn,
            family=family,
            revision_id=revision_of(question.configuration),
            delta=delta,
            layers_before=before.layers,
            wrapper_before=row["exec_wrapper"],
            wave=change.wave,
        )
        return Ready(intent, after)


def _has(tags: Mapping[str, str], tag: Tag | None) -> bool:
    return tag is not None and tags.get(tag.key) == tag.value
