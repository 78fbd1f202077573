"""A run's numbers as CloudWatch metrics, by the embedded metric format: one line of the function's log."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

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


def embedded_metrics(summary: Mapping[str, Any], now: datetime) -> str:
    """Give the line. Source: CloudWatch user guide, "Specification: Embedded metric format"."""
    metrics = [*({"Name": name, "Unit": "Count"} for name in COUNTS), {"Name": SECONDS, "Unit": "Seconds"}]
    line = {
        "_aws": {
            "Timestamp": int(now.timestamp() * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": metrics}],
        },
        **{name: summary[name] for name in (*COUNTS, SECONDS)},
        "run_id": summary["run_id"],
        "mode": summary["mode"],
        "stages_sec": summary["stages_sec"],
        "calls": summary["calls"],
    }
    return json.dumps(line)
