"""Drift: functions that lost the Defender because their own pipeline deployed them again without it.

Each protection of a function is counted in state/drift/ACCOUNT.json. One that would be protected a fourth time is
left alone: its owner gets a snippet that makes it permanent.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime

import pandas as pd

from remediator.change.records import ChangeRow, Item
from remediator.journal.store import load, save
from scanner.core.arns import function_arns
from storage.protocol import Store

GIVE_UP_AFTER = 3
_FOLDER = "state/drift/"
# Accounts whose counts are read at once: a read of S3 takes some 30 ms, and there may be thousands.
_READERS = 16


@dataclass(frozen=True)
class ProtectionCount:
    """How often a function was protected, by which run and when (ISO 8601, UTC) last."""

    function_arn: str
    times: int
    run_id: str
    at: str

    @property
    def given_up(self) -> bool:
        """Return whether it was protected, and lost it, too often to go on."""
        return self.times >= GIVE_UP_AFTER


def find_drift(store: Store, lacking: pd.DataFrame, partition: str) -> dict[str, ProtectionCount]:
    """Return the functions that lost the Defender since a run protected them, by function ARN.

    lacking: rows of the assessed frame that lack the layer or the wrapper; another version or value is no loss.
    """
    counted = {path.removeprefix(_FOLDER).removesuffix(".json") for path in store.list(_FOLDER)}
    accounts = sorted(counted & set(lacking["account_id"].unique()))
    known: dict[str, ProtectionCount] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for found in pool.map(lambda account_id: _protected(store, account_id), accounts):
            known |= found
    # By name first: nearly all that lacks the Defender never had it, and a million ARNs are not made for that.
    rows = lacking[lacking["function_name"].isin({arn.rpartition(":")[2] for arn in known})]
    return {arn: known[arn] for arn in function_arns(rows, partition) if arn in known}


def count_protections(store: Store, rows: Iterable[ChangeRow], *, run_id: str, now: datetime) -> None:
    """Count what this run has given the layer or the wrapper."""
    for account_id, items in _by_account(
        row.item
        for row in rows
        if row.result.outcome == "changed" and row.result.intent and row.result.intent.delta.installs
    ).items():
        known = _protected(store, account_id)
        for item in items:
            before = known.get(item.function_arn)
            times = before.times + 1 if before else 1
            known[item.function_arn] = ProtectionCount(
                item.function_arn, times, run_id, now.isoformat(timespec="seconds")
            )
        _save(store, account_id, known)


def forget(store: Store, items: Collection[Item]) -> None:
    """Forget functions that were rolled back: that they lack the Defender is nobody's pipeline."""
    for account_id, gone in _by_account(items).items():
        known = _protected(store, account_id)
        arns = {item.function_arn for item in gone} & known.keys()
        if arns:
            _save(store, account_id, {arn: known[arn] for arn in known.keys() - arns})


def _by_account(items: Iterable[Item]) -> Mapping[str, list[Item]]:
    grouped: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        grouped[item.account_id].append(item)
    return grouped


def _protected(store: Store, account_id: str) -> dict[str, ProtectionCount]:
    entries = load(store, _path(account_id), tuple[ProtectionCount, ...], ())
    return {entry.function_arn: entry for entry in entries}


def _save(store: Store, account_id: str, known: Mapping[str, ProtectionCount]) -> None:
    save(store, _path(account_id), [asdict(known[arn]) for arn in sorted(known)])


def _path(account_id: str) -> str:
    return f"{_FOLDER}{account_id}.json"
