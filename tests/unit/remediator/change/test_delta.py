"""The delta goes in, is found again, and comes out exactly: for any function and whatever its owner does meanwhile."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.change.delta import (
    Delta,
    DeltaAbsent,
    DeltaConflict,
    State,
    add_delta,
    has_delta,
    lacks_delta,
    plan_delta,
    remove_delta,
)
from remediator.change.desired_state import DesiredState
from scanner.core.arns import LayerVersion
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import layer

WRAPPER = "/opt/twistlock/wrapper"
OURS_AT_4 = LayerVersion.parse(layer(4))
assert OURS_AT_4 is not None
OURS = DesiredState(OURS_AT_4, WRAPPER, (EXEC_WRAPPER, "TW_POLICY"))
VALUES = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "policy"}

others = [layer(version, name) for name in ("datadog", "insights") for version in (1, 2)]
other_layers = st.lists(st.sampled_from([*others, "arn:nonsense"]), max_size=4, unique=True)
owner_names = st.sampled_from(["A", "B", "TW_POLICY"])
values = st.sampled_from(["", "x", "policy", "other"])
wrappers = st.one_of(st.none(), st.just(WRAPPER))


@st.composite
def states(draw: st.DrawFn) -> State:
    layers = draw(other_layers)
    version = draw(st.sampled_from([None, 1, 3, 4, 9]))
    if version is not None:
        layers.insert(draw(st.integers(0, len(layers))), layer(version))
    variables = draw(st.dictionaries(owner_names, values))
    wrapper = draw(wrappers)
    return State(tuple(layers), variables if wrapper is None else {**variables, EXEC_WRAPPER: wrapper})


def delta_for(state: State) -> Delta:
    assert state.variables is not None
    names = [name for name in OURS.names if name in state.variables]
    return plan_delta(state.layers, state.variables.get(EXEC_WRAPPER, ""), names, OURS)


def without_ours(layers: tuple[str, ...]) -> list[str]:
    return [arn for arn in layers if ":twistlock-python:" not in arn]


@given(states())
def test_owner_keeps_every_layer_in_order_and_every_variable(before: State) -> None:
    after = add_delta(before, delta_for(before), VALUES)
    assert without_ours(after.layers) == without_ours(before.layers)
    assert after.variables is not None
    assert before.variables is not None
    assert before.variables.items() <= after.variables.items()
    assert len(after.layers) <= 5


@given(states())
def test_put_in_is_carried_and_putting_in_again_changes_nothing(before: State) -> None:
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    assert has_delta(after, delta)
    assert not delta_for(after)


@given(states())
def test_taken_out_at_once_everything_is_as_before(before: State) -> None:
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    if not delta:
        assert after == before
        return
    assert remove_delta(after, delta, VALUES) == before
    assert lacks_delta(before, delta, VALUES)


Edit = Callable[[State], State]


def set_variable(name: str, value: str) -> Edit:
    return lambda s: State(s.layers, {**(s.variables or {}), name: value})


def drop_variable(name: str) -> Edit:
    return lambda s: State(s.layers, {k: v for k, v in (s.variables or {}).items() if k != name})


def toggle_layer(arn: str) -> Edit:
    def edit(s: State) -> State:
        if arn in s.layers:
            return State(tuple(x for x in s.layers if x != arn), s.variables)
        return State((arn, *s.layers), s.variables)

    return edit


def reverse_layers(s: State) -> State:
    return State(s.layers[::-1], s.variables)


edits = st.one_of(
    st.builds(
        set_variable,
        st.sampled_from(["A", "B", "C", "TW_POLICY", EXEC_WRAPPER]),
        st.sampled_from(["x", "other"]),
    ),
    st.builds(drop_variable, st.sampled_from(["A", "TW_POLICY", EXEC_WRAPPER])),
    st.builds(toggle_layer, st.sampled_from([*others, layer(4), layer(7)])),
    st.just(reverse_layers),
)


@given(states(), st.lists(edits, max_size=6))
def test_after_any_edits_of_the_owner_a_rollback_leaves_what_is_the_owners(
    before: State, changes: list[Edit]
) -> None:
    delta = delta_for(before)
    edited = add_delta(before, delta, VALUES)
    for change in changes:
        edited = change(edited)
    try:
        after = remove_delta(edited, delta, VALUES)
    except DeltaAbsent:
        after = edited
    assert without_ours(after.layers) == without_ours(edited.layers)
    assert after.variables is not None
    assert edited.variables is not None
    ours = {name for name in delta.variables_added if edited.variables.get(name) == VALUES[name]}
    for name in edited.variables.keys() - ours:
        assert after.variables[name] == edited.variables[name]
    assert after.variables.keys() <= edited.variables.keys()
    if after != edited:
        assert delta.layer not in after.layers
        with pytest.raises(DeltaAbsent):
            remove_delta(after, delta, VALUES)


def test_an_older_version_is_replaced_in_its_place() -> None:
    before = State((others[0], layer(3), others[2]), {EXEC_WRAPPER: WRAPPER})
    delta = delta_for(before)
    assert add_delta(before, delta, VALUES).layers == (others[0], layer(4), others[2])
    assert delta.layer_before == layer(3)
    assert remove_delta(add_delta(before, delta, VALUES), delta, VALUES) == before


def test_the_same_name_from_another_publisher_is_not_ours() -> None:
    stranger = layer(3).replace("999988887777", "123412341234")
    before = State((stranger,), {})
    assert add_delta(before, delta_for(before), VALUES).layers == (stranger, layer(4))


@pytest.mark.parametrize("wrapper", ["/opt/datadog_wrapper", ""])
def test_a_wrapper_that_is_set_is_never_overwritten(wrapper: str) -> None:
    with pytest.raises(DeltaConflict, match="wrapper_conflict"):
        plan_delta((), wrapper, [EXEC_WRAPPER], OURS)


def test_a_sixth_layer_never_goes_in() -> None:
    with pytest.raises(DeltaConflict, match="layers"):
        plan_delta([f"arn:{n}" for n in range(5)], "", [], OURS)


def test_an_unreadable_environment_is_never_added_to_or_taken_from() -> None:
    delta = plan_delta((), "", [], OURS)
    with pytest.raises(DeltaConflict, match="env_unreadable"):
        add_delta(State((), None), delta, VALUES)
    with pytest.raises(DeltaAbsent, match="can't be read"):
        remove_delta(State((layer(4),), None), delta, VALUES)
    assert not lacks_delta(State((), None), delta, VALUES)


def test_a_newer_version_put_there_since_stays_with_its_wrapper() -> None:
    delta = plan_delta((), "", [], OURS)
    with pytest.raises(DeltaAbsent, match="version 7 of the layer now, not version 4"):
        remove_delta(State((layer(7),), dict(VALUES)), delta, VALUES)


def test_a_wrapper_without_the_layer_would_break_the_function_and_goes() -> None:
    delta = plan_delta((), "", [], OURS)
    assert remove_delta(State((), {**VALUES, "A": "x"}), delta, VALUES) == State((), {"A": "x"})
