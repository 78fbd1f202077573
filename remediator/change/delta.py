"""Our delta: added to a function's layers and variables, found there again, and removed exactly. Pure.

What is the owner's stays unchanged: other layers and their order, every variable that is set, a newer version of
our layer. A delta names what was added and holds no value but the wrapper's, so that it may be written to files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remediator.change.desired_state import DesiredState
from scanner.core.arns import LayerVersion
from scanner.core.errors import AutoDefenderError
from scanner.settings import EXEC_WRAPPER

# Lambda quotas: "Function layers: five layers", not adjustable.
MAX_LAYERS = 5


class DeltaConflict(AutoDefenderError):
    """Our delta does not fit; str() is one of the risk engine's reason codes."""


class DeltaAbsent(AutoDefenderError):
    """The function does not carry the delta (any more), or not in a way that can be removed; str() says why."""


@dataclass(frozen=True)
class Delta:
    """What a change adds to a function.

    layer: the layer version ARN put in, None where the layers stay; position: its index then, else -1.
    layer_before: the older version that stood at that position, None where ours was appended.
    variables_added: names of the variables that were not there, the wrapper's included.
    wrapper: the value given to AWS_LAMBDA_EXEC_WRAPPER where it is among them, else None.
    """

    layer: str | None = None
    position: int = -1
    layer_before: str | None = None
    variables_added: tuple[str, ...] = ()
    wrapper: str | None = None

    def __bool__(self) -> bool:
        """Return whether anything changes at all."""
        return self.layer is not None or bool(self.variables_added)


@dataclass(frozen=True)
class State:
    """The two things that we change: layer ARNs in order, and variables; None where they could not be read."""

    layers: tuple[str, ...]
    variables: Mapping[str, str] | None


def plan_delta(layers: Sequence[str], wrapper: str, names: Sequence[str], ours: DesiredState) -> Delta:
    """Compute our delta from names alone.

    names: which of our variables are set; wrapper: the present value of AWS_LAMBDA_EXEC_WRAPPER if it is among them.
    Raises DeltaConflict("layers") where no slot is left, DeltaConflict("wrapper_conflict") for another's wrapper.
    """
    if EXEC_WRAPPER in names and wrapper != ours.wrapper:
        raise DeltaConflict("wrapper_conflict")
    layer, position, before = _place(layers, ours.layer)
    added = tuple(name for name in ours.names if name not in names)
    return Delta(layer, position, before, added, ours.wrapper if EXEC_WRAPPER in added else None)


def _place(layers: Sequence[str], ours: LayerVersion) -> tuple[str | None, int, str | None]:
    """Find the position of our layer: none (it or a newer one is there), an older version's, or the end."""
    for position, arn in enumerate(layers):
        found = LayerVersion.parse(arn)
        if found is not None and found.same_layer(ours):
            if found.version >= ours.version:
                return None, -1, None
            return str(ours), position, arn
    if len(layers) >= MAX_LAYERS:
        raise DeltaConflict("layers")
    return str(ours), len(layers), None


def add_delta(state: State, delta: Delta, values: Mapping[str, str]) -> State:
    """Return the state with the delta in it. `values`: our variables with their values.

    Raises DeltaConflict("env_unreadable") where variables are to be added to ones that nobody could read.
    """
    variables = state.variables
    if delta.variables_added:
        if variables is None:
            raise DeltaConflict("env_unreadable")
        variables = {**variables, **{name: values[name] for name in delta.variables_added}}
    return State(layers_with(state.layers, delta), variables)


def layers_with(layers: tuple[str, ...], delta: Delta) -> tuple[str, ...]:
    """Return the layers with ours among them: appended, or in the place of the older version."""
    if delta.layer is None:
        return layers
    return (*layers[: delta.position], delta.layer, *layers[delta.position + 1 :])


def has_delta(state: State, delta: Delta) -> bool:
    """Return whether the whole delta is in the state."""
    variables = state.variables if state.variables is not None else {}
    return (
        (delta.layer is None or delta.layer in state.layers)
        and all(name in variables for name in delta.variables_added)
        and (delta.wrapper is None or variables[EXEC_WRAPPER] == delta.wrapper)
    )


def remove_delta(state: State, delta: Delta, values: Mapping[str, str]) -> State:
    """Return the state without the delta, and everything that came later unchanged.

    A variable goes only while it has the value that we gave it (`values`: our variables, rendered again; the
    wrapper's is the delta's own). Raises DeltaAbsent where the layer is there in another version than ours, where
    nothing of the delta is left, or where variables would have to go that nobody can read.
    """
    layers = _layers_without(state.layers, delta)
    variables = state.variables
    if delta.variables_added:
        if variables is None:
            raise DeltaAbsent(
                "its environment can't be read, and the wrapper must not stay without the layer"
            )
        variables = _variables_without(variables, delta, values)
    after = State(layers, variables)
    if after == state:
        raise DeltaAbsent("it no longer carries what was added")
    return after


def lacks_delta(state: State, delta: Delta, values: Mapping[str, str]) -> bool:
    """Return whether nothing of the delta is left; False where that can't be known."""
    if delta.variables_added and state.variables is None:
        return False
    try:
        remove_delta(state, delta, values)
    except DeltaAbsent:
        return True
    return False


def is_without(state: State, delta: Delta, values: Mapping[str, str]) -> bool:
    """Return whether nothing of ours is where the delta was put: no version of the layer but the one before it, and no
    variable with our value; False where that can't be known.
    """  # noqa: D205
    if delta.variables_added and state.variables is None:
        return False
    ours = LayerVersion.parse(delta.layer or "")
    for arn in state.layers:
        found = LayerVersion.parse(arn)
        if ours and found and found.same_layer(ours) and arn != delta.layer_before:
            return False
    variables = state.variables or {}
    return _variables_without(variables, delta, values) == variables


def _layers_without(layers: tuple[str, ...], delta: Delta) -> tuple[str, ...]:
    if delta.layer is None:
        return layers
    if delta.layer in layers:
        back = (delta.layer_before,) if delta.layer_before else ()
        at = layers.index(delta.layer)
        return (*layers[:at], *back, *layers[at + 1 :])
    ours = LayerVersion.parse(delta.layer)
    for arn in layers:
        found = LayerVersion.parse(arn)
        if found and ours and found.same_layer(ours):
            raise DeltaAbsent(
                f"it carries version {found.version} of the layer now, not version {ours.version}"
            )
    return layers


def _variables_without(
    variables: Mapping[str, str], delta: Delta, values: Mapping[str, str]
) -> dict[str, str]:
    given = {name: values[name] for name in delta.variables_added if name in values}
    if delta.wrapper is not None:
        given[EXEC_WRAPPER] = delta.wrapper
    return {name: value for name, value in variables.items() if given.get(name) != value}
