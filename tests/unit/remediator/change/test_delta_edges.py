"""Edges of the merge that only broken code showed: what can't be read, what the configuration lacks, what is reported."""

import pytest

from remediator.change.delta import (
    Delta,
    DeltaAbsent,
    DeltaConflict,
    State,
    add_delta,
    has_delta,
    is_without,
    lacks_delta,
    plan_delta,
    remove_delta,
)
from remediator.change.desired_state import DesiredState
from scanner.core.arns import LayerVersion
from scanner.risk.layers import OurLayers
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import layer

WRAPPER = "/opt/twistlock/wrapper"
OURS_AT_4 = LayerVersion.parse(layer(4))
assert OURS_AT_4 is not None
OURS = DesiredState(OurLayers(OURS_AT_4), WRAPPER, (EXEC_WRAPPER, "TW_POLICY"), frozenset((WRAPPER,)))
VALUES = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"}
BOTH = Delta(layer(4), 0, None, (EXEC_WRAPPER, "TW_POLICY"), WRAPPER)


def test_nothing_is_put_anywhere_where_the_layer_is_there_already() -> None:
    delta = plan_delta((layer(4),), WRAPPER, [EXEC_WRAPPER, "TW_POLICY"], OURS)
    assert delta == Delta()
    assert not delta


def test_variables_that_nobody_could_read_prove_nothing() -> None:
    assert has_delta(State((layer(4),), None), BOTH, VALUES) is None
    assert has_delta(State((), None), BOTH, VALUES) is False
    assert lacks_delta(State((layer(4),), None), BOTH, VALUES) is None
    assert is_without(State((), None), BOTH, VALUES) is None
    assert is_without(State((layer(4),), None), BOTH, VALUES) is False
    assert has_delta(State((layer(4),), None), Delta(layer(4), 0, layer(3)), VALUES)


@pytest.mark.parametrize(
    ("missing", "carried"), [("layer", False), ("TW_POLICY", False), (EXEC_WRAPPER, False), ("", True)]
)
def test_a_delta_is_carried_whole_or_not(missing: str, carried: bool) -> None:
    variables = {
        name: value for name, value in {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"}.items() if name != missing
    }
    layers = () if missing == "layer" else (layer(4),)
    assert has_delta(State(layers, variables), BOTH, VALUES) is carried


def test_the_wrapper_that_was_given_is_taken_out_whatever_the_configuration_says_now() -> None:
    state = State((layer(4),), {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x", "OWNER": "1"})
    now = {EXEC_WRAPPER: "/opt/another/wrapper", "TW_POLICY": "x"}
    assert remove_delta(state, BOTH, now) == State((), {"OWNER": "1"})
    assert remove_delta(state, BOTH, {}) == State((), {"TW_POLICY": "x", "OWNER": "1"})


def test_a_wrapper_that_was_the_owners_before_stays_whatever_its_value() -> None:
    state = State((layer(4),), {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"})
    delta = Delta(layer(4), 0, None, ("TW_POLICY",))
    assert remove_delta(state, delta, {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"}) == State(
        (), {EXEC_WRAPPER: WRAPPER}
    )


def test_each_refusal_says_why() -> None:
    with pytest.raises(DeltaConflict, match=r"^wrapper_conflict$"):
        plan_delta((), "/opt/other/wrapper", [EXEC_WRAPPER], OURS)
    with pytest.raises(DeltaConflict, match=r"^layers$"):
        plan_delta([layer(n, f"others-{n}") for n in range(5)], "", [], OURS)
    with pytest.raises(DeltaConflict, match=r"^env_unreadable$"):
        add_delta(State((), None), BOTH, {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"})
    with pytest.raises(
        DeltaAbsent, match=r"^its environment can't be read, and the wrapper must not stay without"
    ):
        remove_delta(State((layer(4),), None), BOTH, {})
    with pytest.raises(DeltaAbsent, match=r"^it no longer carries what was added$"):
        remove_delta(State((), {"OWNER": "1"}), BOTH, {})
    with pytest.raises(DeltaAbsent, match=r"^it carries version 9 of the layer now, not version 4$"):
        remove_delta(State((layer(9),), {}), BOTH, {})


@pytest.mark.parametrize(
    ("variables", "carried"),
    [({"TW_POLICY": "x"}, True), ({"TW_POLICY": "y"}, False), ({}, False), (None, None)],
)
def test_replaced_values_are_there_or_not(variables: dict[str, str] | None, carried: bool | None) -> None:
    rotated = Delta(variables_changed=("TW_POLICY",))
    assert has_delta(State((layer(4),), variables), rotated, VALUES) is carried
    assert not has_delta(State((layer(4),), variables), rotated, {})


def test_a_wrapper_that_was_replaced_comes_back_and_the_value_beside_it_stays() -> None:
    delta = Delta(
        wrapper=WRAPPER, variables_changed=(EXEC_WRAPPER, "TW_POLICY"), wrapper_before="/opt/old/wrapper"
    )
    carried = State((layer(4),), dict(VALUES))
    assert remove_delta(carried, delta, VALUES) == State(
        (layer(4),), {**VALUES, EXEC_WRAPPER: "/opt/old/wrapper"}
    )
    edited = State((layer(4),), {**VALUES, EXEC_WRAPPER: "/opt/of/the/owner"})
    with pytest.raises(DeltaAbsent, match="no longer carries"):
        remove_delta(edited, delta, VALUES)


def test_a_sixth_layer_is_not_put_back() -> None:
    delta = Delta(layers_removed=((0, layer(1, "old")),))
    full = State(tuple(layer(n, f"others-{n}") for n in range(5)), {})
    with pytest.raises(DeltaAbsent):
        remove_delta(full, delta, VALUES)


@pytest.mark.parametrize(
    ("delta", "installs"),
    [
        (BOTH, True), (Delta(layer(4), 0, layer(3)), False), (Delta(layer(4), 0), True), (Delta(variables_added=("A",)), False),
        (Delta(variables_added=(EXEC_WRAPPER,), wrapper=WRAPPER), True), (Delta(variables_changed=("A",)), False),
    ],
)  # fmt: skip
def test_a_change_installs_where_the_layer_or_the_wrapper_was_missing(delta: Delta, installs: bool) -> None:
    assert delta.installs is installs
