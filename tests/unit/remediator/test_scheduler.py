"""What waits holds no thread, every generator ends once, and a slow lane keeps nobody else waiting."""

import threading
import time
from collections import Counter
from collections.abc import Generator

import pytest

from remediator.change.batcher import Batches
from remediator.execution.scheduler import STEPS_IN_A_LANE, Finished, Scheduler
from scanner.aws.turns import pause

Steps = Generator[float, None, int]


def collect(scheduler: Scheduler[int, int], count: int) -> list[Finished[int, int]]:
    ends: list[Finished[int, int]] = []
    until = time.monotonic() + 20
    while len(ends) < count and time.monotonic() < until:
        ends += scheduler.finished(0.05)
    return ends


def waiting(number: int, pauses: list[float]) -> Steps:
    yield from pauses
    if number % 7 == 0:
        raise ValueError(number)
    return number * 2


def held(release: threading.Event, *pauses: float) -> Steps:
    yield from pauses
    pause(20, release)
    return 0


def test_a_thousand_wait_on_one_thread_and_each_ends_once() -> None:
    with Scheduler[int, int]() as scheduler:
        before = threading.active_count()
        for number in range(1000):
            scheduler.start(number, number % 10, waiting(number, [0.1, 0.0, 0.1]))
        ends = collect(scheduler, 1000)
        assert threading.active_count() <= before
    assert Counter(end.key for end in ends) == Counter(range(1000))
    for end in ends:
        assert isinstance(end.error, ValueError) if end.key % 7 == 0 else end.result == end.key * 2


def test_a_lane_that_is_slow_leaves_room_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remediator.execution.scheduler.STEPS_UNDER_WAY", STEPS_IN_A_LANE + 1)
    release = threading.Event()
    with Scheduler[int, int]() as scheduler:
        for number in range(20):
            scheduler.start(number, "slow", held(release))
        for number in range(100, 120):
            scheduler.start(number, "quick", waiting(number, []))
        assert {end.key for end in collect(scheduler, 20)} == set(range(100, 120))
        release.set()
        assert len(collect(scheduler, 20)) == 20


def test_what_is_due_first_goes_first() -> None:
    order: list[int] = []

    def noted(number: int, pause: float) -> Steps:
        yield pause
        order.append(number)
        return number

    with Scheduler[int, int]() as scheduler:
        for number, pause in ((1, 0.3), (2, 0.1), (3, 0.2)):
            scheduler.start(number, number, noted(number, pause))
        collect(scheduler, 3)
    assert order == [2, 3, 1]


def drive(steps: Generator[float, None, int]) -> int:
    try:
        while True:
            time.sleep(min(next(steps), 0.02))
    except StopIteration as end:
        return int(end.value)


def test_those_who_ask_together_are_answered_together() -> None:
    batches: list[int] = []

    def work(items: list[int]) -> list[int]:
        batches.append(len(items))
        return [item + 1 for item in items]

    asked = Batches(work)  # type: ignore[arg-type]
    steps = [asked.ask(number) for number in range(10)]
    for one in steps:
        next(one)
    assert [drive(one) for one in steps] == list(range(1, 11))
    assert batches == [10]


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_each_who_asked_meets_the_batchs_error(kind: type[BaseException]) -> None:
    def work(items: list[int]) -> list[int]:
        raise kind(len(items))

    asked = Batches(work)  # type: ignore[arg-type]
    steps = [asked.ask(number) for number in range(3)]
    for one in steps:
        next(one)
    for one in steps:
        with pytest.raises(kind, match="3"):
            drive(one)


def test_a_lane_that_is_held_up_does_not_hold_up_a_batch() -> None:
    """Who asked first may not come to its next step for minutes."""
    release = threading.Event()
    batches: Batches[int, int] = Batches(lambda items: items)
    with Scheduler[int, int]() as scheduler:
        scheduler.start(0, "slow", batches.ask(0))
        for number in range(1, 1 + STEPS_IN_A_LANE):
            scheduler.start(number, "slow", held(release, 0.02))
        for number in range(10, 13):
            scheduler.start(number, number, batches.ask(number))
        assert {end.key for end in collect(scheduler, 3)} >= {10, 11, 12}
        release.set()


def test_left_with_something_due_and_something_under_way_it_does_not_spin() -> None:
    release = threading.Event()
    with Scheduler[int, int]() as scheduler:
        scheduler.start(1, "a", held(release))
        scheduler.start(2, "b", waiting(2, [0.1, 0.1]))
        time.sleep(0.05)
    began = time.process_time()
    time.sleep(1.0)
    spent = time.process_time() - began
    release.set()
    assert spent < 0.5
