"""The time that a run goes by: one object, given to all that asks for the time or waits."""

import time
from datetime import UTC, datetime
from typing import Protocol

# Linux: CLOCK_MONOTONIC stops while a machine is suspended, CLOCK_BOOTTIME does not. Elsewhere CLOCK_MONOTONIC goes on.
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Waiter(Protocol):
    """A threading.Event or threading.Condition."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return True once notified, False after `timeout` seconds."""


class Clock:
    """The system's clocks. A simulation gives one of its own, in which a wait takes no time."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds since some moment in the past: nobody sets it, and deadlines are moments of it."""
        return time.monotonic()

    def uptime(self) -> float:
        """Return the seconds since some moment in the past, those of suspension included."""
        return time.clock_gettime(_UPTIME)

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)

    def wait(self, waiter: Waiter, seconds: float) -> bool:
        """Wait so long for an event or a condition, and return whether it was notified."""
        return waiter.wait(seconds)


SYSTEM_CLOCK = Clock()
