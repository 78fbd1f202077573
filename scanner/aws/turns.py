"""Many calls on one thread: one that waits gives the thread to the others, and the code between waits is as ever.

A thread for each call costs more than the call: Python runs one of them at a time, and a hand-over takes longer than a
signature. What a call waits by is here: `is_ready`, `pause` and `elsewhere`. On a thread that serves Turns they give it
away (greenlet), on any other they block. No lock may be held over one of the three.
"""

import heapq
import itertools
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

R = TypeVar("R")

# How soon a pause ends once its event is set.
_PAUSE_SECONDS = 0.1
# How often is looked who has waited too long for a socket.
_LOOK_SECONDS = 0.5


def is_ready(sock: socket.socket, seconds: float, *, writing: bool = False) -> bool:
    """Wait until a socket can be read, or written; tell whether it can, at last."""
    turns = _turns()
    if turns is not None and seconds > 0:
        return turns.wait(sock, selectors.EVENT_WRITE if writing else selectors.EVENT_READ, seconds)
    poll = select.poll()
    poll.register(sock, select.POLLOUT if writing else select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def pause(seconds: float, stop: threading.Event) -> bool:
    """Wait for some seconds or until the event is set; tell whether it is."""
    turns = _turns()
    if turns is None:
        return stop.wait(seconds)
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        turns.sleep(min(left, _PAUSE_SECONDS))
    return stop.is_set()


def elsewhere(work: Callable[[], R]) -> R:
    """Do what blocks or locks, on a thread of its own where this one is shared; give its result or raise its error."""
    turns = _turns()
    return work() if turns is None else turns.work_elsewhere(work)


class Turns:
    """What one thread serves: `begin`, `serve` and all that it runs are that thread's, `ring` is anybody's."""

    def __init__(self) -> None:
        """Serve nothing yet. `under_way` tells how much has begun and not ended."""
        self.under_way = 0
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[greenlet, float] = {}
        self._look_at = 0.0
        self._timers: list[tuple[float, int, greenlet]] = []
        self._numbers = itertools.count()
        self._done: deque[greenlet] = deque()
        self._bell, self._rope = socket.socketpair()
        self._rung = False
        self._selector.register(self._bell, selectors.EVENT_READ)

    def begin(self, work: Callable[[], None]) -> None:
        """Run work, which raises nothing, until it first waits."""
        self.under_way += 1
        turn = _Turn(lambda: self._run(work))
        turn.turns = self
        turn.switch()

    def serve(self, seconds: float) -> None:
        """Wait at most so long for what can go on, or for `ring`; run all that can until it waits again."""
        due = self._timers[0][0] - time.monotonic() if self._timers else seconds
        for key, _ in self._selector.select(max(0.0, min(seconds, due, _LOOK_SECONDS))):
            if key.data is None:
                self._bell.recv(1)
                self._rung = False
            else:
                key.data.switch(True)
        while self._done:
            self._done.popleft().switch()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].switch()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            for late in [waiting for waiting, until in self._waiting.items() if until <= now]:
                late.switch(False)

    def ring(self) -> None:
        """End a `serve` that waits."""
        if not self._rung:
            self._rung = True
            self._rope.send(b".")

    def wait(self, sock: socket.socket, events: int, seconds: float) -> bool:
        """Give the thread away until the socket is ready; False where it was not in time."""
        me = getcurrent()
        self._selector.register(sock, events, me)
        self._waiting[me] = time.monotonic() + seconds
        try:
            return bool(_give_away())
        finally:
            del self._waiting[me]
            self._selector.unregister(sock)

    def sleep(self, seconds: float) -> None:
        """Give the thread away for so long."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), getcurrent()))
        _give_away()

    def work_elsewhere(self, work: Callable[[], R]) -> R:
        """Give the thread away until another has done the work."""
        me = getcurrent()
        future: Future[R] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
                future.set_exception(error)
            self._done.append(me)
            self.ring()

        # A daemon, for a hung socket must not keep the process alive.
        threading.Thread(target=run, name="auto-defender-elsewhere", daemon=True).start()
        _give_away()
        return future.result()

    def _run(self, work: Callable[[], None]) -> None:
        work()
        self.under_way -= 1


class _Turn(greenlet):
    """What one piece of work runs in."""

    turns: Turns


def _turns() -> Turns | None:
    """Give what serves the work that runs now, None where it has its thread for itself."""
    current = getcurrent()
    return current.turns if isinstance(current, _Turn) else None


def _give_away() -> object:
    serves: Any = getcurrent().parent
    return serves.switch()
