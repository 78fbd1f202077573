"""The weekly report: what a week's runs add up to, and what it says of what is missing."""

import csv
import dataclasses
import functools
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.data.columns import COVERAGE
from reports.data.run_result import RunResult
from reports.data.week import Week
from reports.render.text import percent
from reports.run_files import write_run
from reports.weekly import write_weekly
from scanner.core.errors import BadInput
from scanner.inventory.alias_traffic import SERVED
from storage.folder import FolderStore
from tests.unit.reports.frames import HOSTILE, organization, serving, without_functions

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
AFTER = MONDAY + timedelta(days=8)


def at(hours: float, **changes: Any) -> RunResult:
    """Make a run that many hours into the week; every run reads the same organization."""
    started = MONDAY + timedelta(hours=hours)
    return dataclasses.replace(
        everything(changes.pop("hostile", False)),
        started=started,
        ended=started + timedelta(minutes=1),
        run_id=f"{started:%Y%m%dT%H%M%SZ}-0a0b0c",
        **changes,
    )


@functools.cache
def everything(hostile: bool) -> RunResult:
    return organization(functions=300, unread=0, started=MONDAY, hostile=hostile)


def week_of(folder: Path, *runs: RunResult, now: datetime = AFTER, week: str = "2026-W48") -> dict[str, Any]:
    store = FolderStore(folder)
    for run in runs:
        write_run(store, run)
    return write_weekly(store, week, now)


def test_what_changed_is_reported_function_by_function(tmp_path: Path) -> None:
    first = at(0)
    functions = first.functions.copy()
    protected = functions.index[functions["verdict"] == "protected"]
    eligible = functions.index[functions["verdict"] == "eligible"]
    functions.loc[protected[:3], ["verdict", "protection"]] = ["eligible", "partial"]
    functions.loc[eligible[:5], ["verdict", "protection"]] = ["protected", "protected"]
    functions = functions.drop(index=protected[3:5])
    summary = week_of(tmp_path, first, at(100, functions=functions))
    assert (summary["newly_protected"], summary["lost"], summary["deleted"], summary["unknown"]) == (
        5,
        3,
        2,
        0,
    )
    assert summary["end"]["protected"] - summary["start"]["protected"] == 5 - 3 - 2
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert str(first.functions["function_name"][protected[0]]) in page


def test_a_unit_that_is_no_longer_read_is_unknown_not_lost(tmp_path: Path) -> None:
    first = at(0)
    gone = (first.functions["account_id"] == "000000000001") & (first.functions["region"] == "us-east-1")
    units = first.units.copy()
    row = (units["account_id"] == "000000000001") & (units["region"] == "us-east-1")
    units.loc[row, ["outcome", "functions", "detail"]] = ["access_denied", 0, "refused"]
    summary = week_of(tmp_path, first, at(5, functions=first.functions[~gone], units=units))
    held = int((first.functions.loc[gone, "verdict"] == "protected").sum())
    assert held > 0
    assert (summary["lost"], summary["deleted"], summary["unknown"]) == (0, 0, held)
    assert summary["newly_unreachable"] == 1
    assert "could not be read at the week" in (tmp_path / "weekly/2026-W48/report.html").read_text()


def test_an_account_whose_regions_can_no_longer_be_listed_is_unknown_too(tmp_path: Path) -> None:
    first = at(0)
    gone = first.functions["account_id"] == "000000000001"
    mine = first.units["account_id"] == "000000000001"
    blind = first.units[mine].head(1).assign(region="*", outcome="throttled", functions=0)
    units = pd.concat([blind, first.units[~mine]], ignore_index=True)
    summary = week_of(tmp_path, first, at(5, functions=first.functions[~gone], units=units))
    held = int((first.functions.loc[gone, "verdict"] == "protected").sum())
    assert (summary["lost"], summary["deleted"], summary["unknown"]) == (0, 0, held)
    assert summary["newly_unreachable"] == 2  # both of its regions


@pytest.mark.parametrize("outcome", ["opted_out", "suspended", "region_disabled", None])
def test_what_is_in_a_unit_that_is_set_aside_or_no_longer_swept_is_not_deleted(
    tmp_path: Path, outcome: str | None
) -> None:
    first = at(0)
    account = first.functions["account_id"].astype(str) == "000000000001"
    mine = first.units["account_id"] == "000000000001"
    if outcome is None:
        units = first.units[~mine]
    else:
        units = first.units.copy()
        units.loc[mine, ["outcome", "functions"]] = [outcome, 0]
    summary = week_of(tmp_path, first, at(5, functions=first.functions[~account], units=units))
    held = int((first.functions.loc[account, "verdict"] == "protected").sum())
    assert held > 0
    assert (summary["lost"], summary["deleted"], summary["unknown"]) == (0, 0, held)
    assert summary["newly_unreachable"] == 0
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert f"<dt>Covered at the start, in what was not read at the end</dt><dd>{held}</dd>" in page


def test_a_week_that_is_not_over_says_so(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(0), now=MONDAY + timedelta(hours=50, minutes=30))
    assert summary["until"] == "2026-11-25T02:30:00Z"
    for name in ("report.html", "mail.txt", "mail.html"):
        text = (tmp_path / "weekly/2026-W48" / name).read_text()
        assert "The week is not over: as of 2026-11-25 02:30:00 UTC" in text
    assert week_of(tmp_path, at(1))["until"] == "2026-11-30T00:00:00Z"
    assert "not over" not in (tmp_path / "weekly/2026-W48/report.html").read_text()


def test_runs_that_were_incomplete_or_stopped_are_reported(tmp_path: Path) -> None:
    units = at(1).units.copy()
    units.loc[units.index[0], ["outcome", "functions"]] = ["throttled", 0]
    summary = week_of(tmp_path, at(0), at(1, units=units), at(2, stopped_by="health"))
    assert (summary["runs_incomplete"], summary["runs_stopped"]) == (1, 1)
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "3 sweeps, 1 incomplete; 1 run stopped by a guard" in page
    for name in ("mail.txt", "mail.html"):
        assert "Sweeps: 3, 1 incomplete; 1 run stopped by a guard" in (
            tmp_path / "weekly/2026-W48" / name
        ).read_text().replace("\n", " ")


def test_missing_hours_are_said(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(0), at(1.5), at(4), now=MONDAY + timedelta(hours=6, minutes=20))
    assert summary["hours_missing"] == 3
    assert summary["gaps"] == [
        {"begin": "2026-11-23T02:00:00Z", "end": "2026-11-23T04:00:00Z", "hours": 2},
        {"begin": "2026-11-23T05:00:00Z", "end": "2026-11-23T06:00:00Z", "hours": 1},
    ]
    assert "3 hours without a sweep" in (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "Hours without a sweep: 3" in (tmp_path / "weekly/2026-W48/mail.txt").read_text()


def test_a_complete_week_says_nothing_of_missing_hours(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    first = at(0)
    write_run(store, first)
    body = (tmp_path / first.folder / "summary.json").read_text()
    for hour in range(1, 168):
        run = at(hour)
        reported = json.loads(body) | {"run_id": run.run_id, "started": f"{run.started:%Y-%m-%dT%H:%M:%SZ}"}
        store.write(f"{run.folder}/summary.json", json.dumps(reported).encode(), "application/json")
    write_run(store, at(167))
    summary = write_weekly(store, "2026-W48", AFTER)
    assert (summary["sweeps"], summary["hours_missing"], summary["gaps"]) == (168, 0, [])
    assert "without a sweep" not in (tmp_path / "weekly/2026-W48/report.html").read_text()


def test_only_this_weeks_runs_count(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(-1), at(0), at(167.9), at(168))
    assert summary["sweeps"] == 2
    assert summary["start"]["at"] == "2026-11-23T00:00:00Z"
    assert summary["end"]["at"] == "2026-11-29T23:54:00Z"


def test_a_week_without_a_sweep_is_one_clear_line(tmp_path: Path) -> None:
    run = at(3)
    rollback = dataclasses.replace(
        run, mode="rollback", units=run.units.iloc[:0], functions=run.functions.iloc[:0]
    )
    with pytest.raises(
        BadInput,
        match=r"no run of the hourly job read the whole organization in week 2026-W48 \(2026-11-23 to 2026-11-29\)",
    ):
        week_of(tmp_path, rollback)
    assert not (tmp_path / "weekly").exists()


def test_the_trend_has_twelve_weeks_and_says_which_are_missing(tmp_path: Path) -> None:
    for weeks in (3, 1):
        week_of(tmp_path, at(-168 * weeks), week=Week("2026-W48").before(weeks).name)
    summary = week_of(tmp_path, at(0))
    points = {point["week"]: point["of_all_pct"] for point in summary["trend"]}
    assert len(points) == 12
    assert [week for week, share in points.items() if share is not None] == [
        "2026-W45",
        "2026-W47",
        "2026-W48",
    ]
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "No report of 2026-W37" in page
    assert "2026-W46, or no function read: nothing is drawn there" in page


def left_behind(run: RunResult, count: int) -> RunResult:
    """Return a run that read what is served, and found so many protected functions behind their aliases."""
    protected = run.functions.index[run.functions["protection"] == "protected"]
    served = pd.Series("latest_only", index=run.functions.index)
    served[protected[:count]] = "served_unprotected"
    return serving(run, served=pd.Categorical(served, categories=list(SERVED)))


def test_where_traffic_goes_is_reported_of_the_runs_that_measured_it(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(0), left_behind(at(5), 9), left_behind(at(7), 4), at(9))
    effective = summary["effective_coverage"]
    assert (effective["start"]["at"], effective["end"]["at"]) == (
        "2026-11-23T05:00:00Z",
        "2026-11-23T07:00:00Z",
    )
    covered = [effective[moment]["where_traffic_goes"]["covered"] for moment in ("start", "end")]
    latest = effective["end"]["on_latest"]
    assert latest["covered"] > 9
    assert covered == [latest["covered"] - 9, latest["covered"] - 4]
    assert (effective["start"]["left_behind"], effective["end"]["left_behind"]) == (9, 4)
    assert summary["trend"][-1]["where_traffic_goes_pct"] == effective["end"]["where_traffic_goes"]["pct"]
    folder = tmp_path / "weekly/2026-W48"
    page = (folder / "report.html").read_text()
    assert "measured by the run of 2026-11-23 07:00:00 UTC, compared with that of 2026-11-23 05:00:00" in page
    share = percent(effective["end"]["where_traffic_goes"]["pct"])
    assert f"<dt>Protected where traffic goes</dt><dd>{share} " in page
    for name in ("mail.txt", "mail.html"):
        assert f"Where traffic goes {share} are protected" in (folder / name).read_text()


def test_one_run_that_measured_is_compared_with_none(tmp_path: Path) -> None:
    week_of(tmp_path, at(0), left_behind(at(5), 9), at(7))
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "measured by the run of 2026-11-23 05:00:00 UTC." in page


def test_without_a_measurement_nothing_is_reported_of_where_traffic_goes(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(0), at(5))
    assert summary["effective_coverage"] is None
    for name in ("report.html", "mail.txt", "mail.html"):
        assert "traffic" not in (tmp_path / "weekly/2026-W48" / name).read_text()


def test_the_trend_names_the_weeks_that_did_not_measure_where_traffic_goes(tmp_path: Path) -> None:
    for weeks, run in ((3, left_behind(at(-168 * 3), 2)), (1, at(-168))):
        week_of(tmp_path, run, week=Week("2026-W48").before(weeks).name)
    trend = week_of(tmp_path, at(0))["trend"]
    measured = [point["week"] for point in trend if point["where_traffic_goes_pct"] is not None]
    assert measured == ["2026-W45"]
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "Where traffic goes was not measured in 2026-W47, 2026-W48." in page
    assert 'class="key-2"' in page


def test_each_ou_says_how_far_it_came(tmp_path: Path) -> None:
    first, last = at(0), at(90)
    root = last.accounts.loc[last.accounts["ou_path"] == "Root", "account_id"]
    functions = last.functions.copy()
    gained = (functions["verdict"] == "eligible") & functions["account_id"].isin(root)
    functions.loc[gained, ["verdict", "protection"]] = "protected"
    before = first.functions[first.functions["account_id"].isin(root)]["verdict"].value_counts()
    share = 100 * before["protected"] / (before["protected"] + before["eligible"])
    week_of(tmp_path, first, dataclasses.replace(last, functions=functions))
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    rows = dict(re.findall(r"<tr><th scope=\"row\"><bdi>(.*?)</bdi></th>(.*?)</tr>", page, re.DOTALL))
    assert f"+{100 - share:.1f} points" in rows["Root"]
    assert "no change" in rows["Root/<wbr>Security"]


def test_a_week_in_which_nothing_could_be_read_claims_nothing(tmp_path: Path) -> None:
    week_of(tmp_path, without_functions(blind=True))
    page = (tmp_path / "weekly/2026-W48/report.html").read_text()
    assert "48 units of 48 could not be read" in page
    assert "No function was read." in page
    assert "100" not in page.split("<main")[1].split("Twelve weeks")[0]


def test_the_mail_gives_a_range_where_units_were_not_read(tmp_path: Path) -> None:
    share = week_of(tmp_path, organization(unread=3))["end"]["coverage"]["of_all"]
    reported = f"{percent(share['worst_pct'])} to {percent(share['best_pct'])} with what was not read"
    for name in ("mail.txt", "mail.html"):
        assert reported in (tmp_path / "weekly/2026-W48" / name).read_text()


def test_changes_and_rollbacks_of_all_runs_are_added_up(tmp_path: Path) -> None:
    changes = at(0).changes
    applied = at(
        1, mode="apply", changes=changes.assign(outcome=["failed", *["changed"] * (len(changes) - 1)])
    )
    back = changes.head(4).assign(action="rollback", outcome="rolled_back")
    empty = applied.functions.iloc[:0]
    rollback = at(2, mode="rollback", changes=back, units=applied.units.iloc[:0], functions=empty)
    summary = week_of(tmp_path, at(0), applied, rollback)
    assert (summary["changed"], summary["failed"], summary["rolled_back"]) == (len(changes) - 1, 1, 4)
    assert (summary["runs"], summary["sweeps"]) == (3, 2)


def test_only_the_hourly_job_counts_as_a_sweep(tmp_path: Path) -> None:
    """A scan, an approved plan and a rollback are no hours of the week, nor its start or end."""
    run, last = at(1), at(3, mode="apply")
    fewer = run.functions.iloc[:50]
    scans = [at(hour, mode="scan", functions=fewer, stopped_by=None) for hour in (0, 2, 5)]
    nothing = {"units": run.units.iloc[:0], "functions": run.functions.iloc[:0]}
    plan = at(4, mode="apply", stopped_by="lock", **nothing)
    rollback = at(4.5, mode="rollback", stopped_by="lock", **nothing)
    summary = week_of(tmp_path, *scans, run, last, plan, rollback, now=MONDAY + timedelta(hours=6))
    assert (summary["runs"], summary["sweeps"], summary["runs_stopped"]) == (7, 2, 0)
    assert summary["hours_missing"] == 4
    assert [summary[end]["run_id"] for end in ("start", "end")] == [run.run_id, last.run_id]
    assert summary["end"]["functions"] == len(last.functions)
    assert (summary["newly_protected"], summary["lost"], summary["deleted"]) == (0, 0, 0)


def older(folder: Path, run: RunResult) -> None:
    """Write a run as versions did that did not say what had started it."""
    write_run(FolderStore(folder), run)
    path = folder / run.folder / "summary.json"
    summary = json.loads(path.read_text())
    del summary["trigger"], summary["whole_scope"]
    path.write_text(json.dumps(summary))


def test_a_run_by_hand_is_no_sweep_where_a_schedule_runs(tmp_path: Path) -> None:
    older(tmp_path, at(1))
    hourly = [at(hour, trigger="schedule") for hour in (2, 4)]
    by_hand = [at(hour, stopped_by="health") for hour in (0, 3, 5)]
    summary = week_of(tmp_path, *hourly, *by_hand, now=MONDAY + timedelta(hours=6))
    assert (summary["runs"], summary["sweeps"], summary["runs_stopped"]) == (6, 3, 0)
    assert [gap["begin"][11:13] for gap in summary["gaps"]] == ["00", "03", "05"]
    assert [summary[end]["at"][11:13] for end in ("start", "end")] == ["01", "04"]


def test_a_run_that_was_cut_off_in_its_sweep_is_no_sweep(tmp_path: Path) -> None:
    half = [at(hour, whole_scope=False, trigger=by) for hour, by in ((0, "command"), (3, "schedule"))]
    summary = week_of(tmp_path, *half, at(1), at(2), now=MONDAY + timedelta(hours=4))
    assert (summary["sweeps"], summary["hours_missing"]) == (2, 2)
    assert [summary[end]["at"][11:13] for end in ("start", "end")] == ["01", "02"]


def test_a_week_of_scans_alone_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run of the hourly job read the whole organization"):
        week_of(tmp_path, at(1, mode="scan"), at(2, mode="scan"))


def test_coverage_csv_has_one_row_an_account_and_adds_up(tmp_path: Path) -> None:
    summary = week_of(tmp_path, at(0), at(9))
    text = (tmp_path / "weekly/2026-W48/coverage.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COVERAGE
    assert len(rows) == 24
    assert sum(int(row["functions"]) for row in rows) == summary["end"]["functions"]
    assert sum(int(row["protected_start"]) for row in rows) == summary["start"]["protected"]


def test_an_account_that_is_new_has_no_number_for_the_start(tmp_path: Path) -> None:
    later = at(9)
    first = at(
        0, accounts=later.accounts.iloc[1:], units=later.units.iloc[2:], functions=later.functions.iloc[40:]
    )
    week_of(tmp_path, first, later)
    rows = list(csv.DictReader((tmp_path / "weekly/2026-W48/coverage.csv").read_text().splitlines()))
    assert rows[0]["account_id"] == "000000000001"
    assert rows[0]["functions_start"] == ""


def test_optouts_that_expire_are_listed_soonest_first(tmp_path: Path) -> None:
    lapsing = week_of(tmp_path, at(30))["optouts_lapsing"]
    assert [entry["expires"] for entry in lapsing] == sorted(entry["expires"] for entry in lapsing)
    assert [entry["account"] for entry in lapsing] == ["000000000004"]


def test_hostile_names_are_inert_in_every_file(tmp_path: Path) -> None:
    first = at(0, hostile=True)
    functions = first.functions.copy()
    functions.loc[functions["verdict"] == "protected", ["verdict", "protection"]] = ["eligible", "partial"]
    week_of(tmp_path, first, at(1, hostile=True, functions=functions))
    folder = tmp_path / "weekly/2026-W48"
    for name in ("report.html", "mail.html"):
        text = (folder / name).read_text(encoding="utf-8")
        for hostile in HOSTILE:
            if "<" in hostile:
                assert hostile not in text
        assert "<script" not in text
    assert "script-src &#39;none&#39;" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("week", "begin", "end"),
    [("2026-W01", "2025-12-29", "2026-01-04"), ("2026-W53", "2026-12-28", "2027-01-03")],
)
def test_weeks_are_iso_weeks(week: str, begin: str, end: str) -> None:
    assert (Week(week).monday.isoformat(), Week(week).sunday.isoformat()) == (begin, end)


def test_weeks_before_cross_the_year() -> None:
    assert Week("2027-W01").before(1).name == "2026-W53"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"run_id": 1}', b"\xff", b"[" * 100_000])
def test_a_run_that_can_not_be_read_back_is_left_out_and_reported(tmp_path: Path, body: bytes) -> None:
    store = FolderStore(tmp_path)
    broken = at(2)
    write_run(store, broken)
    store.write(f"{broken.folder}/summary.json", body, "application/json")
    store.write("weekly/2026-W47/summary.json", body, "application/json")
    summary = week_of(tmp_path, at(1), at(3), now=MONDAY + timedelta(hours=4))
    assert (summary["runs"], summary["runs_broken"]) == (2, [broken.folder])
    assert [gap["begin"] for gap in summary["gaps"]] == ["2026-11-23T00:00:00Z", "2026-11-23T02:00:00Z"]
    assert summary["trend"][-2]["of_all_pct"] is None
    folder = tmp_path / "weekly/2026-W48"
    assert f"<code>{broken.folder}</code>" in (folder / "report.html").read_text()
    for name in ("mail.txt", "mail.html"):
        assert re.search("Runs left out, for they can.t be read back: 1", (folder / name).read_text())


@pytest.mark.parametrize("name", ["functions", "accounts", "units"])
@pytest.mark.parametrize("body", [None, b"", b"other,columns\r\n1,2\r\n", b"\xff\xfe"])
def test_a_table_that_can_not_be_read_back_is_one_clear_line(
    tmp_path: Path, name: str, body: bytes | None
) -> None:
    run = at(1)
    store = FolderStore(tmp_path)
    write_run(store, run)
    store.delete(f"{run.folder}/{name}.csv")
    if body is not None:
        store.write(f"{run.folder}/{name}.csv", body, "text/csv")
    with pytest.raises(
        BadInput, match=f"{run.folder}: {name}.csv is (missing|broken).*; put it back"
    ) as reported:
        write_weekly(store, "2026-W48", AFTER)
    assert "\n" not in str(reported.value)


def test_a_run_that_could_not_read_tags_is_incomplete(tmp_path: Path) -> None:
    unread = at(1).functions.assign(tags_read=False)
    summary = week_of(tmp_path, at(0), at(1, functions=unread), at(2))
    assert (summary["sweeps"], summary["runs_incomplete"]) == (3, 1)
    assert summary["end"]["coverage"]["of_coverable"]["undecided"] == 0
