"""The time of the simulation: it passes when somebody waits, and a machine's clock may be off.

A run's threads wait at the same time, so a wait ends at its own moment, however many others there are. The thread that
renews the lock waits for time to pass and lets none pass itself: it is woken, and waited for, where its moment has come.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from scanner.core.clock import Clock, Waiter

_FOLLOWERS = ("run-lock",)
_LOOKS_AGAIN = 0.002  # real seconds
_LONGEST_STEP = 1.0  # real seconds that a follower may take for what it does


class Time:
    """The time of AWS, which is the true one. Any thread may let it pass."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._followers: dict[threading.Thread, tuple[float, Callable[[], bool]]] = {}

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._changed:
            return self._seconds

    def sleep(self, seconds: float) -> None:
        self.pass_until(self.monotonic() + seconds)

    def pass_until(self, moment: float) -> None:
        """Let time pass, with a stop at each moment that a follower waits for."""
        with self._changed:
            while self._seconds < moment:
                stops = [at for at, _ in self._followers.values() if at > self._seconds]
                self._seconds = min([moment, *stops])
                self._changed.notify_all()
                self._changed.wait_for(self._nobody_is_late, _LONGEST_STEP)

    def follow(self, waiter: threading.Event, seconds: float, is_away: Callable[[], bool]) -> bool:
        """Wait until so much time has passed or the waiter is set; return whether it is.

        is_away: returns whether the machine is frozen or dead; nobody waits for its threads then.
        """
        me = threading.current_thread()
        with self._changed:
            moment = self._seconds + seconds
            self._followers[me] = moment, is_away
            self._changed.notify_all()
            while self._seconds < moment and not waiter.is_set():
                self._changed.wait(_LOOKS_AGAIN)
            if waiter.is_set():
                del self._followers[me]
        return waiter.is_set()

    def _nobody_is_late(self) -> bool:
        for thread in [one for one in self._followers if not one.is_alive()]:
            del self._followers[thread]
        return all(at > self._seconds or is_away() for at, is_away in self._followers.values())


class MachineClock(Clock):
    """The clock of the machine that a run is on. offset: of its time of day; the machine may be frozen or dead."""

    def __init__(self, time: Time, reach: Callable[[], None], is_away: Callable[[], bool]) -> None:
        """reach: called before time passes for a thread; it blocks on a frozen machine and raises on a dead one."""
        self.offset = timedelta()
        self._time = time
        self._reach = reach
        self._is_away = is_away

    def now(self) -> datetime:
        return self._time.now() + self.offset

    def monotonic(self) -> float:
        return self._time.monotonic()

    def uptime(self) -> float:
        return self._time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._reach()
        self._time.sleep(seconds)

    def wait(self, waiter: Waiter, seconds: float) -> bool:
        if isinstance(waiter, threading.Event) and threading.current_thread().name in _FOLLOWERS:
            return self._time.follow(waiter, seconds, self._is_away)
        if isinstance(waiter, threading.Event) and waiter.is_set():
            return True
        self.sleep(seconds)
        return isinstance(waiter, threading.Event) and waiter.is_set()
