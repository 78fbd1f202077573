"""Daemon worker threads and one collector: every task ends in exactly one result, in bounded time."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class TaskResult(Generic[T, R]):
    """How one task ended: a result, or an error; TimeoutError where it was never begun or never came back."""

    task: T
    result: R | None = None
    error: BaseException | None = None


class WorkerPool(Generic[T, R]):
    """Runs tasks on threads that nobody waits for at exit: a hung socket must not keep the process alive."""

    def __init__(self, work: Callable[[T], R], count: int, task_seconds: float) -> None:
        """Take the work, the number of threads, and how long a task may take before it is given up."""
        self._work = work
        self._count = count
        self._task_seconds = task_seconds
        self._waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, TaskResult[T, R]]] = queue.SimpleQueue()
        self._begun: dict[int, float] = {}

    def run(
        self, tasks: Sequence[T], deadline: float | None, stop: threading.Event
    ) -> Iterator[TaskResult[T, R]]:
        """Yield each task's end as it comes.

        At the deadline (time.monotonic()) or once `stop` is set, tasks under way get a few seconds' grace; what is
        then still missing ends in TimeoutError.
        """
        open_tasks = dict(enumerate(tasks))
        for item in open_tasks.items():
            self._waiting.put(item)
        for _ in range(min(self._count, len(tasks))):
            self._start_worker()
        until = math.inf
        while open_tasks and time.monotonic() < until:
            yield from self._come_back(open_tasks)
            yield from self._given_up(open_tasks)
            if until == math.inf and (stop.is_set() or (deadline and time.monotonic() >= deadline)):
                self._begin_no_more()
                until = time.monotonic() + _GRACE_SECONDS
        for task in open_tasks.values():
            yield TaskResult(task, error=TimeoutError("the run ended before it was read"))

    def _come_back(self, open_tasks: dict[int, T]) -> Iterator[TaskResult[T, R]]:
        """Wait a moment for an end, and drop one that was given up before."""
        try:
            index, done = self._done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        if open_tasks.pop(index, None) is not None:
            yield done

    def _begin_no_more(self) -> None:
        try:
            while True:
                self._waiting.get_nowait()
        except queue.Empty:
            return

    def _given_up(self, open_tasks: dict[int, T]) -> Iterator[TaskResult[T, R]]:
        """Give up tasks that take too long, and put a fresh thread in the place of the one that hangs."""
        oldest = time.monotonic() - self._task_seconds - _GRACE_SECONDS
        for index in [i for i, begun in list(self._begun.items()) if begun < oldest]:
            del self._begun[index]
            task = open_tasks.pop(index, None)
            if task is not None:
                self._start_worker()
                yield TaskResult(task, error=TimeoutError(f"no end after {self._task_seconds:.0f} s"))

    def _start_worker(self) -> None:
        threading.Thread(target=self._serve, daemon=True, name="auto-defender-worker").start()

    def _serve(self) -> None:
        while True:
            try:
                index, task = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._begun[index] = time.monotonic()
            done = self._ended(task)
            given_up = self._begun.pop(index, None) is None
            self._done.put((index, done))
            if given_up:
                return

    def _ended(self, task: T) -> TaskResult[T, R]:
        try:
            return TaskResult(task, result=self._work(task))
        except BaseException as error:  # noqa: BLE001 - the collector decides what each error means
            return TaskResult(task, error=error)
