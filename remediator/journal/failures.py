"""Failure memory: what AWS refused for good, or took and failed at, is not tried every hour, only once something changed."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import pandas as pd

from remediator.change.desired_state import desired_state
from remediator.change.records import Change, ChangeResult, ChangeRow, PlannedAction
from remediator.journal.store import FAILURES, load, save
from scanner.settings import DefenderSettings
from storage.protocol import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A failure, valid while the function has this revision, the layer this version and the configuration this digest.

    detail: of changes.csv. at: ISO 8601, UTC.
    """

    function_arn: str
    detail: str
    revision_id: str
    layer: str
    config_digest: str
    run_id: str
    at: str
    action: PlannedAction = "protect"


def failures(store: Store) -> Mapping[str, Failure]:
    """Read state/failures.json, by function ARN; empty where there is none yet, BadInput where it is malformed."""
    return {failure.function_arn: failure for failure in load(store, FAILURES, tuple[Failure, ...], ())}


def still_failing(
    known: Mapping[str, Failure], eligible: pd.DataFrame, defender: DefenderSettings, config_digest: str
) -> list[str]:
    """Return the ARNs of eligible functions for which nothing has changed since they were refused.

    eligible: rows of the assessed frame, with function_arn.
    """
    rows = eligible[eligible["function_arn"].isin(list(known))]
    return [
        row["function_arn"]
        for row in rows.to_dict("records")
        if _unchanged(known[row["function_arn"]], row, defender, config_digest)
    ]


def _unchanged(
    failure: Failure, row: Mapping[str, str], defender: DefenderSettings, config_digest: str
) -> bool:
    ours = desired_state(defender, row["family"], row["region"], row["account_id"])  # type: ignore[arg-type]
    now = (row["revision_id"], str(ours.layer), config_digest)
    return now == (failure.revision_id, failure.layer, failure.config_digest)


def remember(
    store: Store, rows: Iterable[ChangeRow], *, config_digest: str, run_id: str, now: datetime
) -> None:
    """Keep what failed for good in this run, and forget what was tried again with another end."""
    before = failures(store)
    after = dict(before)
    for row in rows:
        after.pop(row.item.function_arn, None)
        revision_id = _failed_at(row.result)
        if not revision_id or not isinstance(row.item, Change):
            continue
        after[row.item.function_arn] = Failure(
            row.item.function_arn,
            row.result.detail,
            revision_id,
            row.item.layer,
            config_digest,
            run_id,
            now.isoformat(timespec="seconds"),
            row.item.action,
        )
    if after != before:
        save(store, FAILURES, [asdict(after[arn]) for arn in sorted(after)])


def _failed_at(result: ChangeResult) -> str:
    """Return the revision of the function at which its change fails for good, "" where another try may go well."""
    if result.error is not None and result.error.final and result.intent is not None:
        return result.intent.revision_id
    return result.clean_revision
