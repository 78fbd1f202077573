"""From journals to state files: each is a left fold over events, in the order of their marks.

A file has the mark of the last segment that is folded into it, and a fold skips what is not above that: whichever way
events are cut into folds, and wherever a fold is killed, folding again gives the same bytes. A file is replaced only if
it is still the one that was read: a run that has lost the lock puts no older file over that of the next one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from remediator.state import functions, quarantine, wave_states
from remediator.state.functions import (
    AccountFile,
    Seen,
    account_of,
    account_path,
    fold_account,
    tallies,
)
from remediator.state.order import Event
from remediator.state.quarantine import EMPTY, Quarantined, QuarantineFile, Released, fold_quarantine
from remediator.state.store import QUARANTINE, WAVES, encoded, for_each, load_tagged
from remediator.state.wave_states import WavesFile, fold_waves
from scanner.core.errors import AutoDefenderError, BadInput
from storage.protocol import Store

Files = Mapping[str, bytes]
F = TypeVar("F", AccountFile, WavesFile, QuarantineFile)


class _State:
    """The state files as they were read; nothing where no store is given."""

    def __init__(self, store: Store | None = None, newest: int = 0) -> None:
        self._store = store
        self._newest = newest
        self._tags: dict[str, str] = {}

    def read(self, path: str, shape: type[F], empty: F, newest_format: int) -> F:
        if self._store is None:
            return empty
        content, self._tags[path] = load_tagged(self._store, path, shape, empty, newest_format)
        if content.mark.term > self._newest:
            raise BadInput(
                f"{self._store.url(path)}: mark: of term {content.mark.term}, later than the newest journal's, "
                f"{self._newest}: another run has taken the lock over; or journals were lost or restored, or the file "
                "was edited: run 'auto-defender state rebuild'"
            )
        return content

    def tag(self, path: str) -> str:
        """Return the tag of a file that was read, "" where there was none."""
        return self._tags[path]


Part = Callable[[_State, Sequence[Event]], Iterator[Files]]


def fold(store: Store, events: Iterable[Event], newest: int) -> None:
    """Fold events into the state files. The caller holds the lock, and has folded all earlier events.

    newest: the number of the newest term there is, as far as the caller knows. Raises BadInput where a file can't be
    used, or is of a later term; StoreFailed where one can't be written; the other files are folded.
    """
    ordered = sorted(events, key=lambda event: event.mark)
    failed: list[AutoDefenderError] = []
    for part in (_functions_and_waves, _quarantine):
        try:
            while not _is_folded(store, part, ordered, newest):
                pass  # another run has written a file meanwhile: it is read again, and folded upon
        except AutoDefenderError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _is_folded(store: Store, part: Part, events: Sequence[Event], newest: int) -> bool:
    """Fold events into files; return False where one was no longer what had been read."""
    state = _State(store, newest)

    def replace(item: tuple[str, bytes]) -> bool:
        (path, body), tag = item, state.tag(item[0])
        return (store.replace(path, body, tag) if tag else store.create(path, body)) is not None

    return all(all(for_each(sorted(files.items()), replace)) for files in part(state, events))


def folded(events: Iterable[Event]) -> dict[str, bytes]:
    """Return the state files after all events there are."""
    ordered = sorted(events, key=lambda event: event.mark)
    parts = (*_functions_and_waves(_State(), ordered), *_quarantine(_State(), ordered))
    return {path: body for files in parts for path, body in files.items()}


def _functions_and_waves(state: _State, events: Sequence[Event]) -> Iterator[Files]:
    """Yield the accounts' files that events change, then that of the waves, which the next fold writes after a kill."""
    by_account: dict[str, list[Event]] = {}
    for event in events:
        if account_id := account_of(event.fact):
            by_account.setdefault(account_id, []).append(event)
    if not events:
        return

    def read(account_id: str) -> AccountFile:
        return state.read(account_path(account_id), AccountFile, AccountFile(), functions.FORMAT)

    before = dict(zip(by_account, for_each(list(by_account), read), strict=True))
    after = {
        account_id: fold_account(account, by_account[account_id]) for account_id, account in before.items()
    }
    yield {
        account_path(account_id): encoded(asdict(account))
        for account_id, account in after.items()
        if account != before[account_id]
    }
    waves = state.read(WAVES, WavesFile, WavesFile(), wave_states.FORMAT)
    counted = fold_waves(
        waves, events, {account_id: tallies(account) for account_id, account in after.items()}
    )
    yield {WAVES: encoded(asdict(counted))} if counted != waves else {}


def _quarantine(state: _State, events: Sequence[Event]) -> Iterator[Files]:
    if not any(isinstance(event.fact, Quarantined | Released | Seen) for event in events):
        return
    before = state.read(QUARANTINE, QuarantineFile, EMPTY, quarantine.FORMAT)
    after = fold_quarantine(before, events)
    yield {QUARANTINE: encoded(asdict(after))} if after != before else {}
