"""Reads a template of stacksets/ and renders it as CloudFormation does, with the intrinsic functions that ours use.

moto and ministack each render some of them wrongly (lists as parameters, AWS::NoValue in lists, pseudo parameters in
conditions), so policies are rendered here; tests/e2e compares the result with what ministack received.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

STACKSETS = Path(__file__).parents[1] / "stacksets"
MEMBER = "444455556666"
CENTRAL = "111122223333"
_NO_VALUE = object()


def read(name: str) -> dict[str, Any]:
    """Read a template; short forms (!Ref) become long ones (Ref, Fn::Sub)."""
    template: dict[str, Any] = json.loads(_as_json(name))
    return template


@cache
def _as_json(name: str) -> str:
    template, problems = decode(str(STACKSETS / name))
    if problems:
        raise ValueError(f"{name}: {problems}")
    return json.dumps(template)


def render(
    name: str, account_id: str = MEMBER, references: Mapping[str, str] | None = None, **parameters: str
) -> dict[str, Any]:
    """Return the template's resources (logical id: resource) as deployed in an account with these parameters.

    references: by "Reports" or "Reports.Arn"; a resource that is not in it is rendered as its logical id.
    Raise ValueError for a parameter that CloudFormation would reject.
    """
    template = read(name)
    values: dict[str, Any] = {
        **(references or {}),
        "AWS::AccountId": account_id,
        "AWS::Partition": "aws",
        "AWS::Region": "us-east-1",
        "AWS::NoValue": _NO_VALUE,
    }
    for key, definition in template["Parameters"].items():
        values[key] = _parameter(key, definition, parameters)
    stack = _Stack(values, template.get("Conditions", {}))
    return {
        key: stack.resolve(resource)
        for key, resource in template["Resources"].items()
        if "Condition" not in resource or stack.is_true(resource["Condition"])
    }


def _parameter(key: str, definition: Mapping[str, Any], given: Mapping[str, str]) -> Any:
    value = given.get(key, definition.get("Default"))
    if value is None:
        raise ValueError(f"{key} has no value")
    if not re.fullmatch(definition.get("AllowedPattern", r"[\s\S]*"), str(value)):
        raise ValueError(f"{key}: {definition['ConstraintDescription']}")
    if value not in definition.get("AllowedValues", [value]):
        raise ValueError(f"{key}: not one of {definition['AllowedValues']}")
    return str(value).split(",") if definition["Type"] == "CommaDelimitedList" else value


class _Stack:
    def __init__(self, values: Mapping[str, Any], conditions: Mapping[str, Any]) -> None:
        self._values = values
        self._conditions = conditions

    def is_true(self, name: str) -> bool:
        return bool(self.resolve(self._conditions[name]))

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [item for item in map(self.resolve, node) if item is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (key, argument), *_ = node.items()
            if key in {"Ref", "Condition"} or key.startswith("Fn::"):
                return self._call(key, argument)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not _NO_VALUE}

    def _call(self, function: str, argument: Any) -> Any:
        functions: dict[str, Callable[[Any], Any]] = {
            "Ref": lambda name: self._values.get(name, name),
            "Condition": self.is_true,
            "Fn::GetAtt": lambda path: self._values.get(".".join(path), ".".join(path)),
            "Fn::If": lambda given: self.resolve(given[1] if self.is_true(given[0]) else given[2]),
            "Fn::Equals": lambda given: self.resolve(given[0]) == self.resolve(given[1]),
            "Fn::Not": lambda given: not self.resolve(given[0]),
            "Fn::Join": lambda given: given[0].join(self.resolve(given[1])),
            "Fn::Split": lambda given: self.resolve(given[1]).split(given[0]),
            "Fn::Sub": lambda given: self._substitute(*([given] if isinstance(given, str) else given)),
        }
        return functions[function](argument)

    def _substitute(self, text: str, extra: Mapping[str, Any] | None = None) -> str:
        local = {key: self.resolve(value) for key, value in (extra or {}).items()}
        known = {**self._values, **local}
        filled = re.sub(r"\$\{([^!}]+)\}", lambda found: str(known.get(found[1], found[1])), text)
        return filled.replace("${!", "${")
