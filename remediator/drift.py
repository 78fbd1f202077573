"""Drift: functions that lost the Defender because their own pipeline deployed them again without it.

Each protection of a function is counted in state/drift/ACCOUNT.json. One that would be protected a fourth time is
left alone: its owner is given what makes it permanent.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from remediator.changes import Item, Row
from remediator.state import Store, load, save

# "after three times we stop fighting"
GIVE_UP_AFTER = 3


@dataclass(frozen=True)
class Protected:
    """How often a function was protected, by which run and when (ISO 8601, UTC) last."""

    function_arn: str
    times: int
    run_id: str
    at: str


def lost_again(store: Store, eligible: Mapping[str, str]) -> dict[str, Protected]:
    """Give those that lost the Defender since a run protected them.

    eligible: function ARN -> account id of what is to be protected or repaired now; an outdated layer is no loss.
    """
    found: dict[str, Protected] = {}
    for account_id in sorted(set(eligible.values())):
        known = _protected(store, account_id)
        found |= {
            arn: known[arn] for arn, account in eligible.items() if account == account_id and arn in known
        }
    return found


def given_up(lost: Mapping[str, Protected]) -> list[str]:
    """Give the ARNs of those that were protected, and lost it, too often to go on."""
    return [arn for arn, protected in lost.items() if protected.times >= GIVE_UP_AFTER]


def count_protected(store: Store, rows: Iterable[Row], *, run_id: str, now: datetime) -> None:
    """Count what this run has protected or repaired."""
    for account_id, items in _by_account(
        row.of for row in rows if row.ended.outcome == "changed" and row.of.action in {"protect", "repair"}
    ).items():
        known = _protected(store, account_id)
        for item in items:
            before = known.get(item.function_arn)
            times = before.times + 1 if before else 1
            known[item.function_arn] = Protected(
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


def _protected(store: Store, account_id: str) -> dict[str, Protected]:
    entries = load(store, _path(account_id), tuple[Protected, ...], ())
    return {entry.function_arn: entry for entry in entries}


def _save(store: Store, account_id: str, known: Mapping[str, Protected]) -> None:
    save(store, _path(account_id), [asdict(known[arn]) for arn in sorted(known)])


def _path(account_id: str) -> str:
    return f"state/drift/{account_id}.json"
