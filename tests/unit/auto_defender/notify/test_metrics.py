"""The metrics line is what CloudWatch extracts, and carries every number that the central stack's alarms read."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from auto_defender.notify.metrics import BREAKER_OPEN, COUNTS, INCOMPLETE, NAMESPACE, embedded_metrics
from tests.machine import ROOT

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SUMMARY = {name: number for number, name in enumerate(COUNTS)} | {
    "failed": 0,
    "units_unread": 0,
    "tags_unread": {"functions": 0, "units": 0},
    "cut_short": False,
    "files_missing": {},
    "duration_sec": 12.5,
    "run_id": "20261124T034232Z-1a2b3c",
    "mode": "apply",
    "stopped_by": None,
    "stages_sec": {"sweep": 3.2},
    "calls": {"lambda.list_functions": {"calls": 4, "retries": 0, "throttles": 0}},
}


def test_the_line_declares_metrics_without_dimensions_and_gives_their_values() -> None:
    line = json.loads(embedded_metrics(SUMMARY, NOW))
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1_795_478_400_000
    assert (directive["Namespace"], directive["Dimensions"]) == ("AutoDefender", [[]])
    assert {m["Name"]: line[m["Name"]] for m in directive["Metrics"]} == {
        name: SUMMARY[name] for name in (*COUNTS, "duration_sec")
    } | {"breaker_open": 0, "incomplete": 0}
    assert line["run_id"] == SUMMARY["run_id"]


@pytest.mark.parametrize(
    ("guard", "value"),
    [
        (None, 0),
        ("max_changes_per_run", 0),
        ("max_changes_per_account", 0),
        ("health", 1),
        ("kill_switch", 1),
    ],
)
def test_the_limits_on_changes_open_no_breaker(guard: str | None, value: int) -> None:
    line = json.loads(embedded_metrics(SUMMARY | {"stopped_by": guard}, NOW))
    assert line["breaker_open"] == value


@pytest.mark.parametrize(
    "left",
    [
        {"units_unread": 1},
        {"tags_unread": {"functions": 2, "units": 1}},
        {"cut_short": True},
        {"failed": 1},
        {"files_missing": {"report.html": "can't write it"}},
    ],
)
@pytest.mark.parametrize("guard", [None, "max_changes_per_run"])
def test_what_was_left_undone_is_incomplete_behind_a_guards_exit_code_too(
    left: dict[str, Any], guard: str | None
) -> None:
    line = json.loads(embedded_metrics(SUMMARY | {"stopped_by": guard} | left, NOW))
    assert line["incomplete"] == 1


def test_a_run_that_only_left_changes_to_the_next_hours_is_complete() -> None:
    summary = SUMMARY | {"stopped_by": "max_changes_per_run", "exit_code": 5}
    assert json.loads(embedded_metrics(summary, NOW))["incomplete"] == 0


def test_every_metric_that_the_central_stack_reads_is_there() -> None:
    template = (ROOT / "stacksets" / "central.yaml").read_text(encoding="utf-8")
    read = set(re.findall(rf"Namespace: {NAMESPACE}(?:,|\n\s+) ?MetricName: (\w+)", template))
    read |= set(re.findall(rf'\["{NAMESPACE}", "(\w+)"\]', template))
    written = {*COUNTS, BREAKER_OPEN, INCOMPLETE}
    assert {"exit_code", "breaker_open", "incomplete", "protected", "units_read"} <= read <= written
