"""report.html of a run, from its template: charts, packed tables and the run's view."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.data.coverage import Coverage, by_ou, with_shares
from reports.data.run_result import RunResult
from reports.data.run_view import functions_in_page, run_view
from reports.data.summary import Previous
from reports.render import charts, page
from reports.render.table_data import Column, pack
from reports.render.text import number, words

_BARS = 12
PARTS = {
    "protected": "Covered",
    "eligible": "Can be covered now",
    "skipped": "Cannot: a check forbids it",
    "excluded": "Left out by decision",
}
_SHORT = {"protected": "Covered", "eligible": "Can be", "skipped": "Cannot", "excluded": "Left out"}


def render_run(
    result: RunResult,
    summary: Mapping[str, Any],
    accounts: pd.DataFrame,
    functions: pd.DataFrame,
    previous: Previous | None,
) -> str:
    """Return report.html. accounts, functions: the tables of accounts.csv and functions.csv."""
    view = run_view(result, summary, accounts, functions, previous)
    return page.render(
        "run.html.j2",
        tables=True,
        parts=PARTS,
        overview=_overview(view["coverage"]),
        reasons_chart=_reasons_chart(view["reasons"]),
        ou_chart=_ou_chart(accounts),
        accounts_data=pack(_account_columns(accounts)),
        functions_data=pack(_function_columns(functions_in_page(functions))),
        **view,
    )


def _overview(coverage: Coverage) -> Any:
    counts = {title: [getattr(coverage, verdict)] for verdict, title in PARTS.items()}
    counted = ", ".join(f"{title.lower()} {number(values[0])}" for title, values in counts.items())
    return charts.stacked_bars(
        "overview", f"All {number(coverage.functions)} functions: {counted}.", ["All"], counts
    )


def _reasons_chart(reasons: Sequence[Mapping[str, Any]]) -> Any:
    if not reasons:
        return None
    shown, first = reasons[:_BARS], reasons[0]
    return charts.stacked_bars(
        "reasons",
        f"Functions by reason; the most frequent is {words(first['code']).lower()} with {number(first['functions'])}.",
        [words(reason["code"]) for reason in shown],
        {
            "The only reason": [reason["only"] for reason in shown],
            "One of several": [reason["functions"] - reason["only"] for reason in shown],
        },
    )


def _ou_chart(accounts: pd.DataFrame) -> Any:
    ous = by_ou(accounts)
    ous = ous[ous["functions"] > 0].sort_values("functions", ascending=False, kind="stable").head(_BARS)
    if ous.empty:
        return None
    description = f"Functions by organizational unit; the largest is {ous.index[0]} with {number(ous['functions'].iloc[0])}."
    return charts.stacked_bars(
        "ous",
        description,
        [str(ou) for ou in ous.index],
        {title: ous[verdict].tolist() for verdict, title in PARTS.items()},
    )


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
