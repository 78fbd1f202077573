"""Which functions were announced to the owners of their accounts: state/notices/ACCOUNT.json.

An announcement is of a function for one release. A run writes it once the topic has accepted its message: what is not
here counts as not announced, and is announced by the next run.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from remediator.change.records import PlannedAction
from remediator.state.fields import Moment
from remediator.state.store import for_each, load, save
from storage.protocol import Store

_FOLDER = "state/notices/"
_FORMAT = 1
# Nobody remembers an announcement for longer. It also bounds the files: notice_days is at most 60.
LAPSES_AFTER = timedelta(days=30)


@dataclass(frozen=True)
class Notice:
    """An announcement of a function, by run_id.

    release: Configuration.release, what is to be attached. announced: when; not_before: from when on it may be changed,
    as the owner was notified (both ISO 8601, UTC).
    """

    function_arn: str
    release: str
    action: PlannedAction
    announced: Moment
    not_before: Moment
    run_id: str

    def lapsed(self, now: datetime) -> bool:
        """Return whether it is too old to count: the function could not be changed for long after not_before."""
        return datetime.fromisoformat(self.not_before) + LAPSES_AFTER <= now


@dataclass(frozen=True)
class _Document:
    """The content of an account's file."""

    format: int = _FORMAT
    notices: tuple[Notice, ...] = ()


def announced(store: Store, account_ids: Collection[str]) -> dict[str, Notice]:
    """Return the announcements of functions of these accounts, by ARN.

    Raise BadInput where a file is malformed, or of a newer format.
    """
    paths = [path for path in store.list(_FOLDER) if _account_of(path) in account_ids]
    documents = for_each(paths, lambda path: _load(store, path))
    return {notice.function_arn: notice for document in documents for notice in document.notices}


def announce(store: Store, account_id: str, notices: Iterable[Notice], now: datetime) -> None:
    """Add announcements of an account, each in place of an earlier one of its function; drop those that have lapsed."""
    _rewrite(store, account_id, now, added={notice.function_arn: notice for notice in notices})


def forget(store: Store, arns: Collection[str], now: datetime) -> None:
    """Drop the announcements of functions that were changed, and those of their accounts that have lapsed."""
    account_ids = sorted({arn.split(":")[4] for arn in arns})
    for_each(account_ids, lambda account_id: _rewrite(store, account_id, now, dropped=arns))


def _rewrite(
    store: Store,
    account_id: str,
    now: datetime,
    *,
    added: "dict[str, Notice] | None" = None,
    dropped: Collection[str] = (),
) -> None:
    path = f"{_FOLDER}{account_id}.json"
    before = {notice.function_arn: notice for notice in _load(store, path).notices}
    kept = {
        arn: notice for arn, notice in before.items() if arn not in dropped and not notice.lapsed(now)
    } | (added or {})
    if kept != before:
        save(store, path, asdict(_Document(_FORMAT, tuple(kept[arn] for arn in sorted(kept)))))


def _load(store: Store, path: str) -> _Document:
    return load(store, path, _Document, _Document(), _FORMAT)


def _account_of(path: str) -> str:
    return path.removeprefix(_FOLDER).removesuffix(".json")
