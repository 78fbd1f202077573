"""The changes frame: what is planned, and what became of it; and the log line of each."""

import logging
from collections.abc import Iterable

import pandas as pd

from remediator.change.delta import OTHER_VALUES, THERE_BEFORE
from remediator.change.records import UNKNOWN, Carried, Change, ChangeResult, ChangeRow
from remediator.plan.plan import Plan
from scanner.core.errors import GuardStop
from scanner.settings import EXEC_WRAPPER

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
    # Of a rollback alone, "" otherwise.
    "layer_before",
    "layer_after",
    "wrapper_before",
    "wrapper_after",
    "as_before",
    "aliases",
)
# INFO for operations, WARNING for what is skipped, ERROR for failures.
_LEVELS = {"failed": logging.ERROR, "dropped": logging.WARNING, "deferred": logging.WARNING}


def changes_frame(rows: Iterable[ChangeRow]) -> pd.DataFrame:
    """Return the changes frame: account_id, region, function_name, function_arn, action, outcome, detail (all str),
    attempts (int: how many updates were sent); and of a rollback layer_before, layer_after, wrapper_before,
    wrapper_after ("" none, "unknown"), as_before ("true" where the function is as it was, "false"),
    aliases ("" here: it takes calls to find out).
    """  # noqa: D205
    records = [
        (
            row.item.account_id,
            row.item.region,
            row.item.function_name,
            row.item.function_arn,
            row.item.action,
            row.result.outcome,
            row.result.detail,
            row.result.attempts,
            *_rollback_cells(row),
            "",
        )
        for row in rows
    ]
    return pd.DataFrame(records, columns=list(COLUMNS)).astype(
        dict.fromkeys(COLUMNS, "str") | {"attempts": "int64"}
    )


def _rollback_cells(row: ChangeRow) -> tuple[str, ...]:
    if row.item.action != "rollback":
        return ("",) * 5
    unknown = Carried(UNKNOWN, UNKNOWN)
    before, after = row.result.before or unknown, row.result.after or unknown
    as_before = "true" if row.result.as_before else "false"
    return before.layer, after.layer, before.wrapper, after.wrapper, as_before


def planned_detail(change: Change) -> str:
    """Return what a change would add and replace, or remove."""
    if change.action == "remove":
        layers = [arn for arn in change.before.layers if arn not in change.after.layers]
        names = [name for name in change.before.variables if name not in change.after.variables]
        other = change.variables_changed
        before = [name for name in change.after.variables if name not in (EXEC_WRAPPER, *other)]
        stays = ((OTHER_VALUES, other), (THERE_BEFORE, before))
        kept = [what + ", ".join(of) for what, of in stays if of]
        return "; ".join([f"removes {', '.join(layers + names)}", *kept])
    added = [name for name in change.after.variables if name not in change.before.variables]
    parts = [f"layer {change.layer}"] if change.layer not in change.before.layers else []
    parts += [f"variables {', '.join(added)}"] if added else []
    parts += [f"new values of {', '.join(change.variables_changed)}"] if change.variables_changed else []
    removed = [arn for arn in change.before.layers if arn not in change.after.layers]
    parts += [f"without {', '.join(removed)}"] if removed else []
    return " and ".join(parts)


def log_end(row: ChangeRow) -> None:
    """Log how a change ended, with the function's ARN and without anything secret."""
    ended = row.result
    log.log(
        _LEVELS.get(ended.outcome, logging.INFO),
        "%s %s: %s%s",
        row.item.action,
        ended.outcome,
        row.item.function_arn,
        f": {ended.detail}" if ended.detail else "",
        extra={
            "account_id": row.item.account_id,
            "region": row.item.region,
            "function_arn": row.item.function_arn,
            "action": row.item.action,
            "outcome": ended.outcome,
            "detail": ended.detail,
        },
    )


def deferred_plan(plan: Plan, stop: GuardStop) -> pd.DataFrame:
    """Return the changes frame of a plan that a guard stopped before its first change."""
    why = f"stopped by the guard '{stop.guard}'"
    return changes_frame(ChangeRow(change, ChangeResult("deferred", why)) for change in plan.changes)
