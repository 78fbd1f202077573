"""Whatever Lambda answers: a function passes a check only on what could be read, or the answer is broken."""

import copy
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.change import api_errors
from remediator.change.delta import State
from remediator.change.update import busy, state_of
from scanner.aws.errors import BrokenAnswer, describe
from scanner.aws.transport import parse_json
from scanner.core.arns import FunctionArn, LayerVersion
from scanner.core.errors import WrongAccount
from scanner.inventory.functions_frame import frame_of
from scanner.risk.engine import assess_risk
from tests.fuzz.spoilt import VALUES, garbled, spoilt
from tests.unit.remediator.fake_lambda import refusal
from tests.unit.scanner.risk.assessed import ACCOUNT, REGION, function, layer, rules
from tests.unit.scanner.risk.oracle import Row, expected

TODAY = date(2026, 11, 24)
WHOLE: dict[str, Any] = function(
    layers=[layer(version=3), layer("datadog")], variables={"STAGE": "prod", "B": "c"}
) | {"State": "Active", "LastUpdateStatus": "Successful"}
RULES = rules(risk={"utilization": {"enabled": False}})


@given(spoilt(WHOLE))
@settings(deadline=None, max_examples=150)
def test_a_function_of_which_something_is_odd(answer: dict[str, Any]) -> None:
    try:
        functions = frame_of([answer], "aws", ACCOUNT, REGION, RULES.defender.watched_variables)
    except (BrokenAnswer, WrongAccount):
        assert (
            answer.get("FunctionArn") != WHOLE["FunctionArn"]
            or answer.get("FunctionName") != WHOLE["FunctionName"]
        )
        return
    row = assess_risk(functions, RULES, TODAY).iloc[0]
    opinion = expected(Row(answer, ACCOUNT, REGION), RULES, TODAY)
    assert row["verdict"] != "eligible" or opinion.verdict == "eligible", opinion.reasons


@given(st.lists(VALUES, max_size=3))
def test_items_that_are_no_functions(items: list[Any]) -> None:
    try:
        functions = frame_of(items, "aws", ACCOUNT, REGION, RULES.defender.watched_variables)
    except (BrokenAnswer, WrongAccount):
        return
    assert not (assess_risk(functions, RULES, TODAY)["verdict"] == "eligible").any()


@given(
    garbled(b'{"Functions":[{"FunctionName":"f"}],"NextMarker":"x"}')
    | st.binary(max_size=100)
    | st.just(b"[" * 100_000)
)
@settings(deadline=None, max_examples=80)
def test_a_page_that_is_cut_or_garbled(body: bytes) -> None:
    parsed = parse_json(body)
    assert parsed.get("Functions") is None or b"Functions" in body


@given(spoilt(WHOLE))
@settings(deadline=None, max_examples=80)
def test_a_fresh_read_of_which_something_is_odd(answer: dict[str, Any]) -> None:
    """What was assessed is what is merged into: the same layers and variables, or none that can be sent."""
    try:
        functions = frame_of([answer], "aws", ACCOUNT, REGION, RULES.defender.watched_variables)
    except (BrokenAnswer, WrongAccount):
        return
    if assess_risk(functions, RULES, TODAY).iloc[0]["verdict"] != "eligible" or busy(answer):
        return
    arns = tuple(item["Arn"] for item in answer.get("Layers") or ())
    assert state_of(answer) == State(arns, (answer.get("Environment") or {}).get("Variables", {}))


@given(st.text(max_size=120) | st.sampled_from([WHOLE["FunctionArn"], layer()]).flatmap(
    lambda arn: garbled(arn.encode()).map(lambda text: text.decode(errors="replace"))
))  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_an_arn(text: str) -> None:
    for kind in (FunctionArn, LayerVersion):
        parsed = kind.parse(text)
        assert (
            parsed is None
            or str(parsed).casefold() == text.casefold()
            or str(parsed).rpartition(":")[0] in text
        )


@pytest.mark.parametrize(
    "code", ["InvalidParameterValueException", "AccessDeniedException", "Unheard-Of", ""]
)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_refusal_that_quotes_what_was_sent(code: str, data: st.DataObject) -> None:
    secret = "s3cret-" + data.draw(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40))
    before, after = data.draw(st.text(max_size=30)), data.draw(st.text(max_size=30))
    quoted = data.draw(
        st.sampled_from(
            [f'String measured: {{"A":"{secret}"}}', f"Value '{secret}' at", f"{{A={secret}}}", secret]
        )
    )
    error = refusal(code, f"{before} {quoted} {after}")
    assert secret not in str(api_errors.classify_error(error, [secret]))
    assert "\n" not in describe(error)
    if "String measured" in quoted:
        assert secret not in describe(error)


def test_the_function_that_the_others_are_made_from_is_eligible() -> None:
    """What the others start from is eligible, so that a fault of theirs would show."""
    whole = copy.deepcopy(WHOLE)
    functions = frame_of([whole], "aws", ACCOUNT, REGION, RULES.defender.watched_variables)
    assert assess_risk(functions, RULES, TODAY).iloc[0]["verdict"] == "eligible"
