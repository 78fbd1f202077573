"""Which versions of a function its qualifiers serve, and whether those carry the Defender: pure, no calls.

A change reaches $LATEST alone. Callers of an alias get the published versions that it names, as they were published;
so do callers of a version that somebody keeps warm with provisioned concurrency of its own. Columns of a frame:

served (category): latest_only (no published version is served), served_protected (every published version that is
served carries the Defender), served_unprotected (one at least does not), unknown. serves_latest (bool): $LATEST gets
traffic too. effective_protection() puts both together with the protection of $LATEST.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from scanner.inventory.functions_frame import BrokenAnswer
from scanner.risk.layers import CURRENT_LAYER
from scanner.risk.protection import PROTECTIONS, DefenderMatch

LATEST = "$LATEST"
Served = Literal["latest_only", "served_protected", "served_unprotected", "unknown"]
SERVED: tuple[Served, ...] = ("latest_only", "served_protected", "served_unprotected", "unknown")
VersionProtection = Literal["protected", "unprotected", "unknown"]
EFFECTIVE: tuple[VersionProtection, ...] = ("protected", "unprotected", "unknown")
# By qualifier (an alias, or a version that is served by its number): the versions it serves.
Qualifiers = Mapping[str, tuple[str, ...]]


def versions_of(alias: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the versions that an alias serves (AliasConfiguration), the one it routes a weight to included.

    Raises BrokenAnswer where that is not told.
    """
    main, routing = alias.get("FunctionVersion"), alias.get("RoutingConfig") or {}
    weights = routing.get("AdditionalVersionWeights") or {} if isinstance(routing, dict) else None
    if not isinstance(main, str) or not isinstance(weights, dict):
        raise BrokenAnswer("list_aliases: an alias without FunctionVersion, or with weights that are no map")
    return (main, *sorted(version for version, weight in weights.items() if weight != 0))


def versions_protection(versions: DefenderMatch) -> list[VersionProtection]:
    """Tell of each row whether it carries the Defender; "unknown" where what was read cannot tell."""
    functions = versions.functions
    protected = versions.protection == PROTECTIONS.index("protected")
    # Without our current layer nothing is protected, whatever the environment that could not be read may hold.
    hidden = (functions["layer_count"].to_numpy() < 0) | (
        ~functions["env_readable"].to_numpy() & (versions.layer == CURRENT_LAYER)
    )
    codes = np.where(protected, 0, np.where(hidden, 2, 1))
    return [EFFECTIVE[code] for code in codes.tolist()]


def served_by(qualifiers: Qualifiers, carries: Mapping[str, VersionProtection]) -> Served:
    """Sum up what a function's qualifiers serve; `carries` tells of each published version, one it lacks is unknown."""
    states = {carries.get(version, "unknown") for version in published(qualifiers)}
    if not states:
        return "latest_only"
    if "unprotected" in states:
        return "served_unprotected"
    return "unknown" if "unknown" in states else "served_protected"


def serves_latest(qualifiers: Qualifiers) -> bool:
    """Tell whether $LATEST gets traffic: an alias names it, or nothing else is served."""
    return LATEST in _named(qualifiers) or not qualifiers


def published(qualifiers: Qualifiers) -> set[str]:
    """Give the published versions that are served."""
    return _named(qualifiers) - {LATEST}


def format_aliases(qualifiers: Qualifiers, carries: Mapping[str, VersionProtection]) -> str:
    """Write what each qualifier serves: live=12:protected;beta=12:protected,13:unprotected."""

    def version(name: str) -> str:
        return name if name == LATEST else f"{name}:{carries.get(name, 'unknown')}"

    return ";".join(
        f"{qualifier}={','.join(map(version, versions))}"
        for qualifier, versions in sorted(qualifiers.items())
    )


def effective_protection(functions: pd.DataFrame) -> pd.Categorical:
    """Tell of each function whether it is protected wherever its traffic goes: protected, unprotected or unknown.

    functions: protection (of $LATEST, as it is now), served, serves_latest.
    """
    served, latest = functions["served"], functions["protection"] == "protected"
    bare = (served == "served_unprotected") | (functions["serves_latest"] & ~latest)
    codes = np.where(bare, 1, np.where(served == "unknown", 2, 0)).astype(np.int8)
    return pd.Categorical.from_codes(codes, list(EFFECTIVE))


def _named(qualifiers: Qualifiers) -> set[str]:
    return {version for versions in qualifiers.values() for version in versions}
