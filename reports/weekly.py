"""The weekly report: coverage at the week's start and end, its trend, what moved, where to gain most."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from reports.data.coverage import by_ou, with_shares
from reports.data.read_back import read_weekly
from reports.data.summary import utc
from reports.data.week import Gap, Moved, Run, Week, accounts_of, gaps, moved, runs_of
from reports.render import charts, page
from reports.render.csv import csv_text
from scanner.core.errors import BadInput
from storage.protocol import Store

log = logging.getLogger(__name__)

TREND_WEEKS = 12
COVERAGE = (
    "account_id", "account_name", "ou_path", "outcome", "units_expected", "units_read", "functions", "protected",
    "eligible", "skipped", "excluded", "covered_pct", "coverable_pct", "functions_start", "protected_start",
    "newly_protected", "lost",
)  # fmt: skip
_ACCOUNTS_TO_GAIN = 10
_LISTED = 6
_OUS = 8
_LAPSES_WITHIN = timedelta(days=30)
_SHARES = ("of_coverable", "of_all")
_TRAFFIC = "where_traffic_goes"


def write_weekly(store: Store, week: str, now: datetime) -> dict[str, Any]:
    """Write weekly/WEEK/{report.html,coverage.csv,summary.json,mail.txt,mail.html} and give the summary.

    week: an ISO week such as 2026-W48. Hours without a sweep and weeks without a report are said, never filled in.
    Raises BadInput where no run of the week read the organization.
    """
    chosen = Week(week)
    runs, broken = runs_of(store, chosen)
    sweeps = [run for run in runs if run.swept]
    if not sweeps:
        raise BadInput(
            f"no run read the organization in week {week} ({chosen.monday} to {chosen.sunday}); "
            f"looked in {store.url('runs')}{f'; {len(broken)} runs there are broken' if broken else ''}"
        )
    first, last = sweeps[0], sweeps[-1]
    accounts, before = accounts_of(store, last), accounts_of(store, first)
    difference = moved(store, first, last)
    effective = _effective(sweeps)
    trend = _trend(store, chosen, last, effective)
    summary = _summary(chosen, runs, gaps(runs, chosen, now), difference, trend)
    summary["effective_coverage"] = effective
    summary["until"] = utc(min(now, chosen.end))
    summary["runs_broken"] = broken
    told = _told(summary, accounts, before, difference)
    folder = f"weekly/{week}"
    table = _coverage_table(accounts, before, difference)
    store.write(
        f"{folder}/coverage.csv",
        "".join(csv_text(table, COVERAGE)).encode("utf-8"),
        "text/csv; charset=utf-8",
    )
    for name, content_type in (
        ("report.html", "text/html"),
        ("mail.html", "text/html"),
        ("mail.txt", "text/plain"),
    ):
        text = page.render(
            f"weekly_{name}.j2", tables=False, week=chosen, over=now >= chosen.end, summary=summary, **told
        )
        store.write(f"{folder}/{name}", text.encode("utf-8"), f"{content_type}; charset=utf-8")
    store.write(f"{folder}/summary.json", json.dumps(summary, indent=2).encode() + b"\n", "application/json")
    return summary


def _summary(
    week: Week, runs: Sequence[Run], missing: Sequence[Gap], difference: Moved, trend: list[dict[str, Any]]
) -> dict[str, Any]:
    sweeps = [run for run in runs if run.swept]
    first, last = sweeps[0], sweeps[-1]
    return {
        "week": week.name,
        "begins": week.monday.isoformat(),
        "ends": week.sunday.isoformat(),
        "runs": len(runs),
        "sweeps": len(sweeps),
        "runs_incomplete": sum(run.incomplete for run in sweeps),
        "runs_stopped": sum(run.summary["stopped_by"] is not None for run in runs),
        "hours_missing": sum(gap.hours for gap in missing),
        "gaps": [{"begin": utc(gap.begin), "end": utc(gap.end), "hours": gap.hours} for gap in missing],
        "start": _point(first),
        "end": _point(last),
        "trend": trend,
        "newly_protected": len(difference.protected),
        "lost": len(difference.lost),
        "deleted": len(difference.deleted),
        "unknown": len(difference.unknown),
        "newly_unreachable": len(difference.unreachable),
        "changed": sum(int(run.summary["changed"]) for run in runs),
        "failed": sum(int(run.summary["failed"]) for run in runs),
        "rolled_back": sum(int(run.summary["changes_by_outcome"].get("rolled_back", 0)) for run in runs),
        "optouts_lapsing": _lapsing(last.summary["optouts"], week),
    }


def _point(run: Run) -> dict[str, Any]:
    """Give what one run says of coverage."""
    names = (
        "functions",
        "protected",
        "eligible",
        "skipped",
        "excluded",
        "units_expected",
        "units_read",
        "units_unread",
    )
    return {
        "run_id": run.summary["run_id"],
        "at": run.summary["started"],
        **{name: run.summary[name] for name in names},
        "coverage": run.summary["coverage"],
    }


def _effective(sweeps: Sequence[Run]) -> dict[str, Any] | None:
    """Give what the first and the last of the sweeps that measured it say of where traffic goes; None if none did."""
    measured = [run.summary for run in sweeps if run.summary.get("effective_coverage")]
    if not measured:
        return None
    names = ("on_latest", _TRAFFIC, "left_behind", "unknown")
    return {
        moment: {
            "run_id": summary["run_id"],
            "at": summary["started"],
            **{name: summary["effective_coverage"][name] for name in names},
        }
        for moment, summary in (("start", measured[0]), ("end", measured[-1]))
    }


def _trend(store: Store, week: Week, last: Run, effective: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Give the end of each of the last weeks, oldest first; None where that week has no report, or did not measure."""
    points = []
    for weeks in range(TREND_WEEKS - 1, 0, -1):
        earlier = week.before(weeks)
        points.append(_trend_point(earlier, _weekly_of(store, earlier)))
    this = {"end": {"coverage": last.summary["coverage"]}, "effective_coverage": effective}
    return [*points, _trend_point(week, this)]


def _weekly_of(store: Store, week: Week) -> Mapping[str, Any] | None:
    """Give the summary of a week's report; a report that is broken is as good as none."""
    try:
        return read_weekly(store, week.name)
    except ValueError as error:
        log.warning("the trend leaves a week out: %s", error)
        return None


def _trend_point(week: Week, weekly: Mapping[str, Any] | None) -> dict[str, Any]:
    effective = weekly.get("effective_coverage") if weekly else None
    return {
        "week": week.name,
        **{f"{share}_pct": weekly["end"]["coverage"][share]["pct"] if weekly else None for share in _SHARES},
        f"{_TRAFFIC}_pct": effective["end"][_TRAFFIC]["pct"] if effective else None,
    }


def _lapsing(optouts: Sequence[Mapping[str, Any]], week: Week) -> list[Mapping[str, Any]]:
    """Give the entries that lapse within thirty days of the week's end, or lapsed in the week, soonest first."""
    dated = [(date.fromisoformat(entry["expires"]), entry) for entry in optouts if entry["expires"]]
    near = [(day, entry) for day, entry in dated if week.monday <= day <= week.sunday + _LAPSES_WITHIN]
    return [entry for _, entry in sorted(near, key=lambda item: item[0])]


def _told(
    summary: Mapping[str, Any], accounts: pd.DataFrame, before: pd.DataFrame, difference: Moved
) -> dict[str, Any]:
    """Put together what the templates show beside the summary. before: the accounts at the week's start."""
    at_start = with_shares(by_ou(before))["coverable_pct"]
    ous = with_shares(by_ou(accounts)).assign(coverable_pct_start=at_start)
    ous = ous[ous["functions"] > 0].sort_values("coverable_pct", ascending=False, kind="stable")
    names = dict(zip(accounts["account_id"], accounts["account_name"], strict=True))
    return {
        "trend_chart": _trend_chart(summary["trend"]),
        "missing_weeks": [point["week"] for point in summary["trend"] if point["of_all_pct"] is None],
        "unmeasured_weeks": _unmeasured(summary["trend"]),
        "ous": _best_and_worst(ous),
        "ous_total": len(ous),
        "to_gain": _records(accounts[accounts["eligible"] > 0].nlargest(_ACCOUNTS_TO_GAIN, "eligible")),
        "lost": [
            row | {"account_name": names.get(row["account_id"], "")}
            for row in _records(difference.lost.head(_LISTED))
        ],
        "unreachable": [
            row | {"account_name": names.get(row["account_id"], "")}
            for row in _records(difference.unreachable.head(_LISTED))
        ],
    }


def _best_and_worst(ous: pd.DataFrame) -> list[dict[str, Any]]:
    """Give all OUs, or of many the best and the worst, best first; one without anything to cover is last."""
    shown = ous if len(ous) <= _OUS else pd.concat([ous.head(_OUS // 2), ous.tail(_OUS // 2)])
    return [{"name": str(name), **row} for name, row in shown.to_dict("index").items()]


def _unmeasured(trend: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Name the weeks with a report in which nobody measured where traffic goes; None where no week measured it."""
    if all(point[f"{_TRAFFIC}_pct"] is None for point in trend):
        return None
    return [
        point["week"]
        for point in trend
        if point["of_all_pct"] is not None and point[f"{_TRAFFIC}_pct"] is None
    ]


def _trend_chart(trend: Sequence[Mapping[str, Any]]) -> Any:
    known = [point for point in trend if point["of_all_pct"] is not None]
    told = f"Coverage over {len(trend)} weeks; of {len(known)} of them it is known."
    shares = {"Of what can be covered": "of_coverable", "Of all functions": "of_all"}
    if _unmeasured(trend) is not None:
        shares["Where traffic goes"] = _TRAFFIC
    return charts.lines(
        "trend",
        told,
        [point["week"].partition("-")[2] for point in trend],
        {title: [point[f"{share}_pct"] for point in trend] for title, share in shares.items()},
    )


def _coverage_table(accounts: pd.DataFrame, before: pd.DataFrame, difference: Moved) -> pd.DataFrame:
    """Give coverage.csv: one row an account, as at the week's end, with its start and what moved."""
    start = before.set_index("account_id")[["functions", "protected"]]
    table = with_shares(accounts).join(start.add_suffix("_start"), on="account_id")
    for column, rows in (("newly_protected", difference.protected), ("lost", difference.lost)):
        table[column] = table["account_id"].map(rows["account_id"].value_counts()).fillna(0).astype("int64")
    # An account that was not there at the start has no number for it, which is not 0.
    for column in ("functions_start", "protected_start"):
        table[column] = np.where(table[column].isna(), -1, table[column]).astype("int64")
    return table


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
