"""What waits gives the thread away and gets it back: for a socket, for a while, for work that blocks."""

import socket
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from scanner.aws.turns import Turns, elsewhere, is_ready, pause

NEVER = threading.Event()


def serve(turns: Turns, seconds: float = 10) -> None:
    """Serve until all that began has ended."""
    until = time.monotonic() + seconds
    while turns.under_way and time.monotonic() < until:
        turns.serve(0.1)
    assert turns.under_way == 0


def began(*works: Callable[[], None]) -> Turns:
    turns = Turns()
    for work in works:
        turns.begin(work)
    return turns


def test_many_pauses_take_as_long_as_one() -> None:
    ended: list[int] = []

    def paused(number: int) -> None:
        assert not pause(0.3, NEVER)
        ended.append(number)

    start = time.monotonic()
    serve(began(*(lambda number=number: paused(number) for number in range(100))))
    assert sorted(ended) == list(range(100))
    assert time.monotonic() - start < 5, "one after the other they would take half a minute"


def test_a_pause_ends_when_its_event_is_set() -> None:
    stop = threading.Event()
    told: list[bool] = []
    turns = began(lambda: told.append(pause(60, stop)))
    stop.set()
    serve(turns)
    assert told == [True]


def test_a_socket_is_waited_for_while_others_go_on() -> None:
    here, there = socket.socketpair()
    order: list[str] = []

    def reads() -> None:
        assert is_ready(here, 10)
        order.append(here.recv(10).decode())

    def writes() -> None:
        pause(0.05, NEVER)
        order.append("written")
        there.send(b"read")

    serve(began(reads, writes))
    assert order == ["written", "read"]
    assert is_ready(here, 1, writing=True), "and on a thread of one's own it blocks"
    assert not is_ready(here, 0.01)


def test_a_socket_that_stays_silent_is_given_up() -> None:
    here, _there = socket.socketpair()
    told: list[bool] = []
    serve(began(lambda: told.append(is_ready(here, 0.2))))
    assert told == [False]


def test_what_blocks_is_done_elsewhere_and_its_error_comes_back() -> None:
    gate = threading.Event()
    told: list[object] = []

    def waits() -> None:
        told.append(elsewhere(lambda: (gate.wait(10), threading.get_ident())))

    def opens() -> None:
        gate.set()
        with pytest.raises(ValueError, match="no"):
            elsewhere(lambda: int("no"))
        told.append("told")

    serve(began(waits, opens))
    assert "told" in told
    assert (True, threading.get_ident()) not in told
    assert len(told) == 2
    assert elsewhere(threading.get_ident) == threading.get_ident(), "a thread of one's own does it itself"


def test_each_keeps_its_own_context_over_a_wait() -> None:
    """Whose credentials sign is a ContextVar."""
    acting: ContextVar[int] = ContextVar("acting")
    kept: list[bool] = []

    def acts(number: int) -> None:
        token = acting.set(number)
        pause(0.01 * (number % 3), NEVER)
        kept.append(acting.get() == number)
        acting.reset(token)

    serve(began(*(lambda number=number: acts(number) for number in range(30))))
    assert kept == [True] * 30


def test_a_ring_ends_the_wait_and_many_are_one() -> None:
    turns = Turns()
    for _ in range(10_000):
        turns.ring()
    start = time.monotonic()
    turns.serve(30)
    assert time.monotonic() - start < 10
    rung: list[float] = []
    threading.Timer(0.1, turns.ring).start()
    turns.serve(30)
    rung.append(time.monotonic() - start)
    assert rung[0] < 10
