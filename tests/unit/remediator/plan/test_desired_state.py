"""The engine and the delta agree: `protected` means that nothing differs, `eligible` that a delta makes it so."""

from datetime import date
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.change.delta import DeltaConflict, State, add_delta, plan_delta
from remediator.change.desired_state import desired_state
from remediator.change.update import state_of
from scanner.inventory.functions_frame import frame_of
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER, DefenderSettings, RiskSettings
from tests.unit.remediator.fake_lambda import ACCOUNT, REGION, layer

WRAPPER, OLD_WRAPPER = "/opt/twistlock/wrapper", "/opt/old/wrapper"
TEMPLATE = "arn:aws:lambda:{region}:999988887777:layer"
defenders = st.builds(
    lambda policy, previous, environment: DefenderSettings.model_validate(
        {
            "layers": {"python": f"{TEMPLATE}:twistlock-python:4"},
            "wrapper": WRAPPER,
            "environment": environment,
            "version_policy": policy,
            "previous": previous,
        }
    ),
    st.sampled_from(["exact", "at_least"]),
    st.sampled_from([{}, {"layers": [f"{TEMPLATE}:old", f"{TEMPLATE}:older:2"], "wrappers": [OLD_WRAPPER]}]),
    st.sampled_from([{}, {"TW_POLICY": "policy of {function_name}", "REGION": "{region}"}]),
)
layers = st.lists(
    st.sampled_from(
        [
            layer(3),
            layer(4),
            layer(9),
            layer(5, "old"),
            layer(2, "older"),
            layer(3, "older"),
            layer(1, "datadog"),
            "arn:odd",
        ]
    ),
    unique_by=lambda arn: arn.rpartition(":")[0],
    max_size=5,
)
variables = st.fixed_dictionaries(
    {},
    optional={
        EXEC_WRAPPER: st.sampled_from([WRAPPER, OLD_WRAPPER, "/opt/datadog"]),
        "TW_POLICY": st.sampled_from(["policy of f", "another"]),
        "REGION": st.sampled_from([REGION, "eu-west-1"]),
        "A": st.just("x"),
    },
)


def assessed(configuration: dict[str, Any], defender: DefenderSettings) -> "pd.Series[Any]":
    functions = frame_of([configuration], "aws", ACCOUNT, REGION, defender.watched_variables)
    rules = Rules("aws", RiskSettings(), defender)
    row: pd.Series[Any] = assess_risk(functions, rules, date(2026, 11, 24)).iloc[0]
    return row


def configuration(state: State) -> dict[str, Any]:
    return {
        "FunctionName": "f", "FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f", "Runtime": "python3.12",
        "MemorySize": 512, "Timeout": 30, "CodeSize": 1000, "Layers": [{"Arn": arn} for arn in state.layers],
        "Environment": {"Variables": dict(state.variables or {})},
    }  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(layers, variables, defenders)
def test_a_delta_is_what_a_function_differs_by(
    carried: list[str], set_variables: dict[str, str], defender: DefenderSettings
) -> None:
    before = state_of(configuration(State(tuple(carried), set_variables)))
    row = assessed(configuration(before), defender)
    names, different = (
        [name for name in row[column].split(";") if name] for column in ("env_names", "env_different")
    )
    ours = desired_state(defender, "python", REGION, ACCOUNT)
    try:
        delta = plan_delta(before.layers, row["exec_wrapper"], names, ours, different)
    except DeltaConflict as conflict:
        assert str(conflict) in row["reasons"].split(";")
        assert row["protection"] in {"unprotected", "partial"}
        return
    assert (row["protection"] == "protected") == (not delta)
    assert row["verdict"] == ("eligible" if delta else "protected")
    assert delta.installs == (not row["installed"])
    after = add_delta(before, delta, defender.variables_for("python", "f", REGION, ACCOUNT))
    assert assessed(configuration(after), defender)["protection"] == "protected"
