"""Many changes ask, one of them works for all that ask meanwhile: the cost is a batch's, not an item's."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from scanner.aws.turns import elsewhere

T = TypeVar("T")
R = TypeVar("R")

# Little beside the seconds that an update takes to settle; enough for a batch to be large when much is asked.
GATHER_SECONDS = 0.05


def result_of(future: Future[R]) -> Generator[float, None, R]:
    """Return what another change is asking for, or raise what it raised; yields seconds to wait."""
    while not future.done():
        yield GATHER_SECONDS / 2
    return future.result()


class Batches(Generic[T, R]):
    """Answers items in batches; `work` gets a batch and gives as many results, in its order."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        """Take the work."""
        self._work = work
        self._waiting: dict[Future[R], T] = {}
        self._adding = threading.Lock()

    def ask(self, item: T) -> Generator[float, None, R]:
        """Return the item's result, or raise what its batch raised; yields seconds to wait.

        All gather for a while; who goes on first works for all. It can be anyone: whoever asked first may be held up.
        """
        mine: Future[R] = Future()
        with self._adding:
            self._waiting[mine] = item
        yield GATHER_SECONDS
        self._answer(self._taken_with(mine))
        return (yield from result_of(mine))

    def _taken_with(self, mine: Future[R]) -> dict[Future[R], T]:
        """Take all that wait; nothing where another has taken mine."""
        with self._adding:
            if mine not in self._waiting:
                return {}
            batch, self._waiting = self._waiting, {}
        return batch

    def _answer(self, batch: Mapping[Future[R], T]) -> None:
        if not batch:
            return
        try:
            results = elsewhere(lambda: self._work(list(batch.values())))
        except BaseException as error:  # noqa: BLE001 - raised again by each that asked
            for future in batch:
                future.set_exception(error)
        else:
            for future, result in zip(batch, results, strict=True):
                future.set_result(result)
