"""Many threads ask; one at a time works, for all that have asked meanwhile: the cost is a batch's, not an item's."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Answers items in batches; `work` gets a batch and gives as many results, in its order."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        """Take the work."""
        self._work = work
        self._waiting: list[tuple[T, Future[R]]] = []
        self._adding = threading.Lock()
        self._working = threading.Lock()

    def ask(self, item: T) -> R:
        """Give the item's result, or raise what its batch raised."""
        mine: Future[R] = Future()
        with self._adding:
            self._waiting.append((item, mine))
        with self._working:
            with self._adding:
                batch, self._waiting = self._waiting, []
            if batch:
                self._answer(batch)
        return mine.result()

    def _answer(self, batch: Sequence[tuple[T, Future[R]]]) -> None:
        try:
            results = self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised again by each that asked
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
