"""Daemon worker threads and one collector: every task ends exactly once, in bounded time."""

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scanner.core.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class TaskResult(Generic[T, R]):
    """How one task ended: a result or an error; TimeoutError where it was never begun or took too long."""

    task: T
    result: R | None = None
    error: BaseException | None = None


class WorkerPool(Generic[T, R]):
    """Runs tasks on daemon threads: the process exits although one of them hangs on a socket."""

    def __init__(
        self, work: Callable[[T], R], count: int, task_seconds: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """Take the work, the number of threads, and how long a task may take before it is given up."""
        self._work = work
        self._count = count
        self._task_seconds = task_seconds
        self._clock = clock
        self._waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, TaskResult[T, R]]] = queue.SimpleQueue()
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()  # of _begun

    def run(
        self, tasks: Sequence[T], deadline: float | None, stop: threading.Event
    ) -> Iterator[TaskResult[T, R]]:
        """Yield each task's end as it comes.

        At the deadline (Clock.monotonic()) or once `stop` is set, waiting tasks end in TimeoutError, and so do tasks
        under way that take longer than a few seconds more.
        """
        open_tasks = dict(enumerate(tasks))
        for item in open_tasks.items():
            self._waiting.put(item)
        for _ in range(min(self._count, len(tasks))):
            self._start_worker()
        until = math.inf
        while open_tasks and self._clock.monotonic() < until:
            yield from self._next_end(open_tasks)
            yield from self._overdue(open_tasks)
            if until == math.inf and (stop.is_set() or (deadline and self._clock.monotonic() >= deadline)):
                until = self._clock.monotonic() + _GRACE_SECONDS
                yield from self._cancelled(open_tasks)
        for task in open_tasks.values():
            yield _not_read(task)

    def _next_end(self, open_tasks: dict[int, T]) -> Iterator[TaskResult[T, R]]:
        """Wait a moment for an end; that of a task given up earlier is dropped."""
        try:
            index, done = self._done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        if open_tasks.pop(index, None) is not None:
            yield done

    def _cancelled(self, open_tasks: dict[int, T]) -> Iterator[TaskResult[T, R]]:
        try:
            while True:
                index, task = self._waiting.get_nowait()
                del open_tasks[index]
                yield _not_read(task)
        except queue.Empty:
            return

    def _overdue(self, open_tasks: dict[int, T]) -> Iterator[TaskResult[T, R]]:
        """Give up tasks that take too long, and replace the thread of each."""
        oldest = self._clock.monotonic() - self._task_seconds - _GRACE_SECONDS
        with self._lock:
            overdue = [index for index, begun in self._begun.items() if begun < oldest]
        for index in overdue:
            if self._forget(index):
                self._start_worker()
                task = open_tasks.pop(index)
                yield TaskResult(task, error=TimeoutError(f"no end after {self._task_seconds:.0f} s"))

    def _forget(self, index: int) -> bool:
        """Return whether the task was under way. Its worker or the collector forgets it, whichever comes first."""
        with self._lock:
            return self._begun.pop(index, None) is not None

    def _start_worker(self) -> None:
        threading.Thread(target=self._serve, daemon=True, name="auto-defender-worker").start()

    def _serve(self) -> None:
        under_way = True
        while under_way:
            try:
                index, task = self._waiting.get_nowait()
            except queue.Empty:
                return
            with self._lock:
                self._begun[index] = self._clock.monotonic()
            done = self._ended(task)
            # False: the collector gave the task up, and another thread has taken this one's place.
            under_way = self._forget(index)
            self._done.put((index, done))

    def _ended(self, task: T) -> TaskResult[T, R]:
        try:
            return TaskResult(task, result=self._work(task))
        except BaseException as error:  # noqa: BLE001 - the collector decides what each error means
            return TaskResult(task, error=error)


def _not_read(task: T) -> TaskResult[T, R]:
    return TaskResult(task, error=TimeoutError("the run ended before it was read"))
