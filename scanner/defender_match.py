"""How much of the Defender each function carries: its runtime family, our layer among its layers, the wrapper."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.arns import LayerVersion
from scanner.rules import Rules
from scanner.settings import EXEC_WRAPPER, Family

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

# Lambda developer guide, "Modifying the runtime environment": wrapper scripts work on Python 3.8 and Node.js 10
# and later; older ones ran on Amazon Linux 1, which has none.
_FAMILIES: tuple[tuple[Family, re.Pattern[str], int], ...] = (
    ("python", re.compile(r"python3\.(\d{1,2})"), 8),
    ("nodejs", re.compile(r"nodejs(\d{1,2})\.x"), 10),
)
NO_LAYER, OLDER_LAYER, CURRENT_LAYER = 0, 1, 2


def family_of(runtime: str) -> Family | None:
    """Give the family of a runtime that takes a wrapper; None for every other one."""
    for family, pattern, oldest in _FAMILIES:
        match = pattern.fullmatch(runtime)
        if match and int(match[1]) >= oldest:
            return family
    return None


def by_category(column: pd.Series, values: list[object], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Spread one value a category over the rows: a look-up a row instead of a comparison of strings."""
    return np.asarray(values, dtype=dtype)[column.cat.codes.to_numpy()] if len(column) else np.empty(0, dtype)


@dataclass(frozen=True)
class DefenderMatch:
    """Column-wise views of a functions frame, each computed once, when a check first asks for it."""

    functions: pd.DataFrame
    rules: Rules

    @property
    def families(self) -> list[Family]:
        """List the families that a layer is configured for; the index is the code in `family`."""
        return list(self.rules.defender.layers)

    @cached_property
    def family(self) -> Codes:
        """Give the index into `families` a row; -1 where no layer of ours fits the runtime."""
        runtime = self.functions["runtime"]
        codes: list[object] = [
            self.families.index(family) if (family := family_of(text)) in self.families else -1
            for text in runtime.cat.categories
        ]
        return by_category(runtime, codes, np.int8)

    @cached_property
    def layer(self) -> Codes:
        """Give NO_LAYER, OLDER_LAYER or CURRENT_LAYER a row, for the layer of the row's family."""
        layers = self.functions["layers"]
        result = np.zeros(len(layers), dtype=np.int8)
        for code, family in enumerate(self.families):
            template = self.rules.defender.layers[family]
            states = [self._states(text, family) for text in layers.cat.categories]
            rows = self.family == code
            if "{account_id}" not in template:
                fixed = by_category(layers, [s.get(_publisher(template), 0) for s in states], np.int8)
                result[rows] = fixed[rows]
            elif any(states):
                result[rows] = self._own_account_states(states)[rows]
        return result

    def _own_account_states(self, states: list[dict[str, int]]) -> Codes:
        """Look the state up by (layers, account): the publisher is the function's own account."""
        layers, account = self.functions["layers"].cat, self.functions["account_id"].cat
        carries = np.flatnonzero(np.asarray([bool(s) for s in states])[layers.codes.to_numpy()])
        width = max(1, len(account.categories))
        keys = layers.codes.to_numpy()[carries].astype(np.int64) * width + account.codes.to_numpy()[carries]
        pairs, inverse = np.unique(keys, return_inverse=True)
        found = [states[key // width].get(account.categories[key % width], 0) for key in pairs.tolist()]
        result = np.zeros(len(self.functions), dtype=np.int8)
        result[carries] = np.asarray(found, dtype=np.int8)[inverse]
        return result

    def _states(self, layers: str, family: Family) -> dict[str, int]:
        """Map publisher account to the state of the layer with our name among some layers."""
        wanted_name = self.rules.defender.layers[family].rsplit(":", 2)[1]
        if f":{wanted_name}:" not in layers:
            return {}
        states = {}
        for layer in filter(None, map(LayerVersion.parse, layers.split(" "))):
            wanted = self.rules.defender.layer_for(family, layer.region, layer.account_id)
            if layer.name == wanted.name and layer.partition == wanted.partition:
                states[layer.account_id] = CURRENT_LAYER if layer.version >= wanted.version else OLDER_LAYER
        return states

    @cached_property
    def has_wrapper_variable(self) -> Flags:
        """Tell a row whether AWS_LAMBDA_EXEC_WRAPPER is set, to whatever value."""
        names = self.functions["env_names"]
        present: list[object] = [EXEC_WRAPPER in text.split(";") for text in names.cat.categories]
        return by_category(names, present, bool)

    @cached_property
    def has_our_wrapper(self) -> Flags:
        """Tell a row whether AWS_LAMBDA_EXEC_WRAPPER has the value that the row's family gets."""
        column = self.functions["exec_wrapper"]
        ours = np.zeros(len(column), dtype=bool)
        known = [self.rules.defender.wrapper_for(family) for family in self.families]
        for code, accepted in [(-1, known), *((i, [wrapper]) for i, wrapper in enumerate(known))]:
            rows = self.family == code
            ours[rows] = by_category(column, [text in accepted for text in column.cat.categories], bool)[rows]
        return ours & self.has_wrapper_variable

    @property
    def protection(self) -> Codes:
        """Give an index into PROTECTIONS a row."""
        layer, wrapper = self.layer, self.has_our_wrapper
        return np.select(
            [
                wrapper & (layer == CURRENT_LAYER),
                wrapper & (layer == OLDER_LAYER),
                wrapper | (layer > NO_LAYER),
            ],
            [0, 1, 2],
            default=3,
        ).astype(np.int8)


PROTECTIONS = ("protected", "outdated", "partial", "unprotected")


def _publisher(template: str) -> str:
    return template.split(":")[4]
