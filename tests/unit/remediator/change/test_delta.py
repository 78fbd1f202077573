"""The delta goes in, is found again, and comes out exactly: for any function and whatever its owner does meanwhile."""

from collections.abc import Callable
from dataclasses import replace

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
from scanner.risk.layers import OurLayers
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import layer

WRAPPER = "/opt/twistlock/wrapper"
OURS_AT_4 = LayerVersion.parse(layer(4))
assert OURS_AT_4 is not None
OLD_WRAPPER = "/opt/old/wrapper"
BEFORE = (
    LayerVersion.parse_pattern(layer(1, "old").removesuffix(":1")),
    LayerVersion.parse(layer(2, "older")),
)
assert BEFORE[0] is not None
assert BEFORE[1] is not None
OURS = DesiredState(
    OurLayers(OURS_AT_4, (BEFORE[0], BEFORE[1])),
    WRAPPER,
    (EXEC_WRAPPER, "TW_POLICY"),
    frozenset((WRAPPER, OLD_WRAPPER)),
)
VALUES = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "policy"}

others = [layer(version, name) for name in ("datadog", "insights") for version in (1, 2)]
other_layers = st.lists(st.sampled_from([*others, "arn:nonsense"]), max_size=4, unique=True)
owner_names = st.sampled_from(["A", "B", "TW_POLICY"])
values = st.sampled_from(["", "x", "policy", "other"])
wrappers = st.sampled_from([None, WRAPPER, OLD_WRAPPER])
our_layers = st.lists(
    st.sampled_from([layer(1), layer(3), layer(4), layer(9), layer(5, "old"), layer(2, "older")]),
    max_size=2,
    unique_by=lambda arn: arn.rpartition(":")[0],
)


@st.composite
def states(draw: st.DrawFn) -> State:
    """A function that a delta fits: five layers at most, and another value of ours only beside a layer of ours."""
    ours = draw(our_layers)
    layers = draw(other_layers)[: 5 - max(1, len(ours))]
    for arn in ours:
        layers.insert(draw(st.integers(0, len(layers))), arn)
    variables = draw(st.dictionaries(owner_names, values))
    if not ours and "TW_POLICY" in variables:
        variables["TW_POLICY"] = VALUES["TW_POLICY"]
    wrapper = draw(wrappers)
    return State(tuple(layers), variables if wrapper is None else {**variables, EXEC_WRAPPER: wrapper})


def delta_for(state: State) -> Delta:
    assert state.variables is not None
    names = [name for name in OURS.names if name in state.variables]
    different = [name for name in names if name != EXEC_WRAPPER and state.variables[name] != VALUES[name]]
    return plan_delta(state.layers, state.variables.get(EXEC_WRAPPER, ""), names, OURS, different)


def earlier_values(state: State, delta: Delta) -> dict[str, str]:
    return {name: (state.variables or {})[name] for name in delta.variables_changed}


def without_ours(layers: tuple[str, ...]) -> list[str]:
    return [
        arn for arn in layers if not any(f":{name}:" in arn for name in ("twistlock-python", "old", "older"))
    ]


@given(states())
def test_owner_keeps_every_layer_in_order_and_every_variable(before: State) -> None:
    after = add_delta(before, delta_for(before), VALUES)
    assert without_ours(after.layers) == without_ours(before.layers)
    assert after.variables is not None
    assert before.variables is not None
    assert before.variables.keys() <= after.variables.keys()
    assert {n: v for n, v in after.variables.items() if n not in VALUES} == {
        n: v for n, v in before.variables.items() if n not in VALUES
    }
    assert len(after.layers) <= 5


@given(states())
def test_afterwards_nothing_of_ours_differs(before: State) -> None:
    after = add_delta(before, delta_for(before), VALUES)
    assert [arn for arn in after.layers if arn not in without_ours(after.layers)] == [layer(4)]
    assert after.variables is not None
    assert {name: after.variables[name] for name in OURS.names} == VALUES


@given(states())
def test_put_in_is_carried_and_putting_in_again_changes_nothing(before: State) -> None:
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    assert has_delta(after, delta, VALUES)
    assert not delta_for(after)
    if delta:
        assert not has_delta(before, delta, VALUES)


@given(states())
def test_taken_out_at_once_everything_is_as_before(before: State) -> None:
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    if not delta:
        assert after == before
        return
    earlier = earlier_values(before, delta)
    assert not lacks_delta(after, delta, VALUES, earlier)
    assert remove_delta(after, delta, VALUES, earlier) == before
    assert lacks_delta(before, delta, VALUES, earlier)


@given(states())
def test_without_the_earlier_values_the_present_ones_stay(before: State) -> None:
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    replaced = [name for name in delta.variables_changed if name != EXEC_WRAPPER]
    try:
        back = remove_delta(after, delta, VALUES)
    except DeltaAbsent:
        assert not delta.reversible
        return
    assert before.variables is not None
    assert back == State(before.layers, {**before.variables, **{name: VALUES[name] for name in replaced}})


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
    ours = {
        name
        for name in (*delta.variables_added, *delta.variables_changed)
        if edited.variables.get(name) == VALUES[name]
    }
    for name in edited.variables.keys() - ours:
        assert after.variables[name] == edited.variables[name]
    assert after.variables.keys() <= edited.variables.keys()
    if after != edited:
        assert delta.layer is None or delta.layer not in after.layers
        with pytest.raises(DeltaAbsent):
            remove_delta(after, delta, VALUES)


def test_an_older_version_is_replaced_in_its_place() -> None:
    before = State((others[0], layer(3), others[2]), {EXEC_WRAPPER: WRAPPER})
    delta = delta_for(before)
    assert add_delta(before, delta, VALUES).layers == (others[0], layer(4), others[2])
    assert delta.layer_before == layer(3)
    assert remove_delta(add_delta(before, delta, VALUES), delta, VALUES) == before


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([layer(9), others[0]], [layer(4), others[0]]),
        ([others[0], layer(5, "old"), others[2]], [others[0], layer(4), others[2]]),
        ([layer(5, "old"), others[0], layer(4)], [others[0], layer(4)]),
        ([layer(3), others[0], layer(5, "old")], [layer(4), others[0]]),
        ([layer(2, "older"), others[0], layer(5, "old")], [layer(4), others[0]]),
        ([layer(3, "older")], [layer(3, "older"), layer(4)]),
    ],
)
def test_whatever_was_ours_gives_way_to_the_configured_version(
    layers: list[str], expected: list[str]
) -> None:
    before = State(tuple(layers), dict(VALUES))
    delta = delta_for(before)
    after = add_delta(before, delta, VALUES)
    assert list(after.layers) == expected
    assert remove_delta(after, delta, VALUES) == before


def test_with_at_least_a_newer_version_stays() -> None:
    ours = replace(OURS, layers=replace(OURS.layers, exact=False))
    assert not plan_delta([layer(9)], WRAPPER, OURS.names, ours)
    assert plan_delta([layer(3)], WRAPPER, OURS.names, ours).layer == layer(4)


def test_another_value_without_a_layer_of_ours_is_the_owners() -> None:
    with pytest.raises(DeltaConflict, match="variable_conflict"):
        plan_delta([others[0]], "", ["TW_POLICY"], OURS, ["TW_POLICY"])
    assert plan_delta([layer(4)], WRAPPER, OURS.names, OURS, ["TW_POLICY"]).variables_changed == (
        "TW_POLICY",
    )


def test_a_rotated_value_goes_with_the_change_that_added_the_variable() -> None:
    """All our changes of a function removed, newest first: the layer, and each variable with our present value."""
    old = {**VALUES, "TW_POLICY": "first"}
    protect = plan_delta((), "", [], OURS)
    protected = add_delta(State((), {"A": "x"}), protect, old)
    rotate = delta_for(protected)
    rotated = add_delta(protected, rotate, VALUES)
    with pytest.raises(DeltaAbsent, match=r"only values were replaced \(TW_POLICY\)"):
        remove_delta(rotated, rotate, VALUES)
    assert lacks_delta(rotated, rotate, VALUES)
    assert remove_delta(rotated, protect, VALUES) == State((), {"A": "x"})


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
