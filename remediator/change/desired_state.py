"""The desired state: what a protected function carries."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from scanner.core.arns import LayerVersion
from scanner.risk.layers import OurLayers, our_layers
from scanner.settings import EXEC_WRAPPER, DefenderSettings, Family


@dataclass(frozen=True)
class DesiredState:
    """What a protected function carries: a layer version, the wrapper's value, the names of all our variables.

    layers, wrappers: which of a function's are ours, and are replaced in place.
    """

    layers: OurLayers
    wrapper: str
    names: tuple[str, ...]
    wrappers: frozenset[str]

    @property
    def layer(self) -> LayerVersion:
        """Return the configured layer version."""
        return self.layers.configured


def desired_state(defender: DefenderSettings, family: Family, region: str, account_id: str) -> DesiredState:
    """Return what a function of this family, region and account is to carry."""
    return DesiredState(
        our_layers(defender, family, region, account_id),
        defender.wrapper_for(family),
        defender.variable_names,
        defender.our_wrappers(family),
    )


@dataclass(frozen=True)
class Ours:
    """What of a function's layers and variables is ours, whatever its runtime: configured now, or used before.

    layers: ANY_VERSION where every version is. variables: all but the wrapper, with their values; secrets.
    """

    layers: tuple[LayerVersion, ...]
    wrappers: frozenset[str]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def has_layer(self, arn: str) -> bool:
        """Return whether a layer version is ours."""
        found = LayerVersion.parse(arn)
        return found is not None and any(layer.covers(found) for layer in self.layers)

    def only(self, names: Collection[str]) -> "Ours":
        """Return the same with no variables but these."""
        return replace(
            self, variables={name: self.variables[name] for name in self.variables if name in names}
        )


def ours_on(defender: DefenderSettings, region: str, account_id: str, function_name: str) -> Ours:
    """Return what of a function would be ours."""
    anywhere = next(iter(defender.layers))  # a family decides on the wrapper alone
    variables = defender.variables_for(anywhere, function_name, region, account_id)
    return Ours(
        defender.all_layers(region, account_id),
        frozenset().union(*map(defender.our_wrappers, defender.layers)),
        {name: value for name, value in variables.items() if name != EXEC_WRAPPER},
    )
