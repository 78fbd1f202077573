"""One thread reads the guards for all that ask, and what stops a run stops it for good."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remediator.rollout.guards import BREAKER_FROM, FRESH_SECONDS, Guards
from scanner.core.errors import GuardStop
from tests.clocks import StandingClock

ASKING = 32
PATIENCE = 30.0  # seconds until a test that hangs fails


class Switch:
    """Counts its readings; the first waits until it may go on."""

    def __init__(self) -> None:
        self.on = False
        self.readings = 0
        self.goes_on = threading.Event()

    def __call__(self) -> None:
        self.readings += 1
        assert self.goes_on.wait(PATIENCE)
        if self.on:
            raise GuardStop("kill_switch", "it is on", "Delete it to go on")


def ask(guards: Guards) -> bool:
    """Return whether an update may be sent."""
    try:
        guards.check()
    except GuardStop:
        return False
    return True


@pytest.mark.parametrize("on", [False, True])
def test_many_that_ask_at_once_share_one_reading(on: bool) -> None:
    switch, together = Switch(), threading.Barrier(ASKING + 1)
    switch.on = on
    guards = Guards([switch], clock=StandingClock())

    def ask_together() -> bool:
        together.wait(PATIENCE)
        return ask(guards)

    with ThreadPoolExecutor(ASKING) as pool:
        answers = [pool.submit(ask_together) for _ in range(ASKING)]
        together.wait(PATIENCE)
        switch.goes_on.set()
        assert {answer.result() for answer in answers} == {not on}
    assert switch.readings == 1


def test_a_reading_is_used_for_a_quarter_of_a_second() -> None:
    switch, clock = Switch(), StandingClock()
    switch.goes_on.set()
    guards = Guards([switch], clock=clock)
    assert ask(guards)
    switch.on = True
    clock.advance(FRESH_SECONDS * 0.99)
    assert ask(guards)
    clock.advance(FRESH_SECONDS * 0.02)
    assert not ask(guards)
    switch.on = False
    clock.advance(1)
    assert not ask(guards)
    assert switch.readings == 2


def test_a_reading_counts_from_its_beginning() -> None:
    clock, readings = StandingClock(), list[float]()

    def read_on_a_machine_that_is_suspended() -> None:
        readings.append(clock.monotonic())
        clock.advance(400)

    guards = Guards([read_on_a_machine_that_is_suspended], clock=clock)
    guards.check()
    guards.check()
    assert len(readings) == 2


def test_the_breaker_is_asked_each_time() -> None:
    guards = Guards([], stop_after_failure_pct=10)
    assert ask(guards)
    guards.count(tried=BREAKER_FROM, failed=BREAKER_FROM)
    assert not ask(guards)
