"""What a report shows beside coverage: facts that could not be read, runtimes about to be blocked, aliases left behind."""

from datetime import date

import pandas as pd

from reports.data.coverage import counts_of, tags_unread
from scanner.inventory.ledger import FAULTS
from scanner.risk.engine import BLOCKED_SOON
from scanner.risk.runtimes import lifecycle

# The fact whose outcome each column has.
_UTILIZATION = {
    "timeout_utilization_outcome": "longest duration",
    "memory_utilization_outcome": "memory used",
}
_READ_LATER = {**_UTILIZATION, "served_outcome": "versions and aliases"}


def utilization_unread(functions: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the functions whose utilization could not be read, by metric and outcome; {} where all of it could be."""
    found = {
        column.removesuffix("_outcome"): counts_of(functions.loc[functions[column].isin(FAULTS), column])
        for column in _UTILIZATION
        if column in functions
    }
    return {metric: counts for metric, counts in sorted(found.items()) if counts}


def count_tags_unread(functions: pd.DataFrame) -> dict[str, int]:
    """Count the functions whose tags a rule needed and that could not be read, and the units that they are in."""
    unread = functions.loc[tags_unread(functions), ["account_id", "region"]]
    return {"functions": len(unread), "units": len(unread.drop_duplicates())}


def optouts_protected(functions: pd.DataFrame) -> int:
    """Count the functions that are opted out and carry something of ours, and that no opt-out says to remove.

    Without those whose tags could not be read: nobody knows whether they are opted out.
    """
    opted_out = functions["fails_opted_out"] & ~tags_unread(functions)
    carrying = functions["protection"] != "unprotected"
    return int((opted_out & carrying & ~functions["remove"]).sum())


def unread_facts(functions: pd.DataFrame, without_tags: "pd.Series[bool]") -> pd.DataFrame:
    """Return one row per unit, kind of fact and outcome, most functions first.

    functions: the table of functions.csv; without_tags: per row, whether its tags could not be read.
    Columns: what, account_id, account_name, region, outcome, functions.
    """
    found = [
        (what, functions[column], functions[column].isin(FAULTS)) for column, what in _READ_LATER.items()
    ]
    found.append(("tags", pd.Series("not_read", index=functions.index), without_tags))
    parts = []
    for what, outcomes, unread in found:
        unit = ["account_id", "account_name", "region", "outcome"]
        rows = functions.assign(outcome=outcomes).loc[unread, unit].astype("str")
        parts.append(rows.groupby(unit).size().reset_index(name="functions").assign(what=what))
    return pd.concat(parts, ignore_index=True).sort_values("functions", ascending=False, kind="stable")


def blocked_soon(functions: pd.DataFrame, today: date) -> pd.DataFrame:
    """Return one row per runtime whose updates AWS blocks within 60 days, the first to be blocked on top.

    functions: the table of functions.csv. Columns: runtime, update_block, days, successor, functions, protected,
    eligible.
    """
    soon = functions.loc[functions["warnings"] == BLOCKED_SOON, ["runtime", "verdict"]].astype("str")
    rows = []
    for runtime, verdicts in soon.groupby("runtime")["verdict"]:
        life = lifecycle(str(runtime))
        if life is None or life.update_block is None:
            continue
        rows.append(
            {
                "runtime": str(runtime),
                "update_block": life.update_block,
                "days": (life.update_block - today).days,
                "successor": life.successor or "",
                "functions": len(verdicts),
                "protected": int((verdicts == "protected").sum()),
                "eligible": int((verdicts == "eligible").sum()),
            }
        )
    columns = ["runtime", "update_block", "days", "successor", "functions", "protected", "eligible"]
    return pd.DataFrame(rows, columns=columns).sort_values(["update_block", "runtime"], kind="stable")


def left_behind(functions: pd.DataFrame) -> pd.DataFrame:
    """Return the functions that are protected on $LATEST and not where their traffic goes (rows of functions.csv)."""
    return functions[
        (functions["protection"] == "protected") & (functions["effective_protection"] == "unprotected")
    ]
