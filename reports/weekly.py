"""Writes the files of a weekly report."""

import json
from datetime import datetime
from typing import Any

from reports.data.columns import COVERAGE
from reports.data.week import Week, accounts_of, runs_of, sweeps_of, week_changes
from reports.data.weekly import coverage_table, weekly_summary, weekly_view
from reports.render.csv import csv_text
from reports.render.weekly import FILES, render_weekly
from scanner.core.errors import BadInput
from storage.protocol import Store


def write_weekly(store: Store, week: str, now: datetime) -> dict[str, Any]:
    """Write weekly/WEEK/{report.html,coverage.csv,summary.json,mail.txt,mail.html} and return the summary.

    week: an ISO week such as 2026-W48. Hours without a sweep and weeks without a report are listed, never filled in.
    Raise BadInput where no run of the week read the whole organization.
    """
    chosen = Week(week)
    runs, broken = runs_of(store, chosen)
    sweeps = sweeps_of(runs)
    if not sweeps:
        raise BadInput(
            f"no run of the hourly job read the whole organization in week {week} ({chosen.monday} to {chosen.sunday}); "
            f"looked in {store.url('runs')}{f'; {len(broken)} runs there are broken' if broken else ''}"
        )
    accounts, before = accounts_of(store, sweeps[-1]), accounts_of(store, sweeps[0])
    difference = week_changes(store, sweeps[0], sweeps[-1])
    summary = weekly_summary(store, chosen, runs, broken, difference, now)
    view = weekly_view(summary, accounts, before, difference)
    folder = f"weekly/{week}"
    table = csv_text(coverage_table(accounts, before, difference), COVERAGE)
    store.write(f"{folder}/coverage.csv", "".join(table).encode(), "text/csv; charset=utf-8")
    for name, text in render_weekly(chosen, summary, view, over=now >= chosen.end).items():
        store.write(f"{folder}/{name}", text.encode(), f"{FILES[name]}; charset=utf-8")
    store.write(f"{folder}/summary.json", json.dumps(summary, indent=2).encode() + b"\n", "application/json")
    return summary
