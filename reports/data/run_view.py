"""The view of a run's report.html: its tables, cut to a page's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from reports.data.coverage import (
    READ,
    UNREAD,
    by_ou,
    by_region,
    by_runtime,
    measure,
    measure_effective,
    reason_counts,
    tags_unread,
    with_shares,
)
from reports.data.notices import blocked_soon, left_behind, unread_facts
from reports.data.run_result import RunResult
from reports.data.summary import Previous, rows_of
from scanner.risk.catalogue import BY_CODE

# Rows of functions in the page; a larger organization sees those that need action, and the CSV has them all.
FUNCTIONS_IN_PAGE = 100_000
_ROWS = 25  # of the page's plain tables; the CSV beside it has all
_SOON = timedelta(days=30)
# What needs action comes first.
_ORDER = ("eligible", "skipped", "excluded", "protected")


@dataclass(frozen=True)
class Table:
    """A table that may be cut: its first rows, and the number of all rows."""

    rows: list[dict[str, Any]]
    total: int

    @property
    def left_out(self) -> int:
        """Return the number of rows that only the CSV has."""
        return self.total - len(self.rows)


def run_view(
    result: RunResult,
    summary: Mapping[str, Any],
    accounts: pd.DataFrame,
    functions: pd.DataFrame,
    previous: Previous | None,
) -> dict[str, Any]:
    """Return what templates/run.html.j2 shows beside charts and packed tables.

    accounts, functions: the tables of accounts.csv and functions.csv.
    """
    coverage = measure(result.functions, result.units, previous.units if previous else None)
    return {
        "run": result,
        "summary": summary,
        "coverage": coverage,
        "swept": not result.units.empty,
        "reasons": _reasons(reason_counts(result.functions)),
        "ous": _groups(by_ou(accounts)),
        "regions": _groups(by_region(result.units, result.functions)),
        "runtimes": _groups(by_runtime(result.functions).rename(index={"": "none (container image)"})),
        "accounts_total": len(accounts),
        "changes": _changes(result.changes),
        "unread": _units(result.units, result.accounts, result.units["outcome"].isin(UNREAD)),
        "set_aside": _units(result.units, result.accounts, ~result.units["outcome"].isin((READ, *UNREAD))),
        "optouts": _optouts(result),
        "quarantine": Table([dict(entry) for entry in result.quarantine[:_ROWS]], len(result.quarantine)),
        "drifting": _drifting(functions),
        "effective": measure_effective(result.functions, coverage),
        "left_behind": _table(left_behind(functions)),
        "unread_facts": _table(unread_facts(functions, tags_unread(result.functions))),
        "blocked_soon": _table(blocked_soon(functions, result.started.date())),
        "regressed": _cut(result.rollout.regressed),
        "lost": _cut(result.rollout.drift),
        "functions_in_page": min(len(functions), FUNCTIONS_IN_PAGE),
        "functions_file": _file_named(summary, "functions.csv"),
    }


def functions_in_page(functions: pd.DataFrame) -> pd.DataFrame:
    """Return the functions that fit into the page, those that need action first."""
    verdict = pd.Categorical(functions["verdict"], categories=_ORDER)
    order = np.argsort(verdict.codes, kind="stable")
    return functions.iloc[order[:FUNCTIONS_IN_PAGE]]


def _reasons(found: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "code": code,
            "functions": int(row.functions),
            "only": int(row.only),
            "why": BY_CODE[code].rationale,
            "remedy": BY_CODE[code].remedy,
            "policy": BY_CODE[code].kind == "policy",
        }
        for code, row in zip(found.index, found.itertuples(), strict=True)
    ]


def _groups(frame: pd.DataFrame) -> Table:
    """Return one row per group with its shares, most eligible functions first."""
    shares = with_shares(frame).sort_values(["eligible", "functions"], ascending=False, kind="stable")
    rows = [{"name": str(name), **row} for name, row in shares.head(_ROWS).to_dict("index").items()]
    return Table(rows, len(shares))


def _changes(changes: pd.DataFrame) -> Table:
    """Return the changes: failed first, then dropped and deferred, then the rest."""
    order = ("failed", "dropped", "deferred", "rolled_back", "changed", "planned")
    rank = {outcome: place for place, outcome in enumerate(order)}
    ordered = changes.iloc[
        np.argsort([rank.get(str(outcome), -1) for outcome in changes["outcome"]], kind="stable")
    ]
    return Table(rows_of(ordered.head(_ROWS)), len(changes))


def _units(units: pd.DataFrame, accounts: pd.DataFrame, wanted: "pd.Series[bool]") -> Table:
    chosen = units[wanted]
    names = dict(zip(accounts["account_id"].astype(str), accounts["account_name"].astype(str), strict=True))
    rows = rows_of(chosen.head(_ROWS))
    return Table([row | {"account_name": names.get(str(row["account_id"]), "")} for row in rows], len(chosen))


def _optouts(result: RunResult) -> list[dict[str, Any]]:
    """Return all opt-outs, the first to expire on top; `state` is expired, soon or in_force."""
    today = result.started.date()
    entries = sorted(result.optouts, key=lambda entry: entry.expires or date.max)
    return [
        {
            "account": entry.account,
            "regions": ", ".join(entry.regions or ()) or "all regions",
            "functions": ", ".join(entry.functions or ()) or "the whole account",
            "reason": entry.reason,
            "owner": entry.owner,
            "expires": entry.expires.isoformat() if entry.expires else "never",
            "state": _optout_state(entry.expires, today),
            "remove": entry.remove,
        }
        for entry in entries
    ]


def _optout_state(expires: date | None, today: date) -> str:
    if expires is None:
        return "in_force"
    return "expired" if expires < today else "soon" if expires - today <= _SOON else "in_force"


def _drifting(functions: pd.DataFrame) -> Table:
    """Return the functions with only a part of the Defender, or another version or value than the configured one."""
    return _table(functions[functions["protection"].isin(("partial", "outdated", "ahead"))])


def _table(frame: pd.DataFrame) -> Table:
    """Return the first rows of a frame."""
    return Table(rows_of(frame.head(_ROWS)), len(frame))


def _cut(things: Sequence[Any]) -> Table:
    """Return the first of a sequence of dataclasses; rollout.json has all."""
    return Table([vars(thing) for thing in things[:_ROWS]], len(things))


def _file_named(summary: Mapping[str, Any], name: str) -> str:
    return next((file for file in summary["files"] if file.startswith(name)), name)
