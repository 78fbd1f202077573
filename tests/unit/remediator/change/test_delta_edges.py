"""Edges of the merge that only broken code showed: what can't be read, what the configuration lacks, what is reported."""

import pytest

from remediator.change.delta import (
    Delta,
    DeltaAbsent,
    DeltaConflict,
    State,
    add_delta,
    has_delta,
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
BOTH = Delta(layer(4), 0, None, (EXEC_WRAPPER, "TW_POLICY"), WRAPPER)


def test_nothing_is_put_anywhere_where_the_layer_is_there_already() -> None:
    delta = plan_delta((layer(4),), WRAPPER, [EXEC_WRAPPER, "TW_POLICY"], OURS)
    assert delta == Delta()
    assert not delta


def test_variables_that_nobody_could_read_do_not_carry_ours() -> None:
    assert not has_delta(State((layer(4),), None), BOTH)
    assert has_delta(State((layer(4),), None), Delta(layer(4), 0, layer(3)))


@pytest.mark.parametrize(
    ("missing", "carried"), [("layer", False), ("TW_POLICY", False), (EXEC_WRAPPER, False), ("", True)]
)
def test_a_delta_is_carried_whole_or_not(missing: str, carried: bool) -> None:
    variables = {
        name: value for name, value in {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x"}.items() if name != missing
    }
    layers = () if missing == "layer" else (layer(4),)
    assert has_delta(State(layers, variables), BOTH) is carried


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
