"""The exit code and the text say how a run ended."""

import pandas as pd
import pytest

from auto_defender.job_result import exit_code, run_text
from scanner.core.errors import GuardStop

SUMMARY = {
    "run_id": "20261124T034232Z-1a2b3c",
    "mode": "apply",
    **dict.fromkeys(
        ("units_read", "units_expected", "functions", "protected", "eligible", "skipped", "excluded"), 1
    ),
    "units_by_outcome": {"read": 1},
    "changes_by_outcome": {"changed": 1, "deferred": 5},
    "stopped_by": None,
    "cut_short": True,
    "tags_unread": {"functions": 0, "units": 0},
    "effective_coverage": None,
    "security_hub": None,
    "files_missing": {},
    "warnings": [],
}
STOP = GuardStop("kill_switch", "it is on", "Delete it to go on")


@pytest.mark.parametrize(
    ("unit", "change", "stopped", "cut_short", "code"),
    [
        ("read", "changed", None, False, 0),
        ("opted_out", "deferred", None, False, 0),
        ("read", "deferred", None, True, 3),
        ("access_denied", "changed", None, False, 3),
        ("read", "failed", None, True, 4),
        ("access_denied", "failed", STOP, True, 5),
    ],
)
def test_the_highest_exit_code_that_applies(
    unit: str, change: str, stopped: GuardStop | None, cut_short: bool, code: int
) -> None:
    units, changes = pd.DataFrame({"outcome": [unit]}), pd.DataFrame({"outcome": [change]})
    functions = pd.DataFrame({"tags_read": [True]})
    assert exit_code(units, functions, changes, stopped, cut_short=cut_short) == code


@pytest.mark.parametrize(("tags", "code"), [({"tags_read": [True, False]}, 3), ({}, 0)])
def test_tags_that_could_not_be_read_are_not_complete(tags: dict[str, list[bool]], code: int) -> None:
    units, changes = pd.DataFrame({"outcome": ["read"]}), pd.DataFrame({"outcome": ["changed"]})
    assert exit_code(units, pd.DataFrame(tags), changes, None) == code
    reported = run_text(SUMMARY | {"tags_unread": {"functions": 2, "units": 1}}, "report.html")
    assert "\ntags unread    2 functions in 1 units\n" in reported


@pytest.mark.parametrize(("carrying", "shown"), [(2, True), (0, False)])
def test_opt_outs_that_still_carry_something_of_ours_are_counted(carrying: int, shown: bool) -> None:
    reported = run_text(SUMMARY | {"optouts_protected": carrying}, "report.html")
    assert ("\nopted out      2 functions that still carry something of ours\n" in reported) == shown


def test_files_that_are_missing_and_warnings_are_named() -> None:
    left = {"files_missing": {"report.html": "can't write it"}, "warnings": ["latest/ is old"]}
    assert run_text(SUMMARY | left, "report.html").splitlines()[-2:] == [
        "warning        latest/ is old",
        "missing        report.html: can't write it",
    ]
    assert run_text(SUMMARY, "report.html").splitlines()[-1] == "report         report.html"


def test_a_run_that_was_cut_short_says_so() -> None:
    assert "\ncut short " in run_text(SUMMARY, "report.html")
    assert "cut short" not in run_text(SUMMARY | {"cut_short": False}, "report.html")


@pytest.mark.parametrize(("unknown", "more"), [(0, ""), (3, ", 3 unknown")])
def test_where_traffic_goes_is_reported_where_it_was_measured(unknown: int, more: str) -> None:
    effective = {"where_traffic_goes": {"covered": 1211}, "left_behind": 33, "unknown": unknown}
    reported = run_text(SUMMARY | {"effective_coverage": effective}, "report.html")
    assert f"\ntraffic        1,211 protected where it goes, 33 on $LATEST alone{more}\n" in reported
    assert "traffic" not in run_text(SUMMARY, "report.html")
