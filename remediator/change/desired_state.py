"""The desired state: what a protected function carries."""

from dataclasses import dataclass

from scanner.core.arns import LayerVersion
from scanner.risk.layers import OurLayers, our_layers
from scanner.settings import DefenderSettings, Family


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
