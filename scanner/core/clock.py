"""A clock that no one sets and that suspension does not stop."""

import time

# Linux: CLOCK_MONOTONIC stops while a machine is suspended, CLOCK_BOOTTIME does not. Elsewhere CLOCK_MONOTONIC goes on.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the seconds since some moment in the past, those of suspension included."""
    return time.clock_gettime(_CLOCK)
