"""What a run has observed: its accounts, its units and its assessed functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

# What a change or a rollback sets in the frame; the next sweep reads it from AWS.
_CHANGED = {"protection": "protected", "verdict": "protected", "reasons": ""}
_REMOVED = {"protection": "unprotected", "verdict": "excluded", "reasons": "opted_out", "remove": False}
_ROLLED_BACK = {"verdict": "excluded", "reasons": "quarantined"}


@dataclass(frozen=True)
class Observation:
    """The accounts (scanner/organization/accounts.py), the units ledger and the assessed functions frame.

    whole_scope: every unit was asked; False where the sweep was stopped, or out of time, before its end.
    """

    accounts: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame
    whole_scope: bool = True

    def after(self, changes: pd.DataFrame) -> "Observation":
        """Return a copy in which the changed functions are protected, or without the Defender where it was removed."""
        changed = changes[changes["outcome"] == "changed"]
        removed = changed["action"] == "remove"
        observed = self
        for rows, columns in ((changed[~removed], _CHANGED), (changed[removed], _REMOVED)):
            observed = observed._with(rows, columns)
        return observed

    def after_rollback(self, changes: pd.DataFrame, protection_before: Mapping[str, str]) -> "Observation":
        """Return a copy in which the functions rolled back are quarantined, with their protection before the change.

        protection_before: by function ARN.
        """
        observed, rolled_back = self, changes[changes["outcome"] == "rolled_back"]
        protection = rolled_back["function_arn"].map(protection_before)
        for before in protection.unique():
            nothing_left = {"remove": False} if before == "unprotected" else {}
            observed = observed._with(
                rolled_back[protection == before], {"protection": before, **_ROLLED_BACK, **nothing_left}
            )
        return observed

    def _with(self, changes: pd.DataFrame, columns: Mapping[str, Any]) -> "Observation":
        if changes.empty:
            return self
        key = ["account_id", "region", "function_name"]
        candidates = self.functions[self.functions["function_name"].isin(changes["function_name"])]
        keys = pd.MultiIndex.from_frame(candidates[key].astype("str"))
        rows = candidates.index[keys.isin(pd.MultiIndex.from_frame(changes[key].astype("str")))]
        functions = self.functions.assign(
            reasons=self.functions["reasons"].cat.set_categories(
                self.functions["reasons"].cat.categories.union([columns["reasons"]])
            )
        )
        functions.loc[rows, list(columns)] = list(columns.values())
        return replace(self, functions=functions)
