"""What waits between two steps occupies no thread, every generator ends once, and a slow account-region delays no other."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from botocore.credentials import Credentials

from remediator.change.batcher import Batches, Wait
from remediator.execution.scheduler import STEPS_PER_UNIT, THREADS, Finished, Scheduler
from scanner.aws.credentials import acting_as, current_credentials
from scanner.core.clock import SYSTEM_CLOCK, Clock
from tests.clocks import StandingClock

Steps = Generator[Wait, None, int]
Ends = list[Finished[int, int]]
PATIENCE = 30.0  # seconds until a test that hangs fails


@contextmanager
def scheduling(
    monkeypatch: pytest.MonkeyPatch, threads: int = THREADS, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Scheduler[int, int]]:
    monkeypatch.setattr("remediator.execution.scheduler.THREADS", threads)
    with Scheduler[int, int](clock) as scheduler:
        yield scheduler


def collect(scheduler: Scheduler[int, int], count: int) -> Ends:
    """Wait for so many ends."""
    ends: Ends = []
    for _ in range(int(PATIENCE / 0.05)):
        if len(ends) >= count:
            break
        ends += scheduler.finished(0.05)
    return ends


def waits(number: int, *waits: Wait) -> Steps:
    yield from waits
    if number % 7 == 0:
        raise ValueError(number)
    return number * 2


def held(gate: threading.Event, *waits: Wait) -> Steps:
    """Block a thread until the gate opens."""
    yield from waits
    assert gate.wait(PATIENCE)
    return 0


def test_many_more_wait_than_there_are_threads_and_each_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate: Future[None] = Future()
    with scheduling(monkeypatch, threads=2) as scheduler:
        for number in range(1000):
            scheduler.start(number, number % 10, waits(number, 0.0, gate, 0.0))
        scheduler.start(1001, "another", waits(1001))
        assert [end.key for end in collect(scheduler, 1)] == [1001]
        gate.set_result(None)
        ends = collect(scheduler, 1000)
    assert Counter(end.key for end in ends) == Counter(range(1000))
    for end in ends:
        assert isinstance(end.error, ValueError) if end.key % 7 == 0 else end.result == end.key * 2


def test_an_account_region_runs_few_steps_at_once_and_leaves_the_threads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    with scheduling(monkeypatch, threads=STEPS_PER_UNIT + 1) as scheduler:
        for number in range(20):
            scheduler.start(number, "slow", held(gate))
        for number in range(100, 120):
            scheduler.start(number, "quick", waits(number))
        assert {end.key for end in collect(scheduler, 20)} == set(range(100, 120))
        gate.set()
        assert {end.key for end in collect(scheduler, 20)} == set(range(20))


def test_what_is_due_first_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    gate, began = threading.Event(), threading.Event()

    def noted(number: int, seconds: float) -> Steps:
        yield seconds
        order.append(number)
        return number

    def last() -> Steps:
        began.set()
        assert gate.wait(PATIENCE)
        return 0
        yield

    clock = StandingClock()
    with scheduling(monkeypatch, threads=1, clock=clock) as scheduler:
        for number, seconds in ((1, 0.03), (2, 0.01), (3, 0.02)):
            scheduler.start(number, number, noted(number, seconds))
        scheduler.start(4, 4, last())  # on the only thread: the others have yielded once it runs
        assert began.wait(PATIENCE)
        clock.advance(1.0)
        gate.set()
        collect(scheduler, 4)
    assert order == [2, 3, 1]


def test_a_future_wakes_whoever_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: Future[None] = Future()
    done.set_result(None)
    failed: Future[None] = Future()
    failed.set_exception(ValueError("no"))
    later: Future[None] = Future()
    with scheduling(monkeypatch, threads=1) as scheduler:
        for number, future in ((1, done), (2, failed), (3, later), (4, later)):
            scheduler.start(number, number, waits(number, future))
        assert {end.key for end in collect(scheduler, 2)} == {1, 2}
        later.set_exception(ValueError("no"))
        assert {end.key for end in collect(scheduler, 2)} == {3, 4}


def test_left_it_starts_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, began, gone_on = threading.Event(), threading.Event(), threading.Event()
    awaited: Future[None] = Future()

    def under_way() -> Steps:
        began.set()
        assert gate.wait(PATIENCE)
        yield 0.0
        gone_on.set()
        return 0

    def would_go_on(*waits: Wait) -> Steps:
        yield from waits
        gone_on.set()
        return 0

    before = set(threading.enumerate())
    with scheduling(monkeypatch, threads=1) as scheduler:
        scheduler.start(1, 1, would_go_on(awaited))
        scheduler.start(2, 2, under_way())
        assert began.wait(PATIENCE)
        scheduler.start(3, 3, would_go_on())
    awaited.set_result(None)
    gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not gone_on.is_set()


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    program = """
import threading
from remediator.execution.scheduler import Scheduler
began = threading.Event()
def hangs():
    began.set()
    threading.Event().wait()
    yield 0.0
with Scheduler() as scheduler:
    scheduler.start(1, "unit", hangs())
    assert began.wait(30)
print("left")
"""
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, capture_output=True, timeout=PATIENCE, check=True).stdout == b"left\n"


def test_each_step_signs_as_its_own_account_on_whichever_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)

    def signs(number: int) -> Steps:
        mine = Credentials(f"account-{number}", "x")
        signed = 0
        for _ in range(5):
            with acting_as(mine):
                together.wait(PATIENCE)  # four steps sign at the same time
                signed += current_credentials() is mine
            yield 0.0
        return signed

    with scheduling(monkeypatch, threads=4) as scheduler:
        for number in range(4):
            scheduler.start(number, number, signs(number))
        assert [end.result for end in collect(scheduler, 4)] == [5] * 4


class Works:
    """A batch's work: it adds one, notes how large the batches are, and waits for the gate in the first one."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.sizes: list[int] = []
        self.began = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        self.began.set()
        if self.gate and len(self.sizes) == 1:
            assert self.gate.wait(PATIENCE)
        return [item + 1 for item in items]


def answered(scheduler: Scheduler[int, int], count: int) -> dict[int, int | None]:
    return {end.key: end.result for end in collect(scheduler, count)}


def test_those_who_ask_together_are_answered_together() -> None:
    work = Works()
    asked: Batches[int, int] = Batches(work)
    steps = [asked.ask(number) for number in range(10)]
    for one in steps:
        next(one)
    for number, one in enumerate(steps):
        with pytest.raises(StopIteration) as end:
            next(one)
        assert end.value.value == number + 1
    assert work.sizes == [10]


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_each_who_asked_meets_the_batchs_error(kind: type[BaseException]) -> None:
    def work(items: Sequence[int]) -> list[int]:
        raise kind(len(items))

    asked: Batches[int, int] = Batches(work)
    steps = [asked.ask(number) for number in range(3)]
    for one in steps:
        next(one)
    for one in steps:
        with pytest.raises(kind, match="3"):
            next(one)


def test_an_account_region_that_is_delayed_does_not_delay_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever asked first may not come to its next step for minutes."""
    monkeypatch.setattr("remediator.change.batcher.GATHER_SECONDS", 0.01)
    gate = threading.Event()
    batches: Batches[int, int] = Batches(Works())
    with scheduling(monkeypatch) as scheduler:
        scheduler.start(0, "slow", batches.ask(0))
        for number in range(1, 1 + STEPS_PER_UNIT):
            scheduler.start(number, "slow", held(gate))
        for number in range(10, 13):
            scheduler.start(number, number, batches.ask(number))
        assert set(answered(scheduler, 3)) >= {10, 11, 12}
        gate.set()


def test_a_batch_that_is_late_occupies_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many wait for it as a run has in flight; others go on, and none of those that wait is lost."""
    gate = threading.Event()
    work = Works(gate)
    batches: Batches[int, int] = Batches(work)
    clock = StandingClock()
    with scheduling(monkeypatch, threads=2, clock=clock) as scheduler:
        for number in range(3000):
            scheduler.start(number, number, batches.ask(number))
        scheduler.start(5000, 5000, waits(5000))
        assert answered(scheduler, 1) == {5000: 10000}  # two threads: all but one have asked by now
        clock.advance(1.0)
        assert work.began.wait(PATIENCE)
        scheduler.start(5002, 5002, waits(5002, 0.0, 0.0))
        others = answered(scheduler, 1)
        assert 5002 in others
        gate.set()
        clock.advance(1.0)
        others |= answered(scheduler, 3001 - len(others))
    assert others == {5002: 10004} | {number: number + 1 for number in range(3000)}
    assert work.sizes[0] >= 2999
