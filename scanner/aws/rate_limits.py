"""Token buckets: we stay below AWS's request rates, which the accounts' owners share."""

import threading
from collections import defaultdict
from collections.abc import Mapping

from scanner.core.clock import Clock

# STS quotas: 600 requests a second in an account and region; half of it is left to others.
STS_CALLS_PER_SECOND = 300.0


class TokenBucket:
    """Lets `rate` calls a second through, and up to one second's worth at once."""

    __slots__ = ("_clock", "_lock", "_next", "_rate")

    def __init__(self, rate: float, clock: Clock) -> None:
        """Start full."""
        self._rate = rate
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take a token and say how many seconds to wait before it may be used."""
        now = self._clock.monotonic()
        with self._lock:
            # `_next` is when the bucket would be full again; a full bucket has one second's worth.
            start = max(self._next, now - 1.0)
            self._next = start + 1.0 / self._rate
            return max(0.0, self._next - now)


class Buckets:
    """One bucket per (account, region, service), made when first used."""

    def __init__(self, calls_per_second: float, clock: Clock) -> None:
        """Take the rate of every service but STS."""
        self._rate = calls_per_second
        self._clock = clock
        self._buckets: dict[tuple[str, str, str], TokenBucket] = {}
        self._lock = threading.Lock()

    def reserve(self, account_id: str, region: str, service: str) -> float:
        """Take a token of the bucket and say how many seconds to wait."""
        key = (account_id, region, service)
        bucket = self._buckets.get(key)
        if bucket is None:
            rate = STS_CALLS_PER_SECOND if service == "sts" else self._rate
            with self._lock:
                bucket = self._buckets.setdefault(key, TokenBucket(rate, self._clock))
        return bucket.reserve()


class CallCounts:
    """How many calls, retries and throttles each operation saw."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts: defaultdict[str, dict[str, int]] = defaultdict(
            lambda: {"calls": 0, "retries": 0, "throttles": 0}
        )
        self._lock = threading.Lock()

    def add(self, operation: str, what: str) -> None:
        """Count one call, retry or throttle."""
        with self._lock:
            self._counts[operation][what] += 1

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts by operation, for summary.json."""
        with self._lock:
            return {operation: dict(counts) for operation, counts in sorted(self._counts.items())}

    def include(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add what another process of the same run has counted."""
        with self._lock:
            for operation, numbers in counts.items():
                for what, number in numbers.items():
                    self._counts[operation][what] += number
