"""Holds each accepted write against what was promised: from the simulator's record alone, none of the code under test."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER
from tests.faults.random_organization import POLICY, POLICY_VARIABLE, WRAPPER, is_ours
from tests.faults.simulator import Write
from tests.unit.scanner.risk.oracle import Row, expected

OUR_VARIABLES = {EXEC_WRAPPER: WRAPPER, POLICY_VARIABLE: POLICY}
Layers = tuple[str, ...]


def layers_of(function: dict[str, Any]) -> Layers:
    return tuple(layer["Arn"] for layer in function.get("Layers", ()))


def variables_of(function: dict[str, Any]) -> dict[str, str] | None:
    return None if "Error" in function["Environment"] else dict(function["Environment"]["Variables"])


def of_others(layers: Layers) -> Layers:
    return tuple(arn for arn in layers if not is_ours(arn))


def of_us(layers: Layers) -> Layers:
    return tuple(arn for arn in layers if is_ours(arn))


def assessed(function: dict[str, Any], tags: dict[str, str], rules: Rules) -> Any:
    """Ask the oracle, which shares nothing with the risk engine."""
    _, _, _, region, account, *_ = function["FunctionArn"].split(":")
    return expected(Row(function, account, region, tags), rules, datetime.now(UTC).date())


@dataclass
class Truth:
    """What we are known to have put on each function, write by write, and every promise that a write broke."""

    added: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    carried_before: defaultdict[str, list[Layers]] = field(default_factory=lambda: defaultdict(list))
    violations: list[str] = field(default_factory=list)

    def take(self, write: Write, rules: Rules, *, rolling_back: bool, journal: str) -> None:
        """Check one write. journal: the run's, as it was when the write came in."""
        problems = list(_form(write)) + list(_others(write))
        if write.before["LastUpdateStatus"] == "Failed" or rolling_back:
            problems += self._taken_out(write)
        else:
            problems += _put_in(write, rules)
            self._remember(write)
        if write.before["LastUpdateStatus"] != "Failed" and not _announced(write, journal):
            problems.append("no intent in the journal for this revision")
        self.violations += [f"{write.run_id} {write.arn}: {problem}" for problem in problems]

    def _remember(self, write: Write) -> None:
        before, after = variables_of(write.before) or {}, variables_of(write.after) or {}
        self.added[write.arn] |= {name: after[name] for name in after.keys() - before.keys()}
        self.carried_before[write.arn].append(of_us(layers_of(write.before)))

    def _taken_out(self, write: Write) -> list[str]:
        before, after = variables_of(write.before), variables_of(write.after)
        problems = [
            f"the variable {name} is not ours to take"
            for name in (before or {}).keys() - (after or {}).keys()
            if self.added[write.arn].get(name) != (before or {})[name]
        ]
        if set(after or {}) - set(before or {}):
            problems.append("taking back adds variables")
        left = of_us(layers_of(write.after))
        if left != of_us(layers_of(write.before)) and left not in self.carried_before[write.arn]:
            problems.append(f"taking back leaves {left}, which was never there")
        return problems


def _form(write: Write) -> list[str]:
    problems = []
    if not write.asked.keys() <= {"Layers", "Environment", "RevisionId"}:
        problems.append(f"more was sent than ours: {sorted(write.asked)}")
    if write.asked.get("RevisionId") != write.before["RevisionId"]:
        problems.append("sent without the revision that was read")
    if len(layers_of(write.after)) > 5:
        problems.append("more than five layers")
    return problems


def _others(write: Write) -> list[str]:
    """What is the owner's must be there as before, whatever the write is for."""
    problems = []
    if of_others(layers_of(write.before)) != of_others(layers_of(write.after)):
        problems.append("a foreign layer was lost or reordered")
    before, after = variables_of(write.before), variables_of(write.after)
    if before is None:
        return [
            *problems,
            *(["an environment that nobody could read was sent"] if "Environment" in write.asked else []),
        ]
    for name, value in before.items():
        mine = name in OUR_VARIABLES and OUR_VARIABLES[name] == value
        if (after or {}).get(name) != value and not mine and not _set_as_configured(write, name):
            problems.append(f"the variable {name} was lost or changed")
    return problems


def _put_in(write: Write, rules: Rules) -> list[str]:
    before, after = variables_of(write.before) or {}, variables_of(write.after) or {}
    replaced = [
        name
        for name, value in before.items()
        if after.get(name) != value and not _set_as_configured(write, name)
    ]
    strange = [name for name in after.keys() - before.keys() if OUR_VARIABLES.get(name) != after[name]]
    problems = [f"the variable {name} was replaced, or is none of ours" for name in replaced + strange]
    mine = [is_ours(arn) for arn in layers_of(write.before)]
    now = [is_ours(arn) for arn in layers_of(write.after)]
    if now not in (mine, [*mine, True]) or sum(now) > max(1, sum(mine)):
        problems.append("our layer is at another position, or there twice")
    opinion = assessed(write.before, write.tags, rules)
    if opinion.verdict != "eligible":
        problems.append(f"the rules forbid it: {opinion.verdict} {opinion.reasons}")
    return problems


def _set_as_configured(write: Write, name: str) -> bool:
    """Whether a variable of ours got the configured value on a function that carries a layer of ours."""
    configured = (variables_of(write.after) or {}).get(name) == OUR_VARIABLES.get(name, "")
    return name == POLICY_VARIABLE and configured and bool(of_us(layers_of(write.before)))


def _announced(write: Write, journal: str) -> bool:
    intended = (json.loads(line) for line in journal.splitlines())
    return any(
        line["event"] == "intent"
        and (line["function_arn"], line["revision_id"]) == (write.arn, write.before["RevisionId"])
        for line in intended
    )
