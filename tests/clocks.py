"""Clocks that tests set."""

from datetime import UTC, datetime, timedelta

from scanner.core.clock import Clock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


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
