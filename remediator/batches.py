"""Many changes ask, one of them works for all that ask meanwhile: the cost is a batch's, not an item's."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from scanner.turns import elsewhere

T = TypeVar("T")
R = TypeVar("R")

# Little beside the seconds that an update takes to settle; enough for a batch to be large when much is asked.
GATHER_SECONDS = 0.05


class Batches(Generic[T, R]):
    """Answers items in batches; `work` gets a batch and gives as many results, in its order."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        """Take the work."""
        self._work = work
        self._waiting: list[tuple[T, Future[R]]] = []
        self._adding = threading.Lock()

    def ask(self, item: T) -> Generator[float, None, R]:
        """Give the item's result, or raise what its batch raised; yields seconds to wait.

        Who asks first gathers for a while, then works for all; the others wait, and hold no thread.
        """
        mine: Future[R] = Future()
        with self._adding:
            first = not self._waiting
            self._waiting.append((item, mine))
        yield GATHER_SECONDS
        if first:
            with self._adding:
                batch, self._waiting = self._waiting, []
            self._answer(batch)
        while not mine.done():
            yield GATHER_SECONDS / 2
        return mine.result()

    def _answer(self, batch: Sequence[tuple[T, Future[R]]]) -> None:
        try:
            results = elsewhere(lambda: self._work([item for item, _ in batch]))
        except BaseException as error:  # noqa: BLE001 - raised again by each that asked
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
