"""Our layer among a function's layers: found by its whole ARN, publisher account and layer name exactly. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.core.arns import LayerVersion
from scanner.core.categories import by_category
from scanner.settings import DefenderSettings, Family

Rows = npt.NDArray[np.intp]
NO_LAYER, OLDER_LAYER, CURRENT_LAYER, NEWER_LAYER = range(4)
_NONE = -1  # the index of a list of layers of which none can be ours
# The few ARNs that most functions of an organization share are parsed once.
_parsed = lru_cache(2**14)(LayerVersion.parse)


@dataclass(frozen=True)
class OurLayers:
    """Which layers of a function are ours: every version of the configured one, and those used before it.

    previous: their version may be ANY_VERSION. exact: a newer version than the configured one does not do.
    """

    configured: LayerVersion
    previous: tuple[LayerVersion, ...] = ()
    exact: bool = True

    def version_state(self, version: int) -> int:
        """Return the state of a version of the configured layer."""
        if version < self.configured.version:
            return OLDER_LAYER
        return NEWER_LAYER if self.exact and version > self.configured.version else CURRENT_LAYER


@dataclass(frozen=True)
class FoundLayers:
    """Our layers among a function's.

    position: the index of the one that the configured layer replaces, -1 without one. at_position: that one's state.
    surplus: the indices of further ones that we used before.
    """

    position: int = -1
    at_position: int = NO_LAYER
    surplus: tuple[int, ...] = ()

    @property
    def state(self) -> int:
        """Return NO_LAYER, OLDER_LAYER (or one used before), CURRENT_LAYER or NEWER_LAYER."""
        return OLDER_LAYER if self.surplus else self.at_position


def our_layers(defender: DefenderSettings, family: Family, region: str, account_id: str) -> OurLayers:
    """Return which layers are ours on a function of this family, region and account."""
    return OurLayers(
        defender.layer_for(family, region, account_id),
        defender.previous_layers(region, account_id),
        defender.version_policy == "exact",
    )


def find_layers(arns: Sequence[str], ours: OurLayers) -> FoundLayers:
    """Find our layers; of several versions of the configured one, the first counts."""
    parsed = {position: layer for position, arn in enumerate(arns) if (layer := _parsed(arn))}
    configured = [position for position, layer in parsed.items() if layer.same_layer(ours.configured)]
    previous = [
        position
        for position, layer in parsed.items()
        if position not in configured and any(old.covers(layer) for old in ours.previous)
    ]
    if configured:
        first = configured[0]
        return FoundLayers(first, ours.version_state(parsed[first].version), tuple(previous))
    return FoundLayers(previous[0], OLDER_LAYER, tuple(previous[1:])) if previous else FoundLayers()


def layer_states(
    functions: pd.DataFrame, family: npt.NDArray[np.int8], defender: DefenderSettings
) -> npt.NDArray[np.int8]:
    """Return NO_LAYER, OLDER_LAYER, CURRENT_LAYER or NEWER_LAYER a row.

    family: the index into defender.layers a row, -1 for none. The state is decided once for each combination of layers
    that may be ours, family, region and account: most lists of layers have none, and the others share a few.
    """
    templates = defender.layer_templates
    index, possible = _possible(functions["layers"].cat.categories, templates)
    numbers = by_category(functions["layers"], index, np.int32, _NONE)
    rows = np.flatnonzero((numbers != _NONE) & (family >= 0))
    keys = [numbers, family, functions["region"].cat.codes.to_numpy()]
    if any("{account_id}" in template for template in templates):
        keys.append(functions["account_id"].cat.codes.to_numpy())
    combination, examples = _combinations(rows, keys)
    families = list(defender.layers)
    where = functions[["region", "account_id"]].iloc[examples].itertuples(index=False)
    states = [
        find_layers(possible[numbers[row]], our_layers(defender, families[family[row]], *unit)).state
        for row, unit in zip(examples, where, strict=True)
    ]
    result = np.zeros(len(functions), dtype=np.int8)
    result[rows] = np.array(states, dtype=np.int8)[combination]
    return result


def _combinations(rows: Rows, keys: Iterable[npt.NDArray[Any]]) -> tuple[Rows, Rows]:
    """Return for each row the number of its combination of keys, and for each combination one of its rows."""
    joined = np.zeros(len(rows), dtype=np.int64)
    for key in keys:
        joined = joined * (key.max(initial=0) + 1) + key[rows]
    combination, distinct = pd.factorize(joined)
    examples = np.empty(len(distinct), dtype=np.intp)
    examples[combination] = rows
    return combination, examples


def _possible(texts: Iterable[str], templates: Iterable[str]) -> tuple[list[object], list[tuple[str, ...]]]:
    """Return what may be ours of each list of layers (ARNs joined by a space), as an index into the distinct ones.

    Searched first as text, for a constant part of each template: most lists have none of ours.
    """
    search = re.compile("|".join(map(re.escape, sorted(set(map(_literal, templates)))))).search
    known: dict[tuple[str, ...], int] = {}
    numbers: list[object] = []
    for text in texts:
        arns = tuple(filter(search, text.split(" "))) if search(text) else ()
        numbers.append(known.setdefault(arns, len(known)) if arns else _NONE)
    return numbers, list(known)


def _literal(template: str) -> str:
    """Return the longest part after a placeholder, which has the layer's name; the first where that is empty."""
    first, *others = re.split(r"\{\w+\}", re.sub(r":(\*|[0-9]+)$", "", template))
    return max(others, key=len, default="") or first
