"""The desired state: what a protected function carries."""

from dataclasses import dataclass

from scanner.core.arns import LayerVersion
from scanner.settings import DefenderSettings, Family


@dataclass(frozen=True)
class DesiredState:
    """What a protected function carries: a layer version, the wrapper's value, the names of all our variables."""

    layer: LayerVersion
    wrapper: str
    names: tuple[str, ...]


def desired_state(defender: DefenderSettings, family: Family, region: str, account_id: str) -> DesiredState:
    """Return what a function of this family, region and account is to carry."""
    return DesiredState(
        defender.layer_for(family, region, account_id), defender.wrapper_for(family), defender.variable_names
    )
