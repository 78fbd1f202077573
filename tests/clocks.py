"""Clocks that tests set."""

import threading
from datetime import UTC, datetime, timedelta

from scanner.core.clock import Clock, Waiter

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
# The waits between two looks at a function, and between attempts; a longer wait is for what another thread does.
LONGEST_SEC = 15.0
REAL_SEC = 0.005


class StandingClock(Clock):
    """Stands until it is advanced by some seconds; waits take their time."""

    def __init__(self) -> None:
        self.advanced = 0.0

    def advance(self, seconds: float) -> None:
        self.advanced += seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.advanced)

    def monotonic(self) -> float:
        return 1000.0 + self.advanced

    def uptime(self) -> float:
        return self.monotonic()


class MovedClock(Clock):
    """The system's clocks, so far ahead of them."""

    def __init__(self) -> None:
        self.ahead = self.up = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead

    def uptime(self) -> float:
        return super().uptime() + self.up.total_seconds()


class QuickClock(Clock):
    """The system's clocks, which a short wait puts forward instead of waiting: a simulator is ready at once."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        super().sleep(self._left(seconds))

    def wait(self, waiter: Waiter, seconds: float) -> bool:
        return super().wait(waiter, self._left(seconds))

    def _left(self, seconds: float) -> float:
        """Return how long to wait still, once the clock is put forward."""
        if not REAL_SEC < seconds <= LONGEST_SEC:
            return seconds
        with self._lock:
            self._ahead += seconds - REAL_SEC
        return REAL_SEC
