"""Which versions of a function get traffic, and whether those carry the Defender: pure, no calls.

A change reaches $LATEST alone. Callers of an alias get the published versions that it names, as they were published;
so do callers of a version that has provisioned concurrency of its own. Columns of a frame:

served (category): latest_only (no published version is served), served_protected (every published version that is
served carries the Defender), served_unprotected (one at least does not), unknown. serves_latest (bool): $LATEST gets
traffic too. effective_protection() combines both with the protection of $LATEST.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from scanner.aws.errors import BrokenAnswer

LATEST = "$LATEST"
Served = Literal["latest_only", "served_protected", "served_unprotected", "unknown"]
SERVED: tuple[Served, ...] = ("latest_only", "served_protected", "served_unprotected", "unknown")
VersionProtection = Literal["protected", "unprotected", "unknown"]
EFFECTIVE: tuple[VersionProtection, ...] = ("protected", "unprotected", "unknown")
# By qualifier (an alias, or a version that is called by its number): the versions that it serves.
Qualifiers = Mapping[str, tuple[str, ...]]


def versions_of(alias: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the versions that an alias (AliasConfiguration) serves, one with a routing weight included.

    Raises BrokenAnswer where the alias does not name them.
    """
    main, routing = alias.get("FunctionVersion"), alias.get("RoutingConfig") or {}
    weights = routing.get("AdditionalVersionWeights") or {} if isinstance(routing, dict) else None
    if not isinstance(main, str) or not isinstance(weights, dict):
        raise BrokenAnswer("list_aliases: an alias without FunctionVersion, or with weights that are no map")
    return (main, *sorted(version for version, weight in weights.items() if weight != 0))


def served_by(qualifiers: Qualifiers, carries: Mapping[str, VersionProtection]) -> Served:
    """Return what a function's qualifiers serve. carries: by published version; a version that it lacks is unknown."""
    states = {carries.get(version, "unknown") for version in published(qualifiers)}
    if not states:
        return "latest_only"
    if "unprotected" in states:
        return "served_unprotected"
    return "unknown" if "unknown" in states else "served_protected"


def serves_latest(qualifiers: Qualifiers) -> bool:
    """Return whether $LATEST gets traffic: an alias names it, or nothing else is served."""
    return LATEST in _named(qualifiers) or not qualifiers


def published(qualifiers: Qualifiers) -> set[str]:
    """Return the published versions that are served."""
    return _named(qualifiers) - {LATEST}


def format_aliases(qualifiers: Qualifiers, carries: Mapping[str, VersionProtection]) -> str:
    """Return what each qualifier serves: live=12:protected;beta=12:protected,13:unprotected."""

    def version(name: str) -> str:
        return name if name == LATEST else f"{name}:{carries.get(name, 'unknown')}"

    return ";".join(
        f"{qualifier}={','.join(map(version, versions))}"
        for qualifier, versions in sorted(qualifiers.items())
    )


def effective_protection(functions: pd.DataFrame) -> pd.Categorical:
    """Return whether each function is protected wherever its traffic goes: protected, unprotected or unknown.

    functions: protection (of $LATEST), served, serves_latest.
    """
    served, latest = functions["served"], functions["protection"] == "protected"
    unprotected = (served == "served_unprotected") | (functions["serves_latest"] & ~latest)
    codes = np.where(unprotected, 1, np.where(served == "unknown", 2, 0)).astype(np.int8)
    return pd.Categorical.from_codes(codes, list(EFFECTIVE))


def _named(qualifiers: Qualifiers) -> set[str]:
    return {version for versions in qualifiers.values() for version in versions}
