"""Advances generators on daemon threads when they are due: one that waits holds no thread.

A lane is an account in a region. Few threads work in a lane at a time, for they would only queue for its rate.
"""

import heapq
import itertools
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Generator, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
R = TypeVar("R")

# Two: while one waits for the rate, the other waits for an answer.
THREADS_IN_A_LANE = 2


@dataclass(frozen=True)
class Finished(Generic[K, R]):
    """How a generator ended: with a result, or with the error that it raised."""

    key: K
    result: R | None = None
    error: BaseException | None = None


@dataclass(order=True)
class _Step(Generic[K, R]):
    due: float
    number: int
    key: K = field(compare=False)
    lane: Hashable = field(compare=False)
    steps: Generator[float, None, R] = field(compare=False)


class Scheduler(Generic[K, R]):
    """Runs generators that yield the seconds until they want to go on. A context manager; leaving it starts no step."""

    def __init__(self, threads: int) -> None:
        """Take the number of threads."""
        self._threads = threads
        self._due: list[_Step[K, R]] = []
        self._busy: defaultdict[Hashable, int] = defaultdict(int)
        self._parked: defaultdict[Hashable, deque[_Step[K, R]]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._finished: queue.SimpleQueue[Finished[K, R]] = queue.SimpleQueue()
        self._closed = False

    def __enter__(self) -> "Scheduler[K, R]":
        """Start the threads; they are daemons, for a hung socket must not keep the process alive."""
        for _ in range(self._threads):
            threading.Thread(target=self._serve, name="auto-defender-change", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads end after the step that they are at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def start(self, key: K, lane: Hashable, steps: Generator[float, None, R]) -> None:
        """Begin a generator now."""
        self._put(_Step(time.monotonic(), next(self._numbers), key, lane, steps))

    def finished(self, timeout: float) -> list[Finished[K, R]]:
        """Give all that have ended, after waiting for the first one of them for some seconds at most."""
        ended = []
        try:
            ended.append(self._finished.get(timeout=timeout))
            while True:
                ended.append(self._finished.get_nowait())
        except queue.Empty:
            return ended

    def _put(self, step: _Step[K, R]) -> None:
        with self._changed:
            heapq.heappush(self._due, step)
            self._changed.notify()

    def _serve(self) -> None:
        while (step := self._next()) is not None:
            try:
                pause = next(step.steps)
            except StopIteration as end:
                self._finished.put(Finished(step.key, result=end.value))
            except BaseException as error:  # noqa: BLE001 - the collector decides what each error means
                self._finished.put(Finished(step.key, error=error))
            else:
                step.due = time.monotonic() + pause
                self._put(step)
            self._leave(step.lane)

    def _next(self) -> _Step[K, R] | None:
        """Wait for a step that is due in a lane that has room; None once closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if not self._due or self._due[0].due > now:
                    self._changed.wait(self._due[0].due - now if self._due else None)
                    continue
                step = heapq.heappop(self._due)
                if self._busy[step.lane] < THREADS_IN_A_LANE:
                    self._busy[step.lane] += 1
                    return step
                self._parked[step.lane].append(step)
            return None

    def _leave(self, lane: Hashable) -> None:
        with self._changed:
            self._busy[lane] -= 1
            if self._parked[lane]:
                heapq.heappush(self._due, self._parked[lane].popleft())
                self._changed.notify()
