"""Every task ends once, whatever its worker does."""

import threading
import time
from collections import Counter

from scanner.core.worker_pool import WorkerPool

# A pool gives a task this many seconds and three of grace: given up a second after it began.
SOON = -2.0


def test_results_and_errors_come_back_once_each() -> None:
    def work(task: int) -> int:
        if task % 10 == 0:
            raise ValueError(task)
        return task * 2

    ends = list(WorkerPool(work, 8, 60).run(range(1000), None, threading.Event()))
    assert Counter(done.task for done in ends) == Counter(range(1000))
    assert {done.task for done in ends if done.error} == set(range(0, 1000, 10))
    assert all(done.result == done.task * 2 for done in ends if done.error is None)


def test_a_hanging_task_is_given_up_and_the_others_go_on() -> None:
    release = threading.Event()

    def work(task: int) -> int:
        if task == 0:
            release.wait(30)
        return task

    ends = {done.task: done for done in WorkerPool(work, 1, SOON).run(range(5), None, threading.Event())}
    release.set()
    assert isinstance(ends[0].error, TimeoutError)
    assert [ends[task].result for task in range(1, 5)] == [1, 2, 3, 4]


def test_a_task_that_ends_while_others_are_given_up_keeps_its_result() -> None:
    """Two tasks are overdue together; one ends after the collector has found both and before it gives that one up."""
    release, begun = [threading.Event() for _ in range(4)], [threading.Event() for _ in range(4)]

    def work(task: int) -> int:
        begun[task].set()
        release[task].wait(30)
        return task

    release[3].set()
    run = WorkerPool(work, 2, SOON).run(range(4), None, threading.Event())
    ends = [next(run)]  # 0 or 1 is given up; a fresh thread takes its place and begins 2
    begun[2].wait(30)
    given_up = ends[0].task
    other = 1 - given_up
    release[other].set()
    begun[3].wait(30)  # the other one's thread has gone on to 3, so that one has ended
    release[2].set()
    ends += run
    release[given_up].set()
    assert Counter(done.task for done in ends) == Counter(range(4))
    assert isinstance(ends[0].error, TimeoutError)
    assert [done.result for done in ends if done.task == other] == [other]


def test_at_the_deadline_what_is_missing_is_timed_out() -> None:
    def work(task: int) -> int:
        time.sleep(0.05)
        return task

    ends = list(WorkerPool(work, 2, 60).run(range(2000), time.monotonic() + 0.3, threading.Event()))
    assert Counter(done.task for done in ends) == Counter(range(2000))
    assert any(done.error is None for done in ends)
    assert any(isinstance(done.error, TimeoutError) for done in ends)


def test_a_stop_ends_the_run_with_every_task_accounted_for() -> None:
    stop, cancelled = threading.Event(), threading.Event()
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 0:
            stop.set()
        else:
            cancelled.wait(5)  # a worker is free again only after the stop
        return task

    ends = []
    for done in WorkerPool(work, 2, 60).run(range(10), None, stop):
        ends.append(done)
        if done.error:
            cancelled.set()
    assert Counter(done.task for done in ends) == Counter(range(10))
    never = {done.task for done in ends if isinstance(done.error, TimeoutError)}
    assert never == set(range(10)).difference(begun)
    assert never >= set(range(3, 10)), "what a worker had not begun at the stop is not begun"


def test_no_task_is_no_work() -> None:
    assert list(WorkerPool(lambda task: task, 4, 60).run([], None, threading.Event())) == []
