"""From journals to state files: each is a left fold over events, in the order of their marks.

A file has the mark of the last segment that is folded into it, and a fold skips what is not above that: whichever way
events are cut into folds, and wherever a fold is killed, folding again gives the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from remediator.journal.functions import (
    AccountFile,
    Seen,
    account_of,
    account_path,
    fold_account,
    for_each,
    read_account,
    tallies,
)
from remediator.journal.order import Event
from remediator.journal.quarantine import (
    EMPTY,
    Quarantined,
    Released,
    fold_quarantine,
    read_quarantine,
)
from remediator.journal.store import QUARANTINE, WAVES, encoded
from remediator.journal.wave_states import WavesFile, fold_waves, read_waves
from scanner.core.errors import AutoDefenderError
from storage.protocol import JSON, Store

Files = Mapping[str, bytes]


def fold(store: Store, events: Iterable[Event]) -> None:
    """Fold events into the state files. The caller holds the lock, and has folded all earlier events.

    Raises BadInput where a file can't be used, StoreFailed where one can't be written; the other files are folded.
    """
    ordered = sorted(events, key=lambda event: event.mark)
    failed: list[AutoDefenderError] = []
    for part in (_functions_and_waves, _quarantine):
        try:
            for files in part(store, ordered):
                _write(store, files)
        except AutoDefenderError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _write(store: Store, files: Files) -> None:
    for_each(sorted(files), lambda path: store.write(path, files[path], JSON))


def folded(events: Iterable[Event]) -> dict[str, bytes]:
    """Return the state files after all events there are."""
    ordered = sorted(events, key=lambda event: event.mark)
    parts = (*_functions_and_waves(None, ordered), *_quarantine(None, ordered))
    return {path: body for files in parts for path, body in files.items()}


def _functions_and_waves(store: Store | None, events: Sequence[Event]) -> Iterator[Files]:
    """Yield the accounts' files that events change, then that of the waves, which the next fold writes after a kill.

    store: None to begin with nothing.
    """
    by_account: dict[str, list[Event]] = {}
    for event in events:
        if account_id := account_of(event.fact):
            by_account.setdefault(account_id, []).append(event)
    if not events:
        return
    before = dict(zip(by_account, for_each(list(by_account), _reader(store)), strict=True))
    after = {
        account_id: fold_account(account, by_account[account_id]) for account_id, account in before.items()
    }
    yield {
        account_path(account_id): encoded(asdict(account))
        for account_id, account in after.items()
        if account != before[account_id]
    }
    waves = read_waves(store) if store else WavesFile()
    counted = fold_waves(
        waves, events, {account_id: tallies(account) for account_id, account in after.items()}
    )
    yield {WAVES: encoded(asdict(counted))} if counted != waves else {}


def _reader(store: Store | None) -> Callable[[str], AccountFile]:
    return partial(read_account, store) if store else lambda account_id: AccountFile()


def _quarantine(store: Store | None, events: Sequence[Event]) -> Iterator[Files]:
    if not any(isinstance(event.fact, Quarantined | Released | Seen) for event in events):
        return
    before = read_quarantine(store) if store else EMPTY
    after = fold_quarantine(before, events)
    yield {QUARANTINE: encoded(asdict(after))} if after != before else {}
