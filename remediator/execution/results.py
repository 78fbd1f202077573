"""The changes frame: what is planned, and what became of it; and the log line of each."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from remediator.change.settlement import ChangeResult
from remediator.journal.journal import Action
from remediator.plan.plan import Change, Plan
from scanner.core.errors import GuardStop

log = logging.getLogger(__name__)

COLUMNS = (
    "account_id",
    "region",
    "function_name",
    "function_arn",
    "action",
    "outcome",
    "detail",
    "attempts",
)
# The mission's levels: INFO for operations, WARNING for what is skipped, ERROR for failures.
_LEVELS = {"failed": logging.ERROR, "dropped": logging.WARNING, "deferred": logging.WARNING}


class Item(Protocol):
    """What a row is about: a planned change, a journalled one, or a rollback."""

    @property
    def account_id(self) -> str:
        """Give the function's account."""

    @property
    def region(self) -> str:
        """Give the function's region."""

    @property
    def function_name(self) -> str:
        """Give the function's name."""

    @property
    def function_arn(self) -> str:
        """Give the function's ARN."""

    @property
    def action(self) -> Action:
        """Give what is done to it."""


@dataclass(frozen=True)
class ChangeRow:
    """One row: what it is about, and how it ended."""

    of: Item
    ended: ChangeResult


def changes_frame(rows: Iterable[ChangeRow]) -> pd.DataFrame:
    """Give the changes frame: account_id, region, function_name, function_arn, action, outcome, detail (all str),
    attempts (int: how many updates were sent).
    """  # noqa: D205
    records = [
        (
            row.of.account_id,
            row.of.region,
            row.of.function_name,
            row.of.function_arn,
            row.of.action,
            row.ended.outcome,
            row.ended.detail,
            row.ended.attempts,
        )
        for row in rows
    ]
    return pd.DataFrame(records, columns=list(COLUMNS)).astype(
        dict.fromkeys(COLUMNS[:-1], "str") | {"attempts": "int64"}
    )


def planned_detail(change: Change) -> str:
    """Tell what a change would put in."""
    added = [name for name in change.after.variables if name not in change.before.variables]
    parts = [f"layer {change.layer}"] if change.after.layers != change.before.layers else []
    return " and ".join(parts + ([f"variables {', '.join(added)}"] if added else []))


def log_end(row: ChangeRow) -> None:
    """Log how a change ended, with the function's ARN and without anything secret."""
    ended = row.ended
    log.log(
        _LEVELS.get(ended.outcome, logging.INFO),
        "%s %s: %s%s",
        row.of.action,
        ended.outcome,
        row.of.function_arn,
        f": {ended.detail}" if ended.detail else "",
        extra={
            "account_id": row.of.account_id,
            "region": row.of.region,
            "function_arn": row.of.function_arn,
            "action": row.of.action,
            "outcome": ended.outcome,
            "detail": ended.detail,
        },
    )


def put_off(plan: Plan, stop: GuardStop) -> pd.DataFrame:
    """Give the changes frame of a plan that a guard stopped before its first change."""
    why = f"stopped by the guard '{stop.guard}'"
    return changes_frame(ChangeRow(change, ChangeResult("deferred", why)) for change in plan.changes)
