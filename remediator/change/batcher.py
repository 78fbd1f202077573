"""Many changes ask, one of them works for all that ask meanwhile: the cost is a batch's, not an item's."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# What a change yields to the scheduler: the seconds to wait, or a future whose result it needs.
Wait = float | Future[Any]
# Short beside the seconds that an update takes to settle; enough for a batch to be large when much is asked.
GATHER_SECONDS = 0.05


def result_of(future: Future[R]) -> Generator[Wait, None, R]:
    """Return what another change is asking for, or raise what it raised; yield the future while it is open."""
    if not future.done():
        yield future
    return future.result()


class Batches(Generic[T, R]):
    """Answers items in batches; `work` takes a batch and returns as many results, in its order."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        """Take the work."""
        self._work = work
        self._waiting: dict[Future[R], T] = {}
        self._adding = threading.Lock()

    def ask(self, item: T) -> Generator[Wait, None, R]:
        """Return the item's result, or raise what its batch raised; yield what to wait for.

        Items gather for a while; the change that continues first works for all of them, in its own step. Any change
        can be the one: whichever asked first may be delayed by its account-region. A future that is waited for here is
        therefore one that a running step is about to resolve.
        """
        mine: Future[R] = Future()
        with self._adding:
            self._waiting[mine] = item
        yield GATHER_SECONDS
        self._answer(self._taken_with(mine))
        return (yield from result_of(mine))

    def _taken_with(self, mine: Future[R]) -> dict[Future[R], T]:
        """Take all items that wait; none where another change has taken mine."""
        with self._adding:
            if mine not in self._waiting:
                return {}
            batch, self._waiting = self._waiting, {}
        return batch

    def _answer(self, batch: Mapping[Future[R], T]) -> None:
        if not batch:
            return
        try:
            results = self._work(list(batch.values()))
        except BaseException as error:  # noqa: BLE001 - raised again by each change that asked
            for future in batch:
                future.set_exception(error)
        else:
            for future, result in zip(batch, results, strict=True):
                future.set_result(result)
