"""A run's numbers as CloudWatch metrics in the embedded metric format: one line in the function's log."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from remediator.rollout.guards import LIMITS

NAMESPACE = "AutoDefender"
# Numbers of summary.json, under their own names; the alarms and the dashboard of stacksets/central.yaml read them.
COUNTS = (
    "exit_code",
    "units_expected",
    "units_read",
    "functions",
    "protected",
    "eligible",
    "skipped",
    "excluded",
    "changed",
    "failed",
)
SECONDS = "duration_sec"
# 1 where a guard stopped the run because of a failure; the limits on changes only spread the work over several runs.
BREAKER_OPEN = "breaker_open"
# 1 for what makes exit code 1, 3 or 4, also where a guard's exit code 5 takes precedence. 0 where only the limits on
# changes left work to later runs.
INCOMPLETE = "incomplete"


def embedded_metrics(summary: Mapping[str, Any], now: datetime) -> str:
    """Return the log line. Source: CloudWatch user guide, "Specification: Embedded metric format"."""
    counts = {name: summary[name] for name in COUNTS}
    counts[BREAKER_OPEN] = int(summary["stopped_by"] not in (None, *LIMITS))
    counts[INCOMPLETE] = int(_incomplete(summary))
    metrics = [*({"Name": name, "Unit": "Count"} for name in counts), {"Name": SECONDS, "Unit": "Seconds"}]
    line = {
        "_aws": {
            "Timestamp": int(now.timestamp() * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": metrics}],
        },
        **counts,
        SECONDS: summary[SECONDS],
        "run_id": summary["run_id"],
        "mode": summary["mode"],
        "stages_sec": summary["stages_sec"],
        "calls": summary["calls"],
    }
    return json.dumps(line)


def _incomplete(summary: Mapping[str, Any]) -> bool:
    unread = summary["units_unread"] + summary["tags_unread"]["functions"]
    return bool(unread or summary["failed"] or summary["cut_short"] or summary["files_missing"])
