"""Every task ends once, whatever its worker does."""

import threading
import time
from collections import Counter

from scanner.core.worker_pool import WorkerPool


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

    ends = {done.task: done for done in WorkerPool(work, 1, -2.5).run(range(5), None, threading.Event())}
    release.set()
    assert isinstance(ends[0].error, TimeoutError)
    assert [ends[task].result for task in range(1, 5)] == [1, 2, 3, 4]


def test_at_the_deadline_what_is_missing_is_timed_out() -> None:
    def work(task: int) -> int:
        time.sleep(0.05)
        return task

    ends = list(WorkerPool(work, 2, 60).run(range(2000), time.monotonic() + 0.3, threading.Event()))
    assert Counter(done.task for done in ends) == Counter(range(2000))
    assert any(done.error is None for done in ends)
    assert any(isinstance(done.error, TimeoutError) for done in ends)


def test_a_stop_ends_the_run_with_every_task_accounted_for() -> None:
    stop = threading.Event()
    ends = []
    for done in WorkerPool(lambda task: time.sleep(0.01) or task, 2, 60).run(range(2000), None, stop):
        ends.append(done)
        stop.set()
    assert Counter(done.task for done in ends) == Counter(range(2000))


def test_no_task_is_no_work() -> None:
    assert list(WorkerPool(lambda task: task, 4, 60).run([], None, threading.Event())) == []
