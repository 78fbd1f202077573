"""The size that `explain` tells is Lambda's measure of what would be sent, whatever stands in the function's name."""

from typing import Any

import pytest

from scanner.check_columns import merged_bytes
from scanner.defender_match import DefenderMatch
from scanner.frame import frame_of, measured_bytes
from tests.unit.scanner.judged import ACCOUNT, REGION, function, rules

ENVIRONMENT = {
    "TW_POLICY": '{"n":"{function_name}","again":"{function_name}","r":"{region}","a":"{account_id}"}'
}


@pytest.mark.parametrize(
    "variables", [None, {}, {"STAGE": "prod"}, {"TW_POLICY": "the owner's"}, {"É": "\n"}]
)
def test_each_function_by_its_own_name(variables: dict[str, str] | None) -> None:
    ours = rules(defender={"environment": ENVIRONMENT})
    names = ["f", "a-longer-name", "n" * 64]
    answers: list[dict[str, Any]] = [function(name, variables=variables) for name in names]
    functions = frame_of(answers, "aws", ACCOUNT, REGION, ours.defender.variable_names)
    expected = [
        measured_bytes(ours.defender.variables_for("python", name, REGION, ACCOUNT) | (variables or {}))
        for name in names
    ]
    assert merged_bytes(DefenderMatch(functions, ours)).tolist() == expected
