"""Our delta: added to a function's layers and variables, found there again, and removed exactly. Pure.

What is the owner's stays unchanged: other layers and their order, every other variable, and one of ours on a function
without our layer. A delta names what was added or replaced and holds no value but the wrapper's, so that it may be
written to files: a replaced value can be restored only while the process that replaced it knows it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from remediator.change.desired_state import DesiredState, Ours
from scanner.core.arns import LayerVersion
from scanner.core.errors import AutoDefenderError
from scanner.risk.layers import CURRENT_LAYER, NO_LAYER, FoundLayers, find_layers
from scanner.settings import EXEC_WRAPPER

# Lambda quotas: "Function layers: five layers", not adjustable.
MAX_LAYERS = 5
OTHER_VALUES = "keeps, not with the configured value: "
THERE_BEFORE = "keeps, not given by a run: "
_UNREADABLE = "its environment can't be read, and the wrapper must not stay without the layer"


class DeltaConflict(AutoDefenderError):
    """Our delta does not fit; str() is one of the risk engine's reason codes."""


class DeltaAbsent(AutoDefenderError):
    """The function does not carry the delta (any more), or not in a way that can be removed; str() says why."""


class DeltaUnreadable(DeltaAbsent):
    """Whether the function carries the delta can't be known: nobody can read its variables."""


@dataclass(frozen=True)
class Delta:
    """What a change adds to a function, and what it replaces.

    layer: the layer version ARN put in, None where the layers stay; position: its index then, else -1.
    layer_before: the layer of ours that was at that position, None where ours was appended.
    variables_added: names of the variables that were not there, the wrapper's included.
    wrapper: the value given to AWS_LAMBDA_EXEC_WRAPPER where it was added or replaced, else None.
    variables_changed: names of our variables that had another value. wrapper_before: the wrapper's, if among them.
    layers_removed: further layers that we used before, each with its index.
    """

    layer: str | None = None
    position: int = -1
    layer_before: str | None = None
    variables_added: tuple[str, ...] = ()
    wrapper: str | None = None
    variables_changed: tuple[str, ...] = ()
    wrapper_before: str | None = None
    layers_removed: tuple[tuple[int, str], ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything changes at all."""
        return self.reversible or bool(self.variables_changed)

    @property
    def reversible(self) -> bool:
        """Return whether there is more to it than replaced values, which nobody keeps."""
        return bool(self.layer or self.variables_added or self.wrapper is not None or self.layers_removed)

    @property
    def sets_variables(self) -> bool:
        """Return whether it adds a variable or gives the wrapper another value."""
        return bool(self.variables_added) or self.wrapper is not None

    @property
    def installs(self) -> bool:
        """Return whether the function lacked our layer or our wrapper."""
        return (self.layer is not None and self.layer_before is None) or EXEC_WRAPPER in self.variables_added


@dataclass(frozen=True)
class State:
    """The two things that we change: layer ARNs in order, and variables; None where they could not be read."""

    layers: tuple[str, ...]
    variables: Mapping[str, str] | None


def plan_delta(
    layers: Sequence[str],
    wrapper: str,
    names: Sequence[str],
    ours: DesiredState,
    different: Collection[str] = (),
) -> Delta:
    """Compute our delta from names alone.

    names: which of our variables are set; different: which of them, the wrapper aside, have another value; wrapper:
    the present value of AWS_LAMBDA_EXEC_WRAPPER if it is among the names. Raises DeltaConflict("layers") where no slot
    is left, ("wrapper_conflict") for another's wrapper, ("variable_conflict") for another value without our layer.
    """
    wrapped = EXEC_WRAPPER in names
    if wrapped and wrapper not in ours.wrappers:
        raise DeltaConflict("wrapper_conflict")
    found = find_layers(layers, ours.layers)
    if different and found.state == NO_LAYER:
        raise DeltaConflict("variable_conflict")
    layer, position, before = _place(layers, ours.layer, found)
    rewrapped = wrapped and wrapper != ours.wrapper
    return Delta(
        layer,
        position,
        before,
        tuple(name for name in ours.names if name not in names),
        ours.wrapper if rewrapped or not wrapped else None,
        tuple(name for name in ours.names if name in different or (rewrapped and name == EXEC_WRAPPER)),
        wrapper if rewrapped else None,
        tuple((position, layers[position]) for position in found.surplus),
    )


def deltas_of_ours(state: State, ours: Ours) -> tuple[Delta, ...]:
    """Return all of ours that a function carries, one delta a layer, as remove_deltas removes them; none where it carries
    nothing.

    Without a layer of ours, a wrapper is another layer's where there is one, and a value is the owner's where there is no
    wrapper of ours. Raises DeltaUnreadable where its variables can't be read.
    """  # noqa: D205
    variables = state.variables
    if variables is None:
        raise DeltaUnreadable(_UNREADABLE)
    layers = [Delta(arn, position) for position, arn in enumerate(state.layers) if ours.has_layer(arn)]
    wrapper = variables.get(EXEC_WRAPPER)
    wrapped = wrapper in ours.wrappers and (bool(layers) or not state.layers)
    if not layers and not wrapped:
        return ()
    names = tuple(name for name, value in ours.variables.items() if variables.get(name) == value)
    first, *others = layers or [Delta()]
    whole = replace(
        first,
        variables_added=(EXEC_WRAPPER, *names) if wrapped else names,
        wrapper=wrapper if wrapped else None,
    )
    return (whole, *others)


def other_values(state: State, ours: Ours) -> str:
    """Return which of our variables stay when all of ours is removed, as a detail: their value is not the configured one."""
    variables = state.variables or {}
    names = [name for name, value in ours.variables.items() if variables.get(name, value) != value]
    return f"{OTHER_VALUES}{', '.join(sorted(names))}" if names else ""


def values_before(state: State, ours: Ours) -> str:
    """Return which of our variables have the configured value after a removal, as a detail: no run gave it to them."""
    variables = state.variables or {}
    names = [name for name, value in ours.variables.items() if variables.get(name) == value]
    return f"{THERE_BEFORE}{', '.join(sorted(names))}" if names else ""


def _place(
    layers: Sequence[str], ours: LayerVersion, found: FoundLayers
) -> tuple[str | None, int, str | None]:
    """Find the position of our layer: none (it is there), that of another one of ours, or the end."""
    if found.at_position == CURRENT_LAYER:
        return None, -1, None
    if found.at_position != NO_LAYER:
        return str(ours), found.position, layers[found.position]
    if len(layers) >= MAX_LAYERS:
        raise DeltaConflict("layers")
    return str(ours), len(layers), None


def add_delta(state: State, delta: Delta, values: Mapping[str, str]) -> State:
    """Return the state with the delta in it. `values`: our variables with their values.

    Raises DeltaConflict("env_unreadable") where variables are to be set among ones that nobody could read.
    """
    variables = state.variables
    ours = (*delta.variables_added, *delta.variables_changed)
    if ours:
        if variables is None:
            raise DeltaConflict("env_unreadable")
        variables = {**variables, **{name: values[name] for name in ours}}
    return State(layers_with(state.layers, delta), variables)


def layers_with(layers: tuple[str, ...], delta: Delta) -> tuple[str, ...]:
    """Return the layers with ours among them: appended, or in the place of another one of ours; no further one."""
    gone = {position for position, _ in delta.layers_removed}
    if delta.layer is not None:
        layers = (*layers[: delta.position], delta.layer, *layers[delta.position + 1 :])
    return tuple(arn for position, arn in enumerate(layers) if position not in gone)


def has_delta(state: State, delta: Delta, values: Mapping[str, str]) -> bool | None:
    """Return whether the whole delta is in the state; None where that can't be known.

    values: our variables, rendered again. They decide only where nothing but values was replaced: the configuration may
    have changed since a run that was killed.
    """
    variables = state.variables
    if not _has_layers(state.layers, delta):
        return False
    if variables is None:
        return None if delta.sets_variables or not delta.reversible else True
    if not delta.reversible:
        return all(name in values and variables.get(name) == values[name] for name in delta.variables_changed)
    return all(name in variables for name in delta.variables_added) and (
        delta.wrapper is None or variables.get(EXEC_WRAPPER) == delta.wrapper
    )


def _has_layers(layers: Sequence[str], delta: Delta) -> bool:
    there = delta.layer is None or delta.layer in layers
    return there and not any(arn in layers for _, arn in delta.layers_removed)


def remove_delta(
    state: State, delta: Delta, values: Mapping[str, str], earlier: Mapping[str, str] | None = None
) -> State:
    """Return the state without the delta, and everything that came later unchanged.

    A variable goes only while it has the value that we gave it (`values`: our variables, rendered again; the
    wrapper's is the delta's own); one that was replaced gets the value that it had (`earlier`), or stays where that
    is not known. Raises DeltaAbsent where the layer is there in another version than ours, where nothing of the
    delta is left or only values whose earlier ones nobody knows; DeltaUnreadable where variables would have to go that
    nobody can read.
    """
    layers = _layers_without(state.layers, delta)
    variables = state.variables
    if variables is not None:
        variables = _variables_without(variables, delta, values, earlier or {})
    elif delta.sets_variables:
        raise DeltaUnreadable(_UNREADABLE)
    after = State(layers, variables)
    if after == state:
        raise DeltaAbsent(
            "it no longer carries what was added"
            if delta.reversible
            else f"only values were replaced ({', '.join(delta.variables_changed)}), and no journal has the earlier ones"
        )
    return after


def remove_deltas(state: State, deltas: Sequence[Delta], values: Mapping[str, str]) -> State:
    """Return the state without any of some deltas. Raises DeltaAbsent where one of them can't be removed, or is not there."""
    for delta in deltas:
        state = remove_delta(state, delta, values)
    return state


def lacks_delta(
    state: State, delta: Delta, values: Mapping[str, str], earlier: Mapping[str, str] | None = None
) -> bool | None:
    """Return whether nothing of the delta is left that remove_delta could remove; None where that can't be known."""
    try:
        remove_delta(state, delta, values, earlier)
    except DeltaUnreadable:
        return None
    except DeltaAbsent:
        return True
    return False


def is_without(state: State, delta: Delta, values: Mapping[str, str]) -> bool | None:
    """Return whether nothing of ours is where the delta was put: no version of the layer but the one before it, and no
    variable with our value; None where that can't be known.
    """  # noqa: D205
    ours = LayerVersion.parse(delta.layer or "")
    for arn in state.layers:
        found = LayerVersion.parse(arn)
        if ours and found and found.same_layer(ours) and arn != delta.layer_before:
            return False
    if delta.variables_added and state.variables is None:
        return None
    variables = state.variables or {}
    return _variables_without(variables, delta, values, {}) == variables


def are_without(state: State, deltas: Sequence[Delta], values: Mapping[str, str]) -> bool | None:
    """Return whether nothing is left of deltas that went together, the newest first; None where that can't be known.

    Of each layer, the version that was there before the oldest of them is back.
    """
    first = {_layer_name(delta): delta.layer_before for delta in deltas if delta.layer is not None}
    found = {
        is_without(state, replace(delta, layer_before=first.get(_layer_name(delta))), values)
        for delta in deltas
    }
    return False if False in found else None if None in found else True


def kept_variables(state: State, deltas: Sequence[Delta]) -> tuple[list[str], list[str]]:
    """Return names of variables that are not as they were without these deltas, or may not be.

    First, those that were added and are still there with another value than ours: the owner's, or ours of an earlier
    configuration. Then, those whose value was replaced: the earlier one is not known.
    """
    added = {name for delta in deltas for name in delta.variables_added}
    replaced = {name for delta in deltas for name in delta.variables_changed} - added
    variables = state.variables
    if variables is None:
        return sorted(added), sorted(replaced)
    if variables.get(EXEC_WRAPPER) in {delta.wrapper_before for delta in deltas}:
        replaced.discard(EXEC_WRAPPER)
    return sorted(added & variables.keys()), sorted(replaced & variables.keys())


def _layer_name(delta: Delta) -> str:
    return (delta.layer or "").rpartition(":")[0]


def _layers_without(layers: tuple[str, ...], delta: Delta) -> tuple[str, ...]:
    left = list(_without_ours(layers, delta))
    for position, arn in delta.layers_removed:
        if arn not in left and len(left) < MAX_LAYERS:
            left.insert(position, arn)
    return tuple(left)


def _without_ours(layers: tuple[str, ...], delta: Delta) -> tuple[str, ...]:
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
    variables: Mapping[str, str], delta: Delta, values: Mapping[str, str], earlier: Mapping[str, str]
) -> dict[str, str]:
    given = dict(values)
    if delta.wrapper is not None:
        given[EXEC_WRAPPER] = delta.wrapper
    if delta.wrapper_before is not None:
        earlier = {**earlier, EXEC_WRAPPER: delta.wrapper_before}
    still_ours = {name for name, value in variables.items() if given.get(name) == value}
    gone = still_ours.intersection(delta.variables_added)
    back = {name: earlier[name] for name in delta.variables_changed if name in still_ours & earlier.keys()}
    return {name: value for name, value in {**variables, **back}.items() if name not in gone}
