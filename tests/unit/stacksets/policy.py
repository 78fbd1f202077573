"""Evaluates an IAM policy document the way AWS documents it, for the operators our templates use and no others."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Context = Mapping[str, str | Sequence[str]]


def decision(document: Mapping[str, Any], action: str, resource: str, context: Context | None = None) -> str:
    """Return "Allow", "Deny" (explicit) or "ImplicitDeny" for a request.

    The context maps condition keys to a value, or to a list for keys that hold several. A key that the request does
    not carry is absent, as in AWS.
    """
    effects = {
        statement["Effect"]
        for statement in document["Statement"]
        if _applies(statement, action, resource, context or {})
    }
    return "Deny" if "Deny" in effects else "Allow" if "Allow" in effects else "ImplicitDeny"


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    unknown = set(statement) - {
        "Sid",
        "Effect",
        "Principal",
        "Action",
        "Resource",
        "NotResource",
        "Condition",
    }
    if unknown or statement.get("Principal", "*") != "*":
        raise NotImplementedError(f"policy elements {unknown or statement['Principal']}")
    return (
        any(_like(action.lower(), pattern.lower()) for pattern in _listed(statement["Action"]))
        and _covers(statement, resource)
        and all(
            _holds(operator, context.get(key), _listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _covers(statement: Mapping[str, Any], resource: str) -> bool:
    if "NotResource" in statement:
        return not any(_like(resource, pattern) for pattern in _listed(statement["NotResource"]))
    return any(_like(resource, pattern) for pattern in _listed(statement["Resource"]))


def _holds(operator: str, actual: str | Sequence[str] | None, wanted: list[str]) -> bool:
    """Hold one condition: any value of the policy may match (OR); ForAllValues asks it of each value of the request.

    ForAllValues is true of a request without the key (IAM User Guide, multivalued context keys), and so is a negated
    operator.
    """
    if operator == "Null":
        return [str(actual is None).lower()] == wanted
    qualifier, _, base = operator.rpartition(":")
    if base == "ArnNotLike":
        return not _holds("ArnLike", actual, wanted)
    matches = {"StringEquals": str.__eq__, "Bool": str.__eq__, "StringLike": _like, "ArnLike": _arn_like}[
        base
    ]
    if qualifier == "ForAllValues":
        return all(any(matches(value, pattern) for pattern in wanted) for value in _listed(actual or []))
    if qualifier:
        raise NotImplementedError(operator)
    return isinstance(actual, str) and any(matches(actual, pattern) for pattern in wanted)


def _arn_like(value: str, pattern: str) -> bool:
    """Match an ARN part by part, so that no wildcard reaches over a colon before the resource."""
    parts, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(map(_like, parts, patterns))


def _like(value: str, pattern: str) -> bool:
    """Match IAM's wildcards: * any characters, ? one."""
    regex = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(regex, value, re.DOTALL) is not None


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
