"""The size that `explain` shows is what Lambda would measure, whatever the function's name is."""

from typing import Any

import pytest

from scanner.inventory.functions_frame import frame_of, measured_bytes
from scanner.risk.checks import merged_bytes
from scanner.risk.engine import assess_risk
from scanner.risk.protection import DefenderMatch
from tests.unit.scanner.risk.assessed import ACCOUNT, REGION, TODAY, function, rules

ENVIRONMENT = {
    "TW_POLICY": '{"n":"{function_name}","again":"{function_name}","r":"{region}","a":"{account_id}"}'
}


@pytest.mark.parametrize(
    "variables",
    [
        None,
        {},
        {"STAGE": "prod"},
        {"TW_POLICY": "the owner's"},
        {"TW_POLICY": "the owner's", "AWS_LAMBDA_EXEC_WRAPPER": "/opt/twistlock/wrapper"},
        {"É": "\n"},
    ],
)
def test_each_function_by_its_own_name(variables: dict[str, str] | None) -> None:
    ours = rules(defender={"environment": ENVIRONMENT})
    names = ["f", "a-longer-name", "n" * 64]
    answers: list[dict[str, Any]] = [function(name, variables=variables) for name in names]
    functions = frame_of(answers, "aws", ACCOUNT, REGION, ours.defender.watched_variables)
    expected = [
        measured_bytes((variables or {}) | ours.defender.variables_for("python", name, REGION, ACCOUNT))
        for name in names
    ]
    assert merged_bytes(DefenderMatch(functions, ours)).tolist() == expected


@pytest.mark.parametrize("over", range(-66, 4))
def test_the_limit_is_4_kb_to_the_byte_whatever_part_of_it_is_the_name(over: int) -> None:
    ours = rules(defender={"environment": {"TW_POLICY": "{function_name}"}})
    names = ["f", "n" * 64]
    given = ours.defender.variables_for("python", "", REGION, ACCOUNT)
    variables = {"A": "x" * (4096 + over - measured_bytes({**given, "A": ""}))}
    answers = [function(name, variables=variables) for name in names]
    functions = frame_of(answers, "aws", ACCOUNT, REGION, ours.defender.watched_variables)
    overflow = assess_risk(functions, ours, TODAY)["fails_env_overflow"].tolist()
    assert overflow == [over + len(name) > 0 for name in names]


def test_what_can_not_be_read_is_not_called_too_large_as_well() -> None:
    ours = rules(defender={"environment": ENVIRONMENT})
    unreadable = function("f", Environment={"Error": {"ErrorCode": "AccessDenied", "Message": "kms"}})
    functions = frame_of([unreadable], "aws", ACCOUNT, REGION, ours.defender.watched_variables)
    assert assess_risk(functions, ours, TODAY)["reasons"].tolist() == ["env_unreadable"]
