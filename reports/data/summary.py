"""summary.json: a run as one document for programs; docs/schema.md lists its keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from reports.data.coverage import Coverage, counts_of, measure, measure_effective, reason_counts
from reports.data.notices import count_tags_unread, optouts_protected, utilization_unread
from reports.data.run_result import RunResult

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Previous:
    """The previous run: its summary.json, and its units (frame with account_id, region, outcome, functions)."""

    summary: Mapping[str, Any]
    units: pd.DataFrame


def summarize(result: RunResult, previous: Previous | None = None) -> dict[str, Any]:
    """Return the document without its `files` (run_files adds them once they are written)."""
    coverage = measure(result.functions, result.units, previous.units if previous else None)
    effective = measure_effective(result.functions, coverage)
    outcomes = counts_of(result.changes["outcome"])
    reasons = reason_counts(result.functions)
    return {
        "schema_version": SCHEMA_VERSION,
        "version": result.version,
        "run_id": result.run_id,
        "mode": result.mode,
        "started": utc(result.started),
        "ended": utc(result.ended),
        "duration_sec": round((result.ended - result.started).total_seconds(), 3),
        "partition": result.partition,
        **_headline(coverage),
        "changed": outcomes.get("changed", 0),
        "failed": outcomes.get("failed", 0),
        "exit_code": result.exit_code,
        "stopped_by": result.stopped_by,
        "cut_short": result.cut_short,
        "accounts": len(result.accounts),
        "accounts_in_scope": int(result.accounts["in_scope"].sum()),
        "coverage": {
            "of_all": coverage.of_all.as_dict(),
            "of_coverable": coverage.of_coverable.as_dict(),
        },
        "effective_coverage": effective.as_dict() if effective else None,
        "units_by_outcome": counts_of(result.units["outcome"]),
        "units_unread": coverage.units_unread,
        "utilization_unread": utilization_unread(result.functions),
        "tags_unread": count_tags_unread(result.functions),
        "by_protection": counts_of(result.functions["protection"]),
        "by_reason": {str(reason): int(count) for reason, count in reasons["functions"].items()},
        "changes_by_action": counts_of(result.changes["action"]),
        "changes_by_outcome": outcomes,
        "optouts": [entry.model_dump(mode="json") for entry in result.optouts],
        "quarantined": len(result.quarantine),
        **result.rollout.counts(),
        "security_hub": result.security_hub,
        "since_previous": _since(coverage, previous),
        "stages_sec": {stage: round(seconds, 3) for stage, seconds in result.stages.items()},
        "calls": dict(result.calls),
        "optouts_protected": optouts_protected(result.functions),
    }


def utc(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows by column name, for a template."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _headline(coverage: Coverage) -> dict[str, int]:
    names = (
        "units_expected", "units_read", "functions", "protected", "eligible", "skipped", "excluded"
    )  # fmt: skip
    return {name: getattr(coverage, name) for name in names}


def _since(coverage: Coverage, previous: Previous | None) -> dict[str, Any] | None:
    """Return the differences to the previous run, or None where there is none."""
    if previous is None:
        return None
    before = previous.summary
    differences = {name: value - int(before[name]) for name, value in _headline(coverage).items()}
    return {"run_id": before["run_id"], "ended": before["ended"], **differences}
