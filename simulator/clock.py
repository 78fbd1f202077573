"""The time that a simulation runs in: the system's, or one that its owner moves."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the simulator asks about time; the product's own clock fits."""

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an unspecified start; they never go back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return time.monotonic()."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for real."""
        time.sleep(seconds)


class ManualClock:
    """Time that passes when somebody sleeps, and not otherwise."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._seconds = 0.0
        self._offset = timedelta()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time of day, aware and in UTC."""
        with self._lock:
            return self._start + timedelta(seconds=self._seconds) + self._offset

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        with self._lock:
            return self._seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        with self._lock:
            self._seconds += max(0.0, seconds)

    def jump(self, by: timedelta) -> None:
        """Set the time of day forward or back, as NTP does; monotonic() does not notice."""
        with self._lock:
            self._offset += by
