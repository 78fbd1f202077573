"""How much of the Defender each function carries: its runtime family, our layer among its layers, the wrapper."""

import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.core.categories import by_category
from scanner.inventory.alias_traffic import EFFECTIVE, VersionProtection
from scanner.risk.layers import CURRENT_LAYER, NO_LAYER, layer_states
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
        """Return the state of our layer a row (layers.layer_states)."""
        return layer_states(self.functions, self.family, self.rules.defender)

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
        """Return a flag a row: whether the wrapper is the family's or one used before (without a family: any of ours)."""
        ours = {family: self.rules.defender.our_wrappers(family) for family in self.families}
        anywhere = frozenset().union(*ours.values())
        return self._wrapper_among(lambda family: ours[family] if family else anywhere)

    def _wrapper_among(self, wrappers: Callable[[Family | None], Container[str]]) -> Flags:
        def among(text: str, family: Family | None) -> bool:
            return text in wrappers(family)

        found: Flags = self.by_category_and_family("exec_wrapper", among, bool, False)
        found &= self.has_wrapper_variable
        return found

    @cached_property
    def has_another_value(self) -> Flags:
        """Return a flag a row: whether a configured variable is set to another value than the configured one."""
        different = self.functions["env_different"]
        return by_category(different, [text != "" for text in different.cat.categories], bool, True)

    @cached_property
    def installed(self) -> Flags:
        """Return a flag a row: whether our layer and our wrapper are both there, in whatever version."""
        there: Flags = self.has_our_wrapper & (self.layer != NO_LAYER)
        return there

    @property
    def protection(self) -> Codes:
        """Return an index into PROTECTIONS a row."""
        complete = self.has_our_wrapper & self._has_every_variable & self._fits_architecture
        equal = complete & ~self.has_another_value & self._has_configured_wrapper
        rest = self.has_our_wrapper.astype(np.int8) + complete + equal
        return _PROTECTION[self.layer, rest]

    @property
    def _has_every_variable(self) -> Flags:
        column, wanted = self.functions["env_names"], self.rules.defender.variable_names
        every: list[object] = [set(text.split(";")).issuperset(wanted) for text in column.cat.categories]
        return by_category(column, every, bool, False)

    @property
    def _fits_architecture(self) -> Flags:
        column, allowed = self.functions["architecture"], self.rules.risk.architectures
        return by_category(column, [text in allowed for text in column.cat.categories], bool, False)

    @property
    def _has_configured_wrapper(self) -> Flags:
        configured = {family: (self.rules.defender.wrapper_for(family),) for family in self.families}
        return self._wrapper_among(lambda family: configured[family] if family else ())


PROTECTIONS = ("protected", "outdated", "partial", "unprotected", "ahead")
_PROTECTED, _OUTDATED, _PARTIAL, _UNPROTECTED, _AHEAD = range(5)
# By the state of the layer (none, older, current, newer) and the rest: without our wrapper; with it, but something is
# missing; all there, but not all as configured; all as configured.
_PROTECTION = np.array(
    [
        [_UNPROTECTED, _PARTIAL, _PARTIAL, _PARTIAL],
        [_PARTIAL, _PARTIAL, _OUTDATED, _OUTDATED],
        [_PARTIAL, _PARTIAL, _PARTIAL, _PROTECTED],
        [_PARTIAL, _PARTIAL, _AHEAD, _AHEAD],
    ],
    dtype=np.int8,
)


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
