"""What a run has observed: its accounts, its units and its assessed functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

# What a change makes of a function, and a rollback beside its protection; the next sweep reads it.
_CHANGED = {"protection": "protected", "verdict": "protected", "reasons": ""}
_ROLLED_BACK = {"verdict": "excluded", "reasons": "quarantined"}


@dataclass(frozen=True)
class Observation:
    """What was seen: accounts (accounts.py), units (units.py) and assessed functions (risk.py)."""

    accounts: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame

    def after(self, changes: pd.DataFrame) -> "Observation":
        """Give the same with the functions protected that were changed."""
        return self._with(changes[changes["outcome"] == "changed"], _CHANGED)

    def after_rollback(self, changes: pd.DataFrame, protection_before: Mapping[str, str]) -> "Observation":
        """Give the same with what was rolled back in quarantine, as protected as it was before. protection_before: by
        function ARN.
        """  # noqa: D205
        seen, back = self, changes[changes["outcome"] == "rolled_back"]
        protection = back["function_arn"].map(protection_before)
        for before in protection.unique():
            seen = seen._with(back[protection == before], {"protection": before, **_ROLLED_BACK})
        return seen

    def _with(self, changes: pd.DataFrame, columns: Mapping[str, str]) -> "Observation":
        if changes.empty:
            return self
        place = ["account_id", "region", "function_name"]
        candidates = self.functions[self.functions["function_name"].isin(changes["function_name"])]
        keys = pd.MultiIndex.from_frame(candidates[place].astype("str"))
        rows = candidates.index[keys.isin(pd.MultiIndex.from_frame(changes[place].astype("str")))]
        functions = self.functions.assign(
            reasons=self.functions["reasons"].cat.set_categories(
                self.functions["reasons"].cat.categories.union([columns["reasons"]])
            )
        )
        functions.loc[rows, list(columns)] = list(columns.values())
        return replace(self, functions=functions)
