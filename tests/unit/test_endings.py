"""The exit code and the text tell how a run ended."""

import pandas as pd
import pytest

from auto_defender.endings import exit_code, run_text
from scanner.errors import GuardStop

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
    "security_hub": None,
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
    assert exit_code(units, changes, stopped, cut_short=cut_short) == code


def test_a_run_that_was_cut_short_says_so() -> None:
    assert "\ncut short " in run_text(SUMMARY, "report.html")
    assert "cut short" not in run_text(SUMMARY | {"cut_short": False}, "report.html")
