"""The numbers of the weekly report: coverage at the week's start and end, its trend, what changed, where to gain most."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from reports.data.coverage import by_ou, with_shares
from reports.data.read_back import read_weekly
from reports.data.summary import rows_of, utc
from reports.data.week import Run, Week, WeekChanges, gaps, sweeps_of
from storage.protocol import Store

log = logging.getLogger(__name__)

TRAFFIC = "where_traffic_goes"
_TREND_WEEKS = 12
_ACCOUNTS_TO_GAIN = 10
_LISTED = 6
_OUS = 8
_EXPIRES_WITHIN = timedelta(days=30)
_SHARES = ("of_coverable", "of_all")


def weekly_summary(
    store: Store,
    week: Week,
    runs: Sequence[Run],
    broken: Sequence[str],
    difference: WeekChanges,
    now: datetime,
) -> dict[str, Any]:
    """Return the week's summary.json; docs/schema.md lists its keys.

    runs: of the week, oldest first, at least one of them a sweep. broken: folders of runs that could not be read.
    difference: between the first and the last sweep. The trend is read from the summaries of earlier weeks.
    """
    sweeps = sweeps_of(runs)
    first, last = sweeps[0], sweeps[-1]
    missing = gaps(sweeps, week, now)
    effective = _effective(sweeps)
    return {
        "week": week.name,
        "begins": week.monday.isoformat(),
        "ends": week.sunday.isoformat(),
        "runs": len(runs),
        "sweeps": len(sweeps),
        "runs_incomplete": sum(run.incomplete for run in sweeps),
        "runs_stopped": sum(run.summary["stopped_by"] is not None for run in sweeps),
        "hours_missing": sum(gap.hours for gap in missing),
        "gaps": [{"begin": utc(gap.begin), "end": utc(gap.end), "hours": gap.hours} for gap in missing],
        "start": _coverage_of(first),
        "end": _coverage_of(last),
        "trend": _trend(store, week, last, effective),
        "newly_protected": len(difference.protected),
        "lost": len(difference.lost),
        "deleted": len(difference.deleted),
        "unknown": len(difference.unknown),
        "newly_unreachable": len(difference.unreachable),
        "changed": sum(int(run.summary["changed"]) for run in runs),
        "failed": sum(int(run.summary["failed"]) for run in runs),
        "rolled_back": sum(int(run.summary["changes_by_outcome"].get("rolled_back", 0)) for run in runs),
        "optouts_lapsing": _expiring(last.summary["optouts"], week),
        "effective_coverage": effective,
        "until": utc(min(now, week.end)),
        "runs_broken": list(broken),
    }


def weekly_view(
    summary: Mapping[str, Any], accounts: pd.DataFrame, before: pd.DataFrame, difference: WeekChanges
) -> dict[str, Any]:
    """Return what the templates show beside the summary and the chart.

    accounts, before: accounts.csv of the week's last and first sweep.
    Keys: missing_weeks, unmeasured_weeks, ous, ous_total, to_gain, lost, unreachable.
    """
    at_start = with_shares(by_ou(before))["coverable_pct"]
    ous = with_shares(by_ou(accounts)).assign(coverable_pct_start=at_start)
    ous = ous[ous["functions"] > 0].sort_values("coverable_pct", ascending=False, kind="stable")
    names = dict(zip(accounts["account_id"], accounts["account_name"], strict=True))
    return {
        "missing_weeks": [point["week"] for point in summary["trend"] if point["of_all_pct"] is None],
        "unmeasured_weeks": unmeasured_weeks(summary["trend"]),
        "ous": _best_and_worst(ous),
        "ous_total": len(ous),
        "to_gain": rows_of(accounts[accounts["eligible"] > 0].nlargest(_ACCOUNTS_TO_GAIN, "eligible")),
        "lost": _with_account_names(difference.lost, names),
        "unreachable": _with_account_names(difference.unreachable, names),
    }


def coverage_table(accounts: pd.DataFrame, before: pd.DataFrame, difference: WeekChanges) -> pd.DataFrame:
    """Return coverage.csv: one row per account at the week's end, with its numbers at the start and what changed."""
    start = before.set_index("account_id")[["functions", "protected"]]
    table = with_shares(accounts).join(start.add_suffix("_start"), on="account_id")
    for column, rows in (("newly_protected", difference.protected), ("lost", difference.lost)):
        table[column] = table["account_id"].map(rows["account_id"].value_counts()).fillna(0).astype("int64")
    # An account that was not there at the start has no number for it, which is not 0.
    for column in ("functions_start", "protected_start"):
        table[column] = np.where(table[column].isna(), -1, table[column]).astype("int64")
    return table


def unmeasured_weeks(trend: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the weeks with a report whose runs did not measure effective coverage; None if no week measured it."""
    if all(point[f"{TRAFFIC}_pct"] is None for point in trend):
        return None
    return [
        point["week"]
        for point in trend
        if point["of_all_pct"] is not None and point[f"{TRAFFIC}_pct"] is None
    ]


def _coverage_of(run: Run) -> dict[str, Any]:
    """Return the coverage that one run measured."""
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
    """Return the effective coverage of the first and the last sweep that measured it; None if none did."""
    measured = [run.summary for run in sweeps if run.summary.get("effective_coverage")]
    if not measured:
        return None
    names = ("on_latest", TRAFFIC, "left_behind", "unknown")
    return {
        moment: {
            "run_id": summary["run_id"],
            "at": summary["started"],
            **{name: summary["effective_coverage"][name] for name in names},
        }
        for moment, summary in (("start", measured[0]), ("end", measured[-1]))
    }


def _trend(store: Store, week: Week, last: Run, effective: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the coverage at the end of each of the last weeks, oldest first; None where a week has no report or did not measure it."""
    points = []
    for weeks in range(_TREND_WEEKS - 1, 0, -1):
        earlier = week.before(weeks)
        points.append(_trend_point(earlier, _summary_of(store, earlier)))
    this = {"end": {"coverage": last.summary["coverage"]}, "effective_coverage": effective}
    return [*points, _trend_point(week, this)]


def _summary_of(store: Store, week: Week) -> Mapping[str, Any] | None:
    """Return the summary of a week's report; None if there is none or it is broken."""
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
        f"{TRAFFIC}_pct": effective["end"][TRAFFIC]["pct"] if effective else None,
    }


def _expiring(optouts: Sequence[Mapping[str, Any]], week: Week) -> list[Mapping[str, Any]]:
    """Return the opt-outs that expired in the week or expire within 30 days of its end, soonest first."""
    dated = [(date.fromisoformat(entry["expires"]), entry) for entry in optouts if entry["expires"]]
    near = [(day, entry) for day, entry in dated if week.monday <= day <= week.sunday + _EXPIRES_WITHIN]
    return [entry for _, entry in sorted(near, key=lambda item: item[0])]


def _best_and_worst(ous: pd.DataFrame) -> list[dict[str, Any]]:
    """Return all OUs, or of many the best and the worst, best first; one without anything to cover is last."""
    shown = ous if len(ous) <= _OUS else pd.concat([ous.head(_OUS // 2), ous.tail(_OUS // 2)])
    return [{"name": str(name), **row} for name, row in shown.to_dict("index").items()]


def _with_account_names(frame: pd.DataFrame, names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [row | {"account_name": names.get(row["account_id"], "")} for row in rows_of(frame.head(_LISTED))]
