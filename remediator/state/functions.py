"""What runs have learnt of each function: state/functions/ACCOUNT.json, folded from their journals."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal

from remediator.change.records import Action, Intent, Outcome
from remediator.state.drift import ProtectionCount
from remediator.state.failures import Failure
from remediator.state.fields import AccountId, Arn, DayOrNone
from remediator.state.order import NEVER, Event, Mark
from remediator.state.store import FUNCTIONS, for_each, load
from storage.protocol import Store

FORMAT = 2
_FORGET_AFTER = timedelta(days=90)


@dataclass(frozen=True)
class FunctionRecord:
    """What is known of a function.

    at: the moment of the last outcome that is counted here (ISO 8601, UTC). ended: how its last change ended that
    counts in a wave, and release and wave of that. protections: since its last rollback, None for none. failure: None
    since its last success. gone: the day since which no sweep shows it, "" where one does. runs: those whose journals
    have entries about it, in the order of their first one.
    """

    function_arn: Arn
    at: str = ""
    ended: Literal["", "changed", "failed"] = ""
    release: str = ""
    wave: str = ""
    protections: ProtectionCount | None = None
    failure: Failure | None = None
    gone: DayOrNone = ""
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountFile:
    """The content of an account's file. mark: of the last segment that says anything about the account's functions."""

    format: int = FORMAT
    mark: Mark = NEVER
    functions: tuple[FunctionRecord, ...] = ()


@dataclass(frozen=True)
class Result:
    """How a change ended that has no intent: nothing was about to be sent. lasting: another try may meet its cause again."""

    function_arn: Arn
    action: Action
    outcome: Outcome
    detail: str
    revision_id: str
    wave: str
    lasting: bool


@dataclass(frozen=True)
class Ended:
    """How a change or a rollback of a function ended, and under which release and configuration ("": none is known).

    revision_before, revision_after: the function's; after: "" where it is not known. installs: it gives the layer or the
    wrapper. lasting: it was not made for a reason that another try may meet again.
    """

    function_arn: str
    action: Action
    outcome: Outcome
    detail: str
    revision_before: str
    revision_after: str
    wave: str
    release: str = ""
    config_digest: str = ""
    installs: bool = False
    lasting: bool = False

    @property
    def counts(self) -> bool:
        """Return whether anything is learnt from it."""
        if self.action == "rollback":
            return self.outcome == "rolled_back"
        return self.lasting or self.outcome in {"changed", "failed"}


@dataclass(frozen=True)
class Retried:
    """Somebody wants a function to be tried again: its failure is forgotten, and drift that is given up."""

    function_arn: Arn


@dataclass(frozen=True)
class Seen:
    """A sweep that read their units no longer shows some functions of an account (gone), or shows some again (back)."""

    account_id: AccountId
    gone: tuple[str, ...] = ()
    back: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """What an upgrade took over from an earlier release, in place of what is known of a function."""

    function_arn: Arn
    at: str
    protections: ProtectionCount | None
    failure: Failure | None


@dataclass(frozen=True)
class Tally:
    """How many functions of an account were changed in a wave, and how many failed, each by its last change."""

    changed: int = 0
    failed: int = 0


# Of an account: by release and wave.
Tallies = Mapping[tuple[str, str], Tally]


def account_of(fact: object) -> str | None:
    """Return the account of a fact about functions, None for other facts."""
    if isinstance(fact, Seen):
        return fact.account_id
    return fact.function_arn.split(":")[4] if isinstance(fact, Intent | Ended | Retried | Taken) else None


def fold_account(before: AccountFile, events: Iterable[Event]) -> AccountFile:
    """Return an account's file after events about its functions, in their order; those that it has already are skipped."""
    known, mark = {record.function_arn: record for record in before.functions}, before.mark
    for event in events:
        if event.mark > before.mark:
            for arn in [arn for arn, record in known.items() if is_forgotten(record.gone, event.at)]:
                del known[arn]
            known |= {record.function_arn: record for record in _changed(known, event)}
            mark = event.mark
    return replace(before, format=FORMAT, mark=mark, functions=tuple(known[arn] for arn in sorted(known)))


def is_forgotten(gone: str, at: str) -> bool:
    """Return whether a function has been gone for so long at a moment that nothing about it is kept."""
    return bool(gone) and date.fromisoformat(at[:10]) - date.fromisoformat(gone) > _FORGET_AFTER


def _changed(known: Mapping[str, FunctionRecord], event: Event) -> list[FunctionRecord]:
    """Return the records that an event changes, after it."""
    fact = event.fact
    if isinstance(fact, Seen):
        return after_seen(known, fact, event.at)
    if not isinstance(fact, Intent | Ended | Retried | Taken):
        return []
    record = known.get(fact.function_arn, FunctionRecord(fact.function_arn))
    if isinstance(fact, Intent):
        return [record if event.run_id in record.runs else replace(record, runs=(*record.runs, event.run_id))]
    if isinstance(fact, Ended):
        return [_counted(record, fact, event)] if fact.counts else []
    if isinstance(fact, Taken):
        return [replace(record, at=fact.at, protections=fact.protections, failure=fact.failure)]
    return [_tried_again(record)] if fact.function_arn in known else []


def after_seen(known: Mapping[str, FunctionRecord], seen: Seen, at: str) -> list[FunctionRecord]:
    """Return the records of functions that have gone or are back; one that is back is another function, and begins anew."""
    gone = [replace(known[arn], gone=at[:10]) for arn in seen.gone if arn in known]
    return gone + [FunctionRecord(arn, runs=known[arn].runs) for arn in seen.back if arn in known]


def _counted(record: FunctionRecord, one: Ended, event: Event) -> FunctionRecord:
    record = replace(record, at=event.at)
    if one.outcome == "rolled_back" or (one.outcome == "changed" and one.action == "remove"):
        # That it lacks the Defender is nobody's pipeline.
        return replace(record, protections=None, failure=None)
    if one.outcome == "changed":
        protections = _protected(record.protections, event) if one.installs else record.protections
        return replace(_in_wave(record, one), protections=protections, failure=None)
    if one.config_digest:
        record = replace(record, failure=_failed(record.failure, one, event))
    return _in_wave(record, one) if one.outcome == "failed" and one.action != "remove" else record


def _in_wave(record: FunctionRecord, one: Ended) -> FunctionRecord:
    """Count it in its wave; not what release 0.1 did, which took its counts along (WaveObserved)."""
    if not one.release:
        return record
    ended: Literal["changed", "failed"] = "changed" if one.outcome == "changed" else "failed"
    return replace(record, ended=ended, release=one.release, wave=one.wave)


def _protected(before: ProtectionCount | None, event: Event) -> ProtectionCount:
    return ProtectionCount(before.times + 1 if before else 1, event.run_id, event.at)


def _failed(before: Failure | None, one: Ended, event: Event) -> Failure:
    again = before is not None and before.is_of(one.revision_before, one.config_digest)
    times = before.times + 1 if before and again else 1
    return Failure(
        one.detail, one.action, one.revision_after, one.config_digest, event.run_id, event.at, times
    )


def _tried_again(record: FunctionRecord) -> FunctionRecord:
    given_up = record.protections is not None and record.protections.given_up
    return replace(record, failure=None, protections=None if given_up else record.protections)


def tallies(account: AccountFile) -> Tallies:
    """Return how the account's functions count, by release and wave."""
    found = Counter(
        (record.release, record.wave, record.ended) for record in account.functions if record.wave
    )
    return {
        (release, wave): Tally(found[release, wave, "changed"], found[release, wave, "failed"])
        for release, wave, _ in found
    }


def transitions(
    known: Collection[FunctionRecord],
    seen: Collection[str],
    read: Collection[tuple[str, str]],
    account_ids: Collection[str],
    at: str,
) -> list[Seen]:
    """Return which known functions a sweep no longer shows, and which it shows again, by account.

    seen: ARNs of the sweep's functions. read: the account-regions that it has read. account_ids: all that the organization
    has. at: now (ISO 8601, UTC). What has been gone for so long that it is forgotten is gone again: the fold drops it then.
    """
    gone, back = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for record in known:
        _, _, _, region, account_id, *_ = record.function_arn.split(":")
        if record.gone and record.function_arn in seen:
            back[account_id].append(record.function_arn)
        elif record.function_arn not in seen and (
            is_forgotten(record.gone, at) if record.gone else _is_gone(account_id, region, read, account_ids)
        ):
            gone[account_id].append(record.function_arn)
    return [
        Seen(account_id, tuple(sorted(gone[account_id])), tuple(sorted(back[account_id])))
        for account_id in sorted(gone.keys() | back.keys())
    ]


def _is_gone(
    account_id: str, region: str, read: Collection[tuple[str, str]], account_ids: Collection[str]
) -> bool:
    """Return whether a function that a sweep does not show is gone: its unit was read, or its account has left."""
    return (account_id, region) in read or account_id not in account_ids


def records(store: Store, account_ids: Collection[str] | None = None) -> dict[str, FunctionRecord]:
    """Return what is known of the functions of these accounts (None: of all), by ARN.

    Raises BadInput where a file is malformed, or of a newer format.
    """
    known = [path.removeprefix(FUNCTIONS).removesuffix(".json") for path in store.list(FUNCTIONS)]
    chosen = [account_id for account_id in known if account_ids is None or account_id in account_ids]
    found: dict[str, FunctionRecord] = {}
    for account in read_accounts(store, chosen):
        found |= {record.function_arn: record for record in account.functions}
    return found


def read_accounts(store: Store, account_ids: Sequence[str]) -> list[AccountFile]:
    """Return accounts' files; BadInput where one is malformed, or of a newer format."""
    return for_each(account_ids, lambda account_id: read_account(store, account_id))


def read_account(store: Store, account_id: str) -> AccountFile:
    """Return an account's file; BadInput where it is malformed, or of a newer format."""
    return load(store, account_path(account_id), AccountFile, AccountFile(), FORMAT)


def account_path(account_id: str) -> str:
    """Return the path of an account's file."""
    return f"{FUNCTIONS}{account_id}.json"
