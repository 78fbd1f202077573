"""A job's result: its summary, the text that is printed, and the exit code."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd

from remediator.change.records import UNKNOWN
from reports.data.coverage import tags_unread
from reports.data.rollout_status import VERDICTS, NoticeOutcome, RolloutStatus
from reports.render.text import counted, visible
from scanner.core.errors import GuardStop
from scanner.inventory.ledger import UNREAD

# The columns of a rollback's rows, in text and in --json.
ROLLBACK_ROW = (
    "function_arn", "outcome", "as_before", "layer_before", "layer_after", "wrapper_before", "wrapper_after", "aliases",
    "detail",
)  # fmt: skip


ROLLBACK_INCOMPLETE = 4


@dataclass(frozen=True)
class JobResult:
    """A job's result. summary: what --json prints; text: what is printed otherwise."""

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
    unannounced: bool = False,
) -> int:
    """Return the highest code that applies: 5 a guard stopped the run, 4 changes failed, 3 incomplete, 0 complete.

    Incomplete: units or tags were not read, or the changes were cut short. unannounced: an announcement of changes failed,
    and they wait for it.
    """
    if stopped is not None:
        return stopped.exit_code
    if unannounced or (changes["outcome"] == "failed").any():
        return 4
    unread = units["outcome"].isin(UNREAD).any() or tags_unread(functions).any()
    return 3 if cut_short or unread else 0


def rollback_exit_code(changes: pd.DataFrame, stopped: GuardStop | None) -> int:
    """Return 5 where a guard stopped a rollback, 4 unless every function is, or in a dry run would be, as it was."""
    if stopped is not None:
        return stopped.exit_code
    done = (changes["as_before"] == "true") | (changes["outcome"] == "planned")
    return 0 if done.all() else ROLLBACK_INCOMPLETE


def rollback_rows(changes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row a function of a rollback, for --json; as_before is a boolean."""
    rows = [
        dict(zip(ROLLBACK_ROW, row, strict=True)) for row in changes[list(ROLLBACK_ROW)].to_numpy().tolist()
    ]
    return [{**row, "as_before": row["as_before"] == "true"} for row in rows]


def rollback_text(summary: dict[str, Any], changes: pd.DataFrame, address: str) -> str:
    """Return a rollback's rows as text, then its counts; the last line is the report's address."""
    rows = rollback_rows(changes)
    lines = [f"rollback {summary['run_id']}", *map(_rollback_lines, rows)]
    lines.append(f"changes        {_counted(summary['changes_by_outcome']) or 'none: nothing to roll back'}")
    lines.append(f"as before      {sum(row['as_before'] for row in rows):,} of {len(rows):,} functions")
    if summary["stopped_by"]:
        lines.append(f"stopped        {summary['stopped_by']}")
    if summary["cut_short"]:
        lines.append("cut short      stopped, or out of time: run the same command again")
    return "\n".join([*lines, f"report         {address}"])


def _rollback_lines(row: dict[str, Any]) -> str:
    layer, wrapper = (
        f"{row[f'{of}_before'] or 'none'} -> {row[f'{of}_after'] or 'none'}" for of in ("layer", "wrapper")
    )
    known = not row["aliases"].startswith(UNKNOWN)
    serve = f"{row['aliases']} (versions that still carry our layer)" if known else row["aliases"]
    lines = [
        f"{row['outcome']:<14} {row['function_arn']}",
        f"  layer        {layer}",
        f"  wrapper      {visible(wrapper)}",
        f"  as before    {'yes' if row['as_before'] else 'no'}",
        f"  detail       {row['detail']}",
        f"  aliases      {serve if row['aliases'] else 'none serves a version with our layer'}",
    ]
    return "\n".join(lines)


def run_text(summary: dict[str, Any], address: str, rollout: Sequence[str] = ()) -> str:
    """Return a run's summary as a few lines of text; the last one is the report's address, if there is a report.

    rollout: from rollout_lines().
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
    lines += _left_alone(summary)
    if summary["changes_by_outcome"]:
        lines.append(f"changes        {_counted(summary['changes_by_outcome'])}")
    lines += rollout
    if summary["stopped_by"]:
        lines.append(f"stopped        {summary['stopped_by']}")
    if summary["cut_short"]:
        lines.append("cut short      stopped, or out of time: deferred changes are left to the next run")
    if hub := summary["security_hub"]:
        problems = [f"{hub[name]:,} {name}" for name in ("failed", "waiting") if hub[name]]
        problems += [hub["error"]] if hub["error"] else []
        lines.append("; ".join([f"security hub   {hub['open']:,} open", *problems]))
    lines += [f"warning        {warning}" for warning in summary["warnings"]]
    lines += [f"missing        {name}: {why}" for name, why in summary["files_missing"].items()]
    if "report.html" not in summary["files_missing"]:
        lines.append(f"report         {address}")
    return "\n".join(lines)


def _left_alone(summary: dict[str, Any]) -> Iterator[str]:
    if unread := summary["tags_unread"]["functions"]:
        yield f"tags unread    {unread:,} functions in {summary['tags_unread']['units']:,} units"
    if carrying := summary.get("optouts_protected"):  # a run that an earlier version began has none
        yield f"opted out      {carrying:,} functions that still carry something of ours"


def rollout_lines(rollout: RolloutStatus) -> list[str]:
    """Return the status of the rollout as text: a line per wave; changed functions, drift, announcements."""
    lines = [f"wave           {wave.name}: {wave.stage}, {wave.says}" for wave in rollout.waves]
    if rollout.health:
        verdicts = Counter(one.verdict for one in rollout.health)
        counts = {verdict.replace("_", " "): verdicts[verdict] for verdict in VERDICTS if verdicts[verdict]}
        lines.append(f"health         {len(rollout.health):,} changed lately: {_counted(counts)}")
    if rollout.drift:
        given_up = sum(one.given_up for one in rollout.drift)
        lines.append(f"drift          {len(rollout.drift):,} lost the Defender, {given_up:,} given up")
    return lines + _notice_lines(rollout.notice_counts())


def _notice_lines(notice: dict[str, Any]) -> list[str]:
    counts = {outcome: notice[outcome] for outcome in get_args(NoticeOutcome) if notice[outcome]}
    if not counts:
        return []
    until = f", until {notice['until']}" if notice["until"] else ""
    lines = [f"notice         {_counted(counts)}, in {counted(notice['accounts'], 'account')}{until}"]
    return lines + ([f"not announced  {notice['error']}"] if notice["error"] else [])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
