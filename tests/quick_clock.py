"""A clock for tests whose peer is a simulator, which is ready at once."""

import threading

from scanner.core.clock import Clock, Waiter

# The waits between two looks at a function, and between attempts; a longer wait is for what another thread does.
LONGEST_SEC = 15.0
REAL_SEC = 0.005


class QuickClock(Clock):
    """The system's clocks, which a short wait puts forward instead of waiting."""

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
