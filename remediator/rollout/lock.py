"""The run lock: one writing run at a time. It expires when its holder dies, and is then taken over.

Each holder creates the next file of state/lock/; creating is exclusive, so of several takers one wins. A holder
rewrites only its own file, to renew it, and has lost the lock when a higher one is there.

A run may be spread over several processes, its steps: the first takes the lock, each renews it while it works, the
last releases it. Between two steps nobody renews it, so they must follow each other before it expires.
"""

import json
import logging
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self

from scanner.core.errors import AutoDefenderError, BadInput, GuardStop
from storage.protocol import Store

log = logging.getLogger(__name__)

_FOLDER = "state/lock/"
# Long enough for a store that answers slowly, short enough that the next hourly run takes over.
EXPIRES = timedelta(minutes=5)
# Which part of its run a process is: all of it, or the first step of several, one between, or the last.
Step = Literal["whole", "first", "middle", "last"]


class RunLock:
    """A context manager; a daemon thread renews it. Entering raises GuardStop where another run holds it."""

    def __init__(
        self, store: Store, run_id: str, *, expires: timedelta = EXPIRES, step: Step = "whole"
    ) -> None:
        """Initialize. expires: after how long without a renewal another run may take the lock over.

        step: a step of a run resumes the lock that the run holds already; where the run no longer holds it, check()
        raises.
        """
        self._store = store
        self._step = step
        self._expires = expires
        self._holder = {"run_id": run_id, "host": socket.gethostname(), "pid": os.getpid()}
        self._number = 0
        self._renewed = 0.0
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="run-lock", daemon=True)

    def __enter__(self) -> Self:
        """Acquire the lock, from a dead holder if need be, or resume it as a further step of its run."""
        last = self._last()
        if self._step != "whole" and self._is_ours(last):
            self._number = last
            self._renew()
        elif self._step in {"whole", "first"}:
            self._take(last)
        self._thread.start()
        return self

    def _take(self, last: int) -> None:
        if last:
            self._refuse_while_held(last)
        self._number = last + 1
        taken = self._store.create_exclusive(self._path(self._number), self._body())
        if not taken or self._last() != self._number:
            if taken:
                self._store.delete(self._path(self._number))
            raise GuardStop(
                "lock", "another run took the lock just now", "Wait until it has ended, then run again"
            )
        self._renewed = time.monotonic()
        for path in self._files():
            if _number(path) < self._number:
                self._store.delete(path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the next run need not wait. A step that ended well leaves it to the next one."""
        self._released.set()
        self._thread.join()
        continues = self._step == "middle" or (self._step == "first" and error is None)
        try:
            if not continues and self._number and self._last() == self._number:
                self._store.delete(self._path(self._number))
        except AutoDefenderError as failure:  # the run has ended and is reported; its lock expires by itself
            log.warning("failed to release the run lock, it expires by itself: %s", failure)

    def held_by(self) -> tuple[str, datetime] | None:
        """Return the run that holds the lock, and until when without a renewal; None where it is free."""
        last = self._last()
        found = self._holder_of(last) if last else None
        return (str(found[0].get("run_id")), found[1]) if found else None

    def check(self) -> None:
        """Raise GuardStop where the lock was lost, or may have been because it could not be renewed in time."""
        if not self._number:
            raise GuardStop("lock", "the run has lost the lock between two of its steps", "Run again")
        if self._expired():
            raise GuardStop("lock", "the lock could not be renewed and has expired", "Run again")
        try:
            last = self._last()
        except AutoDefenderError as error:
            raise GuardStop(
                "lock", f"it could not be read ({error})", "Restore access to it, then run again"
            ) from error
        if last != self._number:
            raise GuardStop(
                "lock", "another run has taken the lock over", "Wait until it has ended, then run again"
            )

    def _expired(self) -> bool:
        return time.monotonic() - self._renewed > self._expires.total_seconds()

    def _keep(self) -> None:
        while not self._released.wait(self._expires.total_seconds() / 5):
            try:
                if self._expired() or self._last() != self._number:
                    return  # another run holds it by now; check() reports that
                self._renew()
            except AutoDefenderError as error:
                log.warning("the run lock could not be renewed: %s", error)

    def _renew(self) -> None:
        started = time.monotonic()
        self._store.write(self._path(self._number), self._body(), "application/json")
        self._renewed = started

    def _is_ours(self, number: int) -> bool:
        found = self._holder_of(number) if number else None
        return found is not None and found[0].get("run_id") == self._holder["run_id"]

    def _holder_of(self, number: int) -> tuple[dict[str, Any], datetime] | None:
        """Read who holds a lock, and until when; None where it was released since it was listed."""
        text = self._store.read(self._path(number))
        if text is None:
            return None
        try:
            holder = json.loads(text)
            return holder, datetime.fromisoformat(holder["until"]).astimezone(UTC)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise BadInput(f"{self._store.url(self._path(number))}: not a lock file; delete it") from None

    def _refuse_while_held(self, number: int) -> None:
        found = self._holder_of(number)
        if found is None:
            return
        holder, until = found
        if datetime.now(UTC) < until:
            raise GuardStop(
                "lock",
                f"run {holder.get('run_id')} on {holder.get('host')} (process {holder.get('pid')}) is under way",
                f"Wait until it has ended; if it died, its lock is free at {until:%H:%M:%S} UTC",
            )
        log.warning(
            "taking the lock over from run %s, which has ended without releasing it", holder.get("run_id")
        )

    def _last(self) -> int:
        return max(map(_number, self._files()), default=0)

    def _files(self) -> list[str]:
        return [
            path
            for path in self._store.list(_FOLDER)
            if re.fullmatch(r"\d{8}\.json", path.removeprefix(_FOLDER))
        ]

    def _path(self, number: int) -> str:
        return f"{_FOLDER}{number:08}.json"

    def _body(self) -> bytes:
        until = (datetime.now(UTC) + self._expires).isoformat(timespec="milliseconds")
        return json.dumps({**self._holder, "until": until}).encode() + b"\n"


def _number(path: str) -> int:
    return int(path.removeprefix(_FOLDER).removesuffix(".json"))
