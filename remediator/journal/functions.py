"""What runs have learnt of each function: state/functions/ACCOUNT.json, derived from their journals.

Counting is idempotent: a record has the moment of the last outcome that it counts, and no earlier one is counted again.
A run counts its own outcomes at its end; where it was killed before, the next run counts them from its journal.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Literal, TypeVar

from remediator.change.records import Action, Outcome
from remediator.journal.drift import ProtectionCount
from remediator.journal.failures import Failure
from remediator.journal.journal import Basis, Entry
from remediator.journal.store import load, save
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput
from storage.protocol import Store

T = TypeVar("T")
_FOLDER = "state/functions/"
_FORMAT = 1
# Accounts whose files are read at once: a read of S3 takes some 30 ms, and there may be thousands.
_READERS = 16
_FORGET_AFTER = timedelta(days=90)


@dataclass(frozen=True)
class FunctionRecord:
    """What is known of a function.

    at: the moment of the last outcome that is counted here (ISO 8601, UTC). ended: how its last change ended that
    counts in a wave, and release and wave of that. protections: since its last rollback, None for none. failure: None
    since its last success. seen: the last day on which a sweep saw it, as far as that was noted.
    """

    function_arn: str
    at: str = ""
    ended: Literal["", "changed", "failed"] = ""
    release: str = ""
    wave: str = ""
    protections: ProtectionCount | None = None
    failure: Failure | None = None
    seen: str = ""


@dataclass(frozen=True)
class _Document:
    """The content of an account's file."""

    format: int = _FORMAT
    functions: tuple[FunctionRecord, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a change or a rollback of a function ended.

    at: when (ISO 8601, UTC). revision_before, revision_after: the function's; after: "" where it is not known. installs:
    it gives the layer or the wrapper. lasting: it was not made for a reason that another try may meet again.
    """

    account_id: str
    function_arn: str
    run_id: str
    action: Action
    outcome: Outcome
    detail: str
    at: str
    revision_before: str
    revision_after: str
    wave: str = ""
    installs: bool = False
    lasting: bool = False

    @property
    def counts(self) -> bool:
        """Return whether anything is learnt from it."""
        if self.action == "rollback":
            return self.outcome == "rolled_back"
        return self.lasting or self.outcome in {"changed", "failed"}


@dataclass(frozen=True)
class Tally:
    """How many functions of an account were changed in a wave, and how many failed, each by its last change."""

    changed: int = 0
    failed: int = 0


def ended_entry(entry: Entry) -> Ended | None:
    """Return how a journal's entry ended, None where it is open."""
    intent, outcome = entry.intent, entry.outcome
    if outcome is None or entry.ended is None:
        return None
    return Ended(
        intent.account_id,
        intent.function_arn,
        intent.run_id,
        intent.action,
        outcome.outcome,
        outcome.detail,
        entry.ended.isoformat(timespec="milliseconds"),
        intent.revision_id,
        outcome.revision_id or ("" if outcome.left else intent.revision_id),
        intent.wave,
        intent.delta.installs,
    )


def records(store: Store, account_ids: Collection[str] | None = None) -> dict[str, FunctionRecord]:
    """Return what is known of the functions of these accounts (None: of all), by ARN.

    Raises BadInput where a file is malformed, or of a newer format.
    """
    known = [path.removeprefix(_FOLDER).removesuffix(".json") for path in store.list(_FOLDER)]
    chosen = [account_id for account_id in known if account_ids is None or account_id in account_ids]
    found: dict[str, FunctionRecord] = {}
    for one in _for_each(chosen, lambda account_id: _read(store, account_id)):
        found |= one
    return found


def count(store: Store, ended: Iterable[Ended], basis: Basis) -> dict[str, dict[str, Tally]]:
    """Count how changes ended; return the tallies of their accounts under the basis' release, by account and wave."""
    by_account: defaultdict[str, list[Ended]] = defaultdict(list)
    for one in ended:
        if one.counts:
            by_account[one.account_id].append(one)

    def count_account(account_id: str) -> dict[str, Tally]:
        before = _read(store, account_id)
        after = dict(before)
        for one in sorted(by_account[account_id], key=lambda one: one.at):
            record = after.get(one.function_arn, FunctionRecord(one.function_arn))
            after[one.function_arn] = _counted(record, one, basis) if one.at > record.at else record
        _write(store, account_id, before, after)
        return _tallies(after.values(), basis.release)

    accounts = sorted(by_account)
    return dict(zip(accounts, _for_each(accounts, count_account), strict=True))


def _counted(record: FunctionRecord, one: Ended, basis: Basis) -> FunctionRecord:
    record = replace(record, at=one.at)
    if one.outcome == "rolled_back" or (one.outcome == "changed" and one.action == "remove"):
        # That it lacks the Defender is nobody's pipeline.
        return replace(record, protections=None, failure=None)
    if one.outcome == "changed":
        protections = _protected(record.protections, one) if one.installs else record.protections
        in_wave = replace(record, ended="changed", release=basis.release, wave=one.wave)
        return replace(in_wave, protections=protections, failure=None)
    record = replace(record, failure=_failed(record.failure, one, basis))
    if one.outcome == "failed" and one.action != "remove":
        return replace(record, ended="failed", release=basis.release, wave=one.wave)
    return record


def _protected(before: ProtectionCount | None, one: Ended) -> ProtectionCount:
    return ProtectionCount(before.times + 1 if before else 1, one.run_id, one.at)


def _failed(before: Failure | None, one: Ended, basis: Basis) -> Failure:
    again = before is not None and before.is_of(one.revision_before, basis.config_digest)
    times = before.times + 1 if before and again else 1
    return Failure(one.detail, one.action, one.revision_after, basis.config_digest, one.run_id, one.at, times)


def _tallies(known: Iterable[FunctionRecord], release: str) -> dict[str, Tally]:
    found: Counter[tuple[str, str]] = Counter(
        (record.wave, record.ended) for record in known if record.wave and record.release == release
    )
    return {
        wave: Tally(found[wave, "changed"], found[wave, "failed"]) for wave in {wave for wave, _ in found}
    }


def forget_unseen(
    store: Store,
    account_ids: Iterable[str],
    seen: Collection[str],
    unread: Collection[tuple[str, str]],
    today: date,
) -> None:
    """Forget functions of these accounts that no sweep has seen for 90 days.

    seen: ARNs of their functions in this sweep. unread: the account-regions that it could not read.
    """

    def forget(account_id: str) -> None:
        before = _read(store, account_id)
        after = {
            arn: replace(record, seen=today.isoformat()) if arn in seen else record
            for arn, record in before.items()
            if arn in seen or (account_id, arn.split(":")[3]) in unread or not _is_old(record, today)
        }
        _write(store, account_id, before, after)

    _for_each(sorted(account_ids), forget)


def _is_old(record: FunctionRecord, today: date) -> bool:
    return max(record.seen, record.at[:10]) < (today - _FORGET_AFTER).isoformat()


def forget_failures(store: Store, arns: Collection[str]) -> None:
    """Forget the failures of functions, and drift that is given up. The caller holds the lock."""

    def forget(account_id: str) -> None:
        before = _read(store, account_id)
        forgotten = {arn: _tried_again(before[arn]) for arn in before.keys() & set(arns)}
        _write(store, account_id, before, before | forgotten)

    _for_each(sorted({arn.split(":")[4] for arn in arns}), forget)


def _tried_again(record: FunctionRecord) -> FunctionRecord:
    given_up = record.protections is not None and record.protections.given_up
    return replace(record, failure=None, protections=None if given_up else record.protections)


def write_records(store: Store, known: Mapping[str, FunctionRecord]) -> None:
    """Write records in place of those that their accounts have. Raises BadInput for what is no function's ARN."""
    by_account: defaultdict[str, dict[str, FunctionRecord]] = defaultdict(dict)
    for arn, record in known.items():
        parsed = FunctionArn.parse(arn)
        if parsed is None:
            raise BadInput(f"the state of an earlier run names '{arn}', which is no function ARN")
        by_account[parsed.account_id][arn] = record
    _for_each(list(by_account), lambda account_id: _write(store, account_id, {}, by_account[account_id]))


def _write(
    store: Store, account_id: str, before: Mapping[str, FunctionRecord], after: Mapping[str, FunctionRecord]
) -> None:
    if after != before:
        document = _Document(_FORMAT, tuple(after[arn] for arn in sorted(after)))
        save(store, _path(account_id), asdict(document))


def _read(store: Store, account_id: str) -> dict[str, FunctionRecord]:
    document = load(store, _path(account_id), _Document, _Document(), _FORMAT)
    return {record.function_arn: record for record in document.functions}


def _for_each(tasks: Sequence[str], work: Callable[[str], T]) -> list[T]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(work, tasks))


def _path(account_id: str) -> str:
    return f"{_FOLDER}{account_id}.json"
