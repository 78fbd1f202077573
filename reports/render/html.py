"""report.html of a run: what its template shows, put together from frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from reports.data.coverage import (
    READ,
    UNREAD,
    Coverage,
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
from reports.data.summary import Previous
from reports.render import charts, page
from reports.render.table_data import Column, pack
from reports.render.text import number, words
from scanner.risk.catalogue import BY_CODE

# Rows of functions in the page; a larger organization sees those that need action, and the CSV has them all.
FUNCTIONS_IN_PAGE = 100_000
_ROWS = 25  # of the page's plain tables; the CSV beside it has all
_BARS = 12
_SOON = timedelta(days=30)
PARTS = {
    "protected": "Covered",
    "eligible": "Can be covered now",
    "skipped": "Cannot: a check forbids it",
    "excluded": "Left out by decision",
}
_SHORT = {"protected": "Covered", "eligible": "Can be", "skipped": "Cannot", "excluded": "Left out"}
# What needs action comes first.
_ORDER = ("eligible", "skipped", "excluded", "protected")


@dataclass(frozen=True)
class Table:
    """A plain table that may be cut: its first rows, and how many there are in all."""

    rows: list[dict[str, Any]]
    total: int

    @property
    def left_out(self) -> int:
        """Count the rows that only the CSV has."""
        return self.total - len(self.rows)


def render_run(
    result: RunResult,
    summary: Mapping[str, Any],
    accounts: pd.DataFrame,
    functions: pd.DataFrame,
    previous: Previous | None,
) -> str:
    """Give report.html. accounts, functions: the tables of accounts.csv and functions.csv."""
    coverage = measure(result.functions, result.units, previous.units if previous else None)
    in_page = _functions_in_page(functions)
    reasons = reason_counts(result.functions)
    return page.render(
        "run.html.j2",
        tables=True,
        run=result,
        summary=summary,
        coverage=coverage,
        parts=PARTS,
        swept=not result.units.empty,
        overview=_overview(coverage),
        reasons=_reasons(reasons),
        reasons_chart=_reasons_chart(reasons),
        ous=_groups(by_ou(accounts)),
        ou_chart=_ou_chart(accounts),
        regions=_groups(by_region(result.units, result.functions)),
        runtimes=_groups(by_runtime(result.functions).rename(index={"": "none (container image)"})),
        accounts_data=pack(_account_columns(accounts)),
        accounts_total=len(accounts),
        changes=_changes(result.changes),
        unread=_units(result.units, result.accounts, result.units["outcome"].isin(UNREAD)),
        set_aside=_units(result.units, result.accounts, ~result.units["outcome"].isin((READ, *UNREAD))),
        optouts=_optouts(result),
        quarantine=Table([dict(entry) for entry in result.quarantine[:_ROWS]], len(result.quarantine)),
        drifting=_drifting(functions),
        effective=measure_effective(result.functions, coverage),
        left_behind=_table(left_behind(functions)),
        unread_facts=_table(unread_facts(functions, tags_unread(result.functions))),
        blocked_soon=_table(blocked_soon(functions, result.started.date())),
        regressed=_cut(result.standing.regressed),
        lost=_cut(result.standing.drift),
        functions_data=pack(_function_columns(in_page)),
        functions_in_page=len(in_page),
        functions_file=_file_named(summary, "functions.csv"),
    )


def _overview(coverage: Coverage) -> Any:
    counts = {title: [getattr(coverage, verdict)] for verdict, title in PARTS.items()}
    told = ", ".join(f"{title.lower()} {number(values[0])}" for title, values in counts.items())
    return charts.stacked_bars(
        "overview", f"All {number(coverage.functions)} functions: {told}.", ["All"], counts
    )


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


def _reasons_chart(found: pd.DataFrame) -> Any:
    if found.empty:
        return None
    found = found.head(_BARS)
    first = found.iloc[0]
    told = f"Functions by reason; the most frequent is {words(found.index[0]).lower()} with {number(first.functions)}."
    return charts.stacked_bars(
        "reasons",
        told,
        [words(code) for code in found.index],
        {
            "The only reason": found["only"].tolist(),
            "One of several": (found["functions"] - found["only"]).tolist(),
        },
    )


def _ou_chart(accounts: pd.DataFrame) -> Any:
    ous = by_ou(accounts)
    ous = ous[ous["functions"] > 0].sort_values("functions", ascending=False, kind="stable").head(_BARS)
    if ous.empty:
        return None
    told = f"Functions by organizational unit; the largest is {ous.index[0]} with {number(ous['functions'].iloc[0])}."
    return charts.stacked_bars(
        "ous",
        told,
        [str(ou) for ou in ous.index],
        {title: ous[verdict].tolist() for verdict, title in PARTS.items()},
    )


def _groups(frame: pd.DataFrame) -> Table:
    """Rows by what can be gained there, most first."""
    shares = with_shares(frame).sort_values(["eligible", "functions"], ascending=False, kind="stable")
    rows = [{"name": str(name), **row} for name, row in shares.head(_ROWS).to_dict("index").items()]
    return Table(rows, len(shares))


def _changes(changes: pd.DataFrame) -> Table:
    """Failed ones first, then what was put off, then the rest."""
    order = ("failed", "dropped", "deferred", "rolled_back", "changed", "planned")
    rank = {outcome: place for place, outcome in enumerate(order)}
    ordered = changes.iloc[
        np.argsort([rank.get(str(outcome), -1) for outcome in changes["outcome"]], kind="stable")
    ]
    return Table(_rows(ordered.head(_ROWS)), len(changes))


def _units(units: pd.DataFrame, accounts: pd.DataFrame, wanted: "pd.Series[bool]") -> Table:
    chosen = units[wanted]
    names = dict(zip(accounts["account_id"].astype(str), accounts["account_name"].astype(str), strict=True))
    rows = _rows(chosen.head(_ROWS))
    return Table([row | {"account_name": names.get(str(row["account_id"]), "")} for row in rows], len(chosen))


def _optouts(result: RunResult) -> list[dict[str, Any]]:
    """Give all entries, those that lapse first on top; `state` is expired, soon or in_force."""
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
            "state": _lapse(entry.expires, today),
        }
        for entry in entries
    ]


def _lapse(expires: date | None, today: date) -> str:
    if expires is None:
        return "in_force"
    return "expired" if expires < today else "soon" if expires - today <= _SOON else "in_force"


def _drifting(functions: pd.DataFrame) -> Table:
    """Functions that carry a part of the Defender, or an older version of it."""
    return _table(functions[functions["protection"].isin(("partial", "outdated"))])


def _table(frame: pd.DataFrame) -> Table:
    """Give the first rows of a frame."""
    return Table(_rows(frame.head(_ROWS)), len(frame))


def _cut(things: Sequence[Any]) -> Table:
    """Give the first of a list of dataclasses; rollout.json has all."""
    return Table([vars(thing) for thing in things[:_ROWS]], len(things))


def _functions_in_page(functions: pd.DataFrame) -> pd.DataFrame:
    verdict = pd.Categorical(functions["verdict"], categories=_ORDER)
    order = np.argsort(verdict.codes, kind="stable")
    return functions.iloc[order[:FUNCTIONS_IN_PAGE]]


def _function_columns(functions: pd.DataFrame) -> list[Column]:
    memory = functions["memory_mb"]
    return [
        Column("function_name", "Function", functions["function_name"]),
        Column("account_name", "Account", functions["account_name"]),
        Column("account_id", "Account ID", functions["account_id"]),
        Column("region", "Region", functions["region"], pick="value"),
        Column("runtime", "Runtime", functions["runtime"]),
        Column("memory_mb", "MB", memory, number=True),
        Column("protection", "Protection", functions["protection"], pick="value"),
        Column("verdict", "Verdict", functions["verdict"], pick="value"),
        Column("reasons", "Reasons", functions["reasons"], pick="part"),
    ]


def _account_columns(accounts: pd.DataFrame) -> list[Column]:
    accounts = with_shares(accounts).sort_values(["eligible", "functions"], ascending=False, kind="stable")
    shares = accounts["covered_pct"].round(1).fillna(-1)
    texts = {"account_name": "Account", "account_id": "Account ID", "ou_path": "OU"}
    units = accounts["units_read"].astype(str) + " / " + accounts["units_expected"].astype(str)
    counts = {"functions": "Functions"} | _SHORT
    return [
        *(Column(name, title, accounts[name]) for name, title in texts.items()),
        Column("outcome", "Outcome", accounts["outcome"], pick="value"),
        Column("units", "Units read", units),
        *(Column(name, title, accounts[name], number=True) for name, title in counts.items()),
        Column("covered_pct", "Covered %", shares, number=True),
    ]


def _file_named(summary: Mapping[str, Any], name: str) -> str:
    return next((file for file in summary["files"] if file.startswith(name)), name)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
