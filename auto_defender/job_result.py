"""How a job ended: what is printed, as text or as JSON, and the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.data.coverage import tags_unread
from scanner.core.errors import GuardStop
from scanner.inventory.ledger import UNREAD


@dataclass(frozen=True)
class JobResult:
    """The end of a job. summary: what --json prints; text: what is printed otherwise."""

    summary: dict[str, Any]
    text: str
    exit_code: int = 0


def exit_code(
    units: pd.DataFrame,
    functions: pd.DataFrame,
    changes: pd.DataFrame,
    stopped: GuardStop | None,
    *,
    cut_short: bool = False,
) -> int:
    """Give the highest that applies: 5 a guard stopped the run, 4 changes failed, 3 incomplete, 0 complete.

    Incomplete: units or tags were not read, or the changes were cut short.
    """
    if stopped is not None:
        return stopped.exit_code
    if (changes["outcome"] == "failed").any():
        return 4
    unread = units["outcome"].isin(UNREAD).any() or tags_unread(functions).any()
    return 3 if cut_short or unread else 0


def run_text(summary: dict[str, Any], address: str, standing: Sequence[str] = ()) -> str:
    """Tell a run's summary in a few lines: the numbers that leadership reads first, then where the report is.

    standing: the lines that tell where the rollout stands.
    """
    by_outcome = {k: v for k, v in summary["units_by_outcome"].items() if k != "read"}
    not_read = f" ({_counted(by_outcome)})" if by_outcome else ""
    lines = [
        f"run {summary['run_id']} ({summary['mode'].replace('_', ' ')})",
        f"units read     {summary['units_read']:,} of {summary['units_expected']:,}{not_read}",
        f"functions      {summary['functions']:,}",
        f"  protected    {summary['protected']:,}",
        f"  eligible     {summary['eligible']:,}",
        f"  skipped      {summary['skipped']:,}",
        f"  excluded     {summary['excluded']:,}",
    ]
    if effective := summary["effective_coverage"]:
        covered = effective["where_traffic_goes"]["covered"]
        unknown = f", {effective['unknown']:,} unknown" if effective["unknown"] else ""
        lines.append(
            f"traffic        {covered:,} protected where it goes, {effective['left_behind']:,} on $LATEST alone{unknown}"
        )
    if unread := summary["tags_unread"]["functions"]:
        lines.append(f"tags unread    {unread:,} functions in {summary['tags_unread']['units']:,} units")
    if summary["changes_by_outcome"]:
        lines.append(f"changes        {_counted(summary['changes_by_outcome'])}")
    lines += standing
    if summary["stopped_by"]:
        lines.append(f"stopped        {summary['stopped_by']}")
    if summary["cut_short"]:
        lines.append("cut short      told to stop, or out of time: what was put off is left to the next run")
    if hub := summary["security_hub"]:
        troubles = [f"{hub[name]:,} {name}" for name in ("failed", "waiting") if hub[name]]
        troubles += [hub["error"]] if hub["error"] else []
        lines.append("; ".join([f"security hub   {hub['open']:,} open", *troubles]))
    return "\n".join([*lines, f"report         {address}"])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
