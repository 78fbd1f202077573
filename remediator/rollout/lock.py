"""The run lock: one writing run at a time. It expires when its holder dies, and is then taken over.

state/lock.json names the holder and has a number that each taking raises; a released lock keeps it, so that no number
is ever used twice. Every write of the file is conditional on what was read: of several takers one wins, and a holder
that was suspended can't renew what another has taken meanwhile.

A run may be spread over several processes, its steps: the first takes the lock, each renews it while it works, the
last releases it. Between two steps nobody renews it, so they must follow each other before it expires.
"""

import json
import logging
import os
import re
import secrets
import socket
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from remediator.journal.upgrade import FORMER_LOCK
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import AutoDefenderError, BadInput, GuardStop
from storage.protocol import Store

log = logging.getLogger(__name__)

LOCK = "state/lock.json"
# Where releases before 0.2 keep theirs: one file a number. A run of theirs may be under way during an upgrade.
_FORMER = "state/lock/"
_FORMER_NAME = re.compile(_FORMER + r"[0-9]{8}\.json")
# Long enough for a store that answers slowly, short enough that the next hourly run takes over.
EXPIRES = timedelta(minutes=5)
# Which part of its run a process is: all of it, or the first step of several, one between, or the last.
Step = Literal["whole", "first", "middle", "last"]


@dataclass(frozen=True)
class _Holder:
    """The content of the lock file. nonce: makes each writing of it unique."""

    run_id: str
    host: str
    pid: int
    until: AwareDatetime
    number: int = 0
    released: bool = False
    nonce: str = ""


@dataclass(frozen=True)
class _Found:
    """A lock file as read; tag "": there is none yet under today's name."""

    holder: _Holder
    tag: str


class RunLock:
    """A context manager; a daemon thread renews it. Entering raises GuardStop where another run holds it."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        *,
        expires: timedelta = EXPIRES,
        step: Step = "whole",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Initialize. expires: after how long without a renewal another run may take the lock over.

        step: a step of a run resumes the lock that the run holds already; where the run no longer holds it, check()
        raises.
        """
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self._step = step
        self._expires = expires
        self._number = 0
        self._tag = ""
        self._until = self._clock.now()
        self._renewed = self._clock.uptime()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="run-lock", daemon=True)

    def __enter__(self) -> Self:
        """Acquire the lock, from a dead holder if need be, or resume it as a further step of its run."""
        found = self._read()
        if self._step != "whole" and found and self._is_ours(found):
            self._number, self._tag = found.holder.number, found.tag
            if not self._renew():
                self._number = 0
        elif self._step in {"whole", "first"}:
            self._take(found)
        self._thread.start()
        return self

    def _take(self, found: _Found | None) -> None:
        if found:
            _refuse_while_held(found.holder, self._clock.now())
        self._number = (found.holder.number if found else 0) + 1
        self._tag = found.tag if found else ""
        if not self._write():
            raise GuardStop(
                "lock", "another run took the lock just now", "Wait until it has ended, then run again"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the next run need not wait. A step that ended well leaves it to the next one."""
        self._released.set()
        self._thread.join()
        if self._step == "middle" or (self._step == "first" and error is None) or not self._number:
            return
        try:
            self._renew(released=True)
        except AutoDefenderError as failure:  # the run has ended and is reported; its lock expires by itself
            log.warning("failed to release the run lock, it expires by itself: %s", failure)

    def held_by(self) -> tuple[str, datetime] | None:
        """Return the run that holds the lock, and until when without a renewal; None where it is free."""
        found = self._read()
        return (found.holder.run_id, found.holder.until) if found and not found.holder.released else None

    def check(self) -> None:
        """Raise GuardStop where the lock was lost, or may have been because it could not be renewed in time."""
        if not self._number:
            raise GuardStop("lock", "the run has lost the lock between two of its steps", "Run again")
        if self._expired():
            raise GuardStop("lock", "the lock could not be renewed and has expired", "Run again")
        try:
            found = self._read()
        except AutoDefenderError as error:
            raise GuardStop(
                "lock", f"it could not be read ({error})", "Restore access to it, then run again"
            ) from error
        if not found or not self._is_ours(found):
            raise GuardStop(
                "lock", "another run has taken the lock over", "Wait until it has ended, then run again"
            )

    def _expired(self) -> bool:
        # By both clocks: a suspended virtual machine may stop the one, and a correction of the time moves the other.
        return (
            self._clock.uptime() - self._renewed > self._expires.total_seconds()
            or self._clock.now() >= self._until
        )

    def _keep(self) -> None:
        while not self._clock.wait(self._released, self._expires.total_seconds() / 5):
            try:
                if self._expired() or not self._renew():
                    return  # another run may hold it by now; check() reports that
            except AutoDefenderError as error:
                log.warning("the run lock could not be renewed: %s", error)

    def _renew(self, *, released: bool = False) -> bool:
        """Renew or release the lock; return False where another run has taken it.

        Steps of one run renew it beside each other, and an answer may have been lost: what is there now decides.
        """
        while not self._write(released=released):
            found = self._read()
            if not found or not self._is_ours(found):
                return False
            self._tag = found.tag
        return True

    def _write(self, *, released: bool = False) -> bool:
        """Write the file if it is the one last read or written, and return whether it was."""
        started, until = self._clock.uptime(), self._clock.now() + self._expires
        holder = _Holder(
            self._run_id,
            socket.gethostname(),
            os.getpid(),
            until,
            self._number,
            released,
            secrets.token_hex(8),
        )
        body = (
            json.dumps({**asdict(holder), "until": until.isoformat(timespec="milliseconds")}).encode() + b"\n"
        )
        tag = self._store.replace(LOCK, body, self._tag) if self._tag else self._store.create(LOCK, body)
        if tag is None:
            return False
        self._tag, self._renewed, self._until = tag, started, until
        return True

    def _is_ours(self, found: _Found) -> bool:
        holder = found.holder
        ours = holder.run_id == self._run_id and self._number in (0, holder.number)
        return ours and not holder.released and bool(found.tag)

    def _read(self) -> _Found | None:
        found = self._store.read_tagged(LOCK)
        return _Found(_parsed(found.body, self._store.url(LOCK)), found.tag) if found else self._former()

    def _former(self) -> _Found | None:
        """Return the newest lock that an earlier release has left, None where there is none."""
        found = self._store.list(_FORMER)
        paths = [path for path in found if _FORMER_NAME.fullmatch(path) and path != FORMER_LOCK]
        body = self._store.read(paths[-1]) if paths else None
        if body is None:
            return None
        number = paths[-1].removeprefix(_FORMER).removesuffix(".json")
        return _Found(replace(_parsed(body, self._store.url(paths[-1])), number=int(number)), "")


def _parsed(body: bytes, source: str) -> _Holder:
    try:
        return TypeAdapter(_Holder).validate_json(body)
    except ValidationError:
        raise BadInput(
            f"{source}: not a lock file; restore an older version of it, or delete it while no run is under way"
        ) from None


def _refuse_while_held(holder: _Holder, now: datetime) -> None:
    if holder.released:
        return
    if now < holder.until:
        raise GuardStop(
            "lock",
            f"run {holder.run_id} on {holder.host} (process {holder.pid}) is under way",
            f"Wait until it has ended; if it died, its lock is free at {holder.until.astimezone(UTC):%H:%M:%S} UTC",
        )
    log.warning("taking the lock over from run %s, which has ended without releasing it", holder.run_id)
