"""Waits for the run lock, as long as another run has it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from remediator.rollout.lock import RunLock
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import GuardStop
from storage.protocol import Store

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# Who waits for an hour reads some 120 lines, and sees within half a minute that the holder renews its lock.
_LINE_EVERY_SECONDS = 30.0


@contextmanager
def awaited_lock(
    store: Store,
    run_id: str,
    *,
    stop: threading.Event,
    deadline: float | None,
    poll_seconds: float,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[RunLock]:
    """Take the lock once it is free.

    Raises GuardStop where `stop` is set, or the deadline (a Clock.monotonic() moment) comes, before that.
    """
    with ExitStack() as stack:
        shown = float("-inf")
        while (taken := _try(stack, RunLock(store, run_id, clock=clock))) is None:
            if clock.monotonic() - shown >= _LINE_EVERY_SECONDS:
                shown = clock.monotonic()
                log.info("waiting until the lock is free: %s", _holder(store, run_id))
            if clock.wait(stop, poll_seconds) or (deadline is not None and clock.monotonic() >= deadline):
                raise GuardStop(
                    "lock",
                    f"it was not free before the wait ended; {_holder(store, run_id)}",
                    "Nothing was rolled back: run the same command again",
                )
        yield taken


def _try(stack: ExitStack, lock: RunLock) -> RunLock | None:
    try:
        return stack.enter_context(lock)
    except GuardStop:
        return None


def _holder(store: Store, run_id: str) -> str:
    held = RunLock(store, run_id).held_by()
    if held is None:
        return "it is free by now"
    return f"run {held[0]} has it until {held[1]:%H:%M:%S} UTC, and renews it while it works"
