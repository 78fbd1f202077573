"""The table of functions.csv: the assessed functions frame, with accounts, OUs and ARNs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.data.columns import FUNCTIONS
from scanner.core.arns import function_arns
from scanner.inventory.alias_traffic import effective_protection
from scanner.inventory.utilization import NOT_ASKED

# Columns of optional reads, each with the value that means "not known".
_OPTIONAL: Mapping[str, Any] = {
    **dict.fromkeys(("memory_utilization_pct", "timeout_utilization_pct"), np.float32("nan")),
    **dict.fromkeys(("memory_utilization_outcome", "timeout_utilization_outcome"), NOT_ASKED),
    **dict.fromkeys(("effective_protection", "served", "aliases", "snap_start", "served_outcome"), ""),
    "provisioned_concurrency": np.int32(-1),
}


def functions_table(functions: pd.DataFrame, accounts: pd.DataFrame, partition: str) -> pd.DataFrame:
    """Return functions.csv's columns: the assessed frame, its accounts' names and OUs, and the ARNs."""
    account = pd.Categorical(functions["account_id"].astype("category"))
    known = accounts.drop_duplicates("account_id").set_index("account_id")
    looked_up = known.reindex(account.categories)
    codes = account.codes
    if "served" in functions:
        functions = functions.assign(effective_protection=effective_protection(functions))
    absent = {
        name: _constant(value, len(functions)) for name, value in _OPTIONAL.items() if name not in functions
    }
    return functions.assign(
        **absent,
        account_name=_by_code(looked_up["account_name"], codes),
        ou_path=_by_code(looked_up["ou_path"], codes),
        function_arn=function_arns(functions, partition),
    )[list(FUNCTIONS)]


def _constant(value: Any, rows: int) -> Any:
    return (
        pd.Categorical.from_codes(np.zeros(rows, dtype=np.int8), [value]) if isinstance(value, str) else value
    )


def _by_code(values: "pd.Series[Any]", codes: "np.ndarray[Any, Any]") -> pd.Categorical:
    """Spread one value an account over the functions as categories: accounts may share a value."""
    shared = pd.Categorical(values.fillna("").astype(str))
    return pd.Categorical.from_codes(shared.codes[codes], categories=shared.categories)
