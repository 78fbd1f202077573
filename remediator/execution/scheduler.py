"""Advances generators when they are due, all on one thread: one that waits, within its step or between, holds nothing.

A lane is an account in a region. Few steps of a lane are under way at a time, for they would only queue for its rate.
"""

import heapq
import itertools
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from scanner.aws.turns import Turns

K = TypeVar("K")
R = TypeVar("R")

# Two: while one waits for the rate, the other waits for an answer.
STEPS_IN_A_LANE = 2
# A step has a connection at most; Linux, and AWS Lambda by its quotas, give a process 1,024 file descriptors.
STEPS_UNDER_WAY = 192
_IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Finished(Generic[K, R]):
    """How a generator ended: with a result, or with the error that it raised."""

    key: K
    result: R | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Steps(Generic[K, R]):
    key: K
    lane: Hashable
    steps: Generator[float, None, R]


class Scheduler(Generic[K, R]):
    """Runs generators that yield the seconds until they want to go on. A context manager; leaving it starts no step."""

    def __init__(self) -> None:
        """Run nothing yet."""
        # When they are due, a number that keeps their order, and they.
        self._due: list[tuple[float, int, _Steps[K, R]]] = []
        self._busy: defaultdict[Hashable, int] = defaultdict(int)
        self._parked: defaultdict[Hashable, deque[_Steps[K, R]]] = defaultdict(deque)
        self._numbers = itertools.count()
        self._started: queue.SimpleQueue[_Steps[K, R]] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Finished[K, R]] = queue.SimpleQueue()
        self._turns = Turns()
        self._closed = False

    def __enter__(self) -> "Scheduler[K, R]":
        """Start the thread; it is a daemon, for a hung socket must not keep the process alive."""
        threading.Thread(target=self._serve, name="auto-defender-changes", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the thread end after the steps that are under way."""
        self._closed = True
        self._turns.ring()

    def start(self, key: K, lane: Hashable, steps: Generator[float, None, R]) -> None:
        """Begin a generator now."""
        self._started.put(_Steps(key, lane, steps))
        self._turns.ring()

    def finished(self, timeout: float) -> list[Finished[K, R]]:
        """Wait for some seconds at most for one that ends, and as long again for what ends with it; give them all."""
        ended = []
        try:
            ended.append(self._finished.get(timeout=timeout))
            time.sleep(timeout)
            while True:
                ended.append(self._finished.get_nowait())
        except queue.Empty:
            return ended

    def _serve(self) -> None:
        while not self._closed or self._turns.under_way:
            while not self._started.empty():
                self._put(self._started.get(), 0.0)
            while not self._closed and self._turns.under_way < STEPS_UNDER_WAY and (step := self._next()):
                self._turns.begin(partial(self._advance, step))
            self._turns.serve(self._seconds_to_next())

    def _put(self, step: _Steps[K, R], pause: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + pause, next(self._numbers), step))

    def _next(self) -> _Steps[K, R] | None:
        """Take what is due in a lane that has room."""
        while self._due and self._due[0][0] <= time.monotonic():
            step = heapq.heappop(self._due)[2]
            if self._busy[step.lane] < STEPS_IN_A_LANE:
                self._busy[step.lane] += 1
                return step
            self._parked[step.lane].append(step)
        return None

    def _seconds_to_next(self) -> float:
        if self._closed or not self._due or self._turns.under_way >= STEPS_UNDER_WAY:
            return _IDLE_SECONDS
        return max(0.0, self._due[0][0] - time.monotonic())

    def _advance(self, step: _Steps[K, R]) -> None:
        try:
            pause = next(step.steps)
        except StopIteration as end:
            self._finished.put(Finished(step.key, result=end.value))
        except BaseException as error:  # noqa: BLE001 - the collector decides what each error means
            self._finished.put(Finished(step.key, error=error))
        else:
            self._put(step, pause)
        self._leave(step.lane)

    def _leave(self, lane: Hashable) -> None:
        self._busy[lane] -= 1
        if self._parked[lane]:
            self._put(self._parked[lane].popleft(), 0.0)
