"""How much of the Defender each function carries: its runtime family, our layer among its layers, the wrapper."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.core.categories import by_category
from scanner.inventory.alias_traffic import EFFECTIVE, VersionProtection
from scanner.risk.layers import CURRENT_LAYER, candidates, layer_states
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER, Family

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

# Lambda developer guide, "Modifying the runtime environment": wrapper scripts work on Python 3.8 and Node.js 10
# and later; older ones ran on Amazon Linux 1, which has none.
_FAMILIES: tuple[tuple[Family, re.Pattern[str], int], ...] = (
    ("python", re.compile(r"python3\.([0-9]{1,2})"), 8),
    ("nodejs", re.compile(r"nodejs([0-9]{1,2})\.x"), 10),
)


def family_of(runtime: str) -> Family | None:
    """Return the family of a runtime that takes a wrapper; None for every other one."""
    for family, pattern, oldest in _FAMILIES:
        match = pattern.fullmatch(runtime)
        if match and int(match[1]) >= oldest:
            return family
    return None


@dataclass(frozen=True)
class DefenderMatch:
    """Column-wise views of a functions frame, each computed once, when a check first asks for it."""

    functions: pd.DataFrame
    rules: Rules

    @property
    def families(self) -> list[Family]:
        """Return the families that a layer is configured for; the index is the code in `family`."""
        return list(self.rules.defender.layers)

    @cached_property
    def family(self) -> Codes:
        """Return the index into `families` a row; -1 where no layer of ours fits the runtime and the region."""
        runtime = self.functions["runtime"]
        codes: list[object] = [
            self.families.index(family) if (family := family_of(text)) in self.families else -1
            for text in runtime.cat.categories
        ]
        result: Codes = by_category(runtime, codes, np.int8, -1)
        for code, family in enumerate(self.families):
            regions = self.rules.defender.regions_of(family)
            if regions is not None:
                result[(result == code) & ~self.functions["region"].isin(regions).to_numpy()] = -1
        return result

    @cached_property
    def layer(self) -> Codes:
        """Return NO_LAYER, OLDER_LAYER or CURRENT_LAYER a row, for the layer of the row's family."""
        defender, own = self.rules.defender, self.functions[["account_id", "region", "layers"]]
        templates = {
            (code, region): defender.template_for(family, region)
            for code, family in enumerate(self.families)
            for region in defender.regions_of(family) or ("",)
        }
        among = candidates(own["layers"].cat.categories.tolist(), templates.values())
        result = np.zeros(len(own), dtype=np.int8)
        for (code, region), template in templates.items():
            rows = self.family == code
            if region:
                rows &= (own["region"] == region).to_numpy()
            result[rows] = layer_states(own[rows], template, among)
        return result

    def by_category_and_family(
        self, column: str, value: Callable[[str, Family | None], object], dtype: npt.DTypeLike, absent: object
    ) -> npt.NDArray[Any]:
        """Spread value(category, family) over the rows; family is None for rows whose runtime has no layer of ours."""
        own = self.functions[column].cat
        families = (None, *self.families)
        table = np.full((len(own.categories) + 1, len(families)), absent, dtype)
        for row, text in enumerate(own.categories):
            table[row] = [value(text, family) for family in families]
        # Code -1 is the last row of the table, and the first column for the family.
        places = own.codes.to_numpy().astype(np.intp) * len(families) + (self.family + 1)
        rows: npt.NDArray[Any] = np.take(table, places, mode="wrap")
        return rows

    @cached_property
    def has_wrapper_variable(self) -> Flags:
        """Return a flag a row: whether AWS_LAMBDA_EXEC_WRAPPER is set, to any value."""
        names = self.functions["env_names"]
        present: list[object] = [EXEC_WRAPPER in text.split(";") for text in names.cat.categories]
        return by_category(names, present, bool, True)

    @cached_property
    def has_our_wrapper(self) -> Flags:
        """Return a flag a row: whether AWS_LAMBDA_EXEC_WRAPPER is the family's wrapper (without a family: any of ours)."""
        known = {family: self.rules.defender.wrapper_for(family) for family in self.families}

        def ours(text: str, family: Family | None) -> bool:
            return text == known[family] if family else text in known.values()

        return self.by_category_and_family("exec_wrapper", ours, bool, False) & self.has_wrapper_variable

    @property
    def protection(self) -> Codes:
        """Return an index into PROTECTIONS a row."""
        return np.take(_PROTECTION, self.layer + len(_PROTECTION) // 2 * self.has_our_wrapper)


PROTECTIONS = ("protected", "outdated", "partial", "unprotected")
_PROTECTED, _OUTDATED, _PARTIAL, _UNPROTECTED = range(4)
# By the state of the layer (none, older, current): first without our wrapper, then with it.
_PROTECTION = np.array([_UNPROTECTED, _PARTIAL, _PARTIAL, _PARTIAL, _OUTDATED, _PROTECTED], dtype=np.int8)


def versions_protection(versions: pd.DataFrame, rules: Rules) -> list[VersionProtection]:
    """Return whether each row of a frame of published versions carries the Defender; unknown where it can't be read."""
    match = DefenderMatch(versions, rules)
    protected = match.protection == _PROTECTED
    # Without our current layer nothing is protected, whatever an environment that could not be read contains.
    unreadable = (versions["layer_count"].to_numpy() < 0) | (
        ~versions["env_readable"].to_numpy() & (match.layer == CURRENT_LAYER)
    )
    codes = np.where(protected, 0, np.where(unreadable, 2, 1))
    return [EFFECTIVE[code] for code in codes.tolist()]
