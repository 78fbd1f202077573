"""Advances generators on a pool of threads: one that waits between two of its steps occupies no thread.

Few steps of an account-region run at once: they share one request rate and would only wait for it.
"""

import heapq
import itertools
import queue
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from remediator.change.batcher import Wait
from scanner.core.clock import SYSTEM_CLOCK, Clock

K = TypeVar("K")
R = TypeVar("R")

# Two: while one waits for the rate, the other waits for an answer.
STEPS_PER_UNIT = 2
# Of the rate of 50 account-regions 50 ms away, 32 threads use 67 %, 64 and 128 use 86 % (benchmarks/remediate.py).
THREADS = 64


@dataclass(frozen=True)
class Finished(Generic[K, R]):
    """How a generator ended: with a result, or with the error that it raised."""

    key: K
    result: R | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Task(Generic[K, R]):
    key: K
    unit: Hashable
    steps: Generator[Wait, None, R]


class Scheduler(Generic[K, R]):
    """Runs generators that yield how long to wait: seconds, or a future to wait for.

    A context manager; once it is left, no further step starts. A step must not block on a future that another step
    is to resolve: it yields it.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, most: int = THREADS) -> None:
        """Run nothing yet. most: how many generators there will be at most."""
        self._clock = clock
        self._threads = min(most, THREADS)
        # The moment when it is due, a number that keeps the order of equal ones, and the task.
        self._due: list[tuple[float, int, _Task[K, R]]] = []
        self._running: Counter[Hashable] = Counter()
        self._waiting: defaultdict[Hashable, deque[_Task[K, R]]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._ready: queue.SimpleQueue[_Task[K, R] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Finished[K, R]] = queue.SimpleQueue()
        self._closed = False

    def __enter__(self) -> "Scheduler[K, R]":
        """Start the threads. They are daemons: a hung socket must not keep the process alive."""
        for target in (self._watch_due, *[self._work] * self._threads):
            threading.Thread(target=target, name="auto-defender-changes", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each thread end after the step that it runs; wait for none."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        for _thread in range(self._threads):
            self._ready.put(None)

    def start(self, key: K, unit: Hashable, steps: Generator[Wait, None, R]) -> None:
        """Start a generator now. unit: its account-region."""
        self._resume(_Task(key, unit, steps))

    def finished(self, timeout: float) -> list[Finished[K, R]]:
        """Wait up to `timeout` seconds for one that ends, then as long again for others; return them all."""
        ended = []
        try:
            ended.append(self._finished.get(timeout=timeout))
            self._clock.sleep(timeout)
            while True:
                ended.append(self._finished.get_nowait())
        except queue.Empty:
            return ended

    def _watch_due(self) -> None:
        """Hand over what is due, the earliest first, until the scheduler is left."""
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                while self._due and self._due[0][0] <= now:
                    self._hand_over(heapq.heappop(self._due)[2])
                if self._due:
                    self._clock.wait(self._changed, self._due[0][0] - now)
                else:
                    self._changed.wait()

    def _resume(self, task: _Task[K, R]) -> None:
        with self._changed:
            self._hand_over(task)

    def _hand_over(self, task: _Task[K, R]) -> None:
        """Give a task to the threads, or let it wait until its account-region has fewer steps running. Needs the lock."""
        if self._running[task.unit] < STEPS_PER_UNIT:
            self._running[task.unit] += 1
            self._ready.put(task)
        else:
            self._waiting[task.unit].append(task)

    def _work(self) -> None:
        while (task := self._ready.get()) is not None and not self._closed:
            self._advance(task)
            self._leave(task.unit)

    def _advance(self, task: _Task[K, R]) -> None:
        """Run one step. Once it has yielded, another thread may run the next one at any moment."""
        try:
            wait = next(task.steps)
        except StopIteration as end:
            self._finished.put(Finished(task.key, result=end.value))
        except BaseException as error:  # noqa: BLE001 - the executor decides what each error means
            self._finished.put(Finished(task.key, error=error))
        else:
            if isinstance(wait, Future):
                wait.add_done_callback(lambda _: self._resume(task))
            else:
                self._resume_in(wait, task)

    def _resume_in(self, seconds: float, task: _Task[K, R]) -> None:
        with self._changed:
            entry = (self._clock.monotonic() + seconds, next(self._numbers), task)
            heapq.heappush(self._due, entry)
            if self._due[0] is entry:
                self._changed.notify()

    def _leave(self, unit: Hashable) -> None:
        with self._changed:
            if self._waiting[unit]:
                self._ready.put(self._waiting[unit].popleft())
            else:
                self._running[unit] -= 1
