"""Ctrl-C, SIGTERM and SIGHUP."""

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

# SIGHUP: the terminal or the SSH connection is gone.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Limit in seconds: a person who pressed Ctrl-C presses it again soon after.
LOST_AFTER_SEC = 3.0


class Interrupted(BaseException):
    """A signal ended a command that had nothing to settle. Not an Exception: no handler of errors may stop it."""

    def __init__(self, number: int) -> None:
        """Take the signal's number."""
        super().__init__("interrupted")
        self.exit_code = 128 + number  # as shells report it


class StopSignals:
    """A context manager that handles the signals in the main thread.

    The first signal ends the command at once, by Interrupted, or without it where that is lost: Python drops what is raised
    within a finalizer, and a library may wait for threads of its own. After `settle()` the signal sets `stop` instead, so
    that the job ends in good order; a second one of the same kind then ends the process. Of SIGHUP there is no second one: both the
    shell and the kernel send it when a terminal goes away.
    """

    def __init__(self, lost_after_sec: float = LOST_AFTER_SEC) -> None:
        """Take over nothing yet. lost_after_sec: how long a command that has nothing to settle may take to end."""
        self._lost_after_sec = lost_after_sec
        self.stop = threading.Event()
        self._received: int | None = None
        self._settles = False
        self._former: dict[signal.Signals, Any] = {}
        self._left = threading.Event()
        self._to_do: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="stop-signals", daemon=True)

    def __enter__(self) -> Self:
        """Take the signals over; one that is ignored already stays so, as under nohup, or in a script's background job."""
        self._thread.start()
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the former handlers."""
        for number, former in self._former.items():
            signal.signal(number, former)
        self._left.set()
        self._to_do.put(None)
        self._thread.join()

    def settle(self) -> None:
        """From now on let the job end in good order: it may have changes under way, or a report to write."""
        self._settles = True

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of a job that a signal left without a result; None where there was no signal."""
        return 128 + self._received if self._received else None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Set nothing that has a lock, and log nothing: the thread that was interrupted may hold that lock."""
        self._received = self._received or number
        if not self._settles:
            for other in self._former:
                signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else signal.SIG_DFL)
            self._to_do.put(self._end)
            raise Interrupted(number)
        signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        self._to_do.put(self._set_stop)  # the one operation that the queue module allows here

    def _work(self) -> None:
        while (action := self._to_do.get()) is not None:
            action()

    def _set_stop(self) -> None:
        self.stop.set()
        log.warning(
            "stopping: units and changes not reached are reported as such; a second signal ends at once"
        )

    def _end(self) -> None:
        if not self._left.wait(self._lost_after_sec):
            os.write(2, b"auto-defender: interrupted\n")
            os._exit(self.exit_code or 1)
