"""Starts changes and collects their results: the one thread that decides that no more may begin."""

import logging
import threading
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from remediator.change.records import ChangeResult, ChangeRow, Item, OutcomeRecord
from remediator.change.settlement import Steps
from remediator.execution.results import log_end
from remediator.execution.scheduler import Finished, Scheduler
from remediator.journal.journal import Journal
from remediator.rollout.guards import BREAKER_FROM, Guards, internal_error
from scanner.core.clock import Clock
from scanner.core.errors import AutoDefenderError, GuardStop, InternalError
from scanner.core.heap import frozen_heap

log = logging.getLogger(__name__)

AccountRegion = tuple[str, str]
Progress = Callable[[int, int], None]  # done, total
# At 15 calls a second an account-region begins 7 changes a second (a read and an update each), and each is in flight
# for some four seconds.
IN_FLIGHT_PER_UNIT = 32
# What is in flight when the time is nearly up needs so long to settle.
SETTLE_SECONDS = 60.0
# The journal is written once for all that end within a tick: a write is a disk's flush, or a request to S3.
_TICK_SECONDS = 0.03


class Executor:
    """Runs changes to their ends, as many at once as the answers so far allow. For one use."""

    def __init__(
        self,
        journals: Mapping[str, Journal],
        guards: Guards,
        stopping: threading.Event,
        clock: Clock,
        *,
        stop: threading.Event | None = None,
        deadline: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Initialize.

        journals: by run id, where outcomes are written. stopping: set here once nothing more may be sent; stop: set from
        outside (SIGTERM). deadline: the Clock.monotonic() moment by which `run` returns.
        """
        self._journals = journals
        self._guards = guards
        self._stopping = stopping
        self._clock = clock
        self._stop = stop or threading.Event()
        self._deadline = deadline
        self._start_until = _start_until(deadline, clock)
        self._progress = progress
        self._items: Sequence[Item] = ()
        self._waiting: dict[AccountRegion, deque[int]] = defaultdict(deque)
        self._ready: deque[AccountRegion] = deque()
        self._in_flight: Counter[AccountRegion] = Counter()
        self._started = 0
        self._untried = 0
        self._rows: dict[int, ChangeRow] = {}
        self._why = ""
        self.stopped_by: GuardStop | None = None

    def run(self, items: Sequence[Item], begin: Callable[[int], Steps]) -> list[ChangeRow]:
        """Run all items, and return a row for each, in their order. begin(number) returns an item's generator.

        After an InternalError (WrongAccount) nothing more begins, and stopped_by is the guard `internal_error`.
        """
        self._items = items
        for number, item in enumerate(items):
            self._waiting[_unit(item)].append(number)
        self._ready.extend(self._waiting)
        with frozen_heap(), Scheduler[int, ChangeResult](self._clock, len(items)) as scheduler:
            while self._goes_on():
                while self._ready and self._may_begin():
                    number = self._next()
                    scheduler.start(number, _unit(items[number]), begin(number))
                self._take(scheduler.finished(_TICK_SECONDS))
        for number in range(len(items)):
            if number not in self._rows:
                self._end(number, self._not_ended(number))
        return [self._rows[number] for number in range(len(items))]

    @property
    def cut_short(self) -> bool:
        """Return whether items were deferred because the run was told to stop or its time was up, by no guard."""
        deferred = any(row.result.outcome == "deferred" for row in self._rows.values())
        return self._stopping.is_set() and self.stopped_by is None and deferred

    def _goes_on(self) -> bool:
        """Check whether to stop, and return whether anything is left to begin or to wait for."""
        now = self._clock.monotonic()
        if self._stop.is_set():
            self._halt("the run was told to stop")
        if self._start_until is not None and now >= self._start_until:
            self._halt("the run's time was up")
        if self._deadline is not None and now >= self._deadline:
            return False
        in_flight = self._started - len(self._rows)
        return in_flight > 0 or (not self._stopping.is_set() and self._started < len(self._items))

    def _may_begin(self) -> bool:
        """Ask the guards. No more changes are unanswered than were answered, so that a refusal of all shows after a few."""
        # A change may end without any answer; counted as unanswered for good, enough of them would end all starting.
        answered = max(self._guards.tried + self._untried, len(self._rows))
        if self._stopping.is_set() or self._started - answered >= max(BREAKER_FROM, answered):
            return False
        try:
            self._guards.check()
        except GuardStop as stop:
            self._stop_by(stop)
            return False
        return True

    def _next(self) -> int:
        """Return the next number, round robin over the account-regions that may begin one."""
        unit = self._ready.popleft()
        number = self._waiting[unit].popleft()
        self._started += 1
        self._in_flight[unit] += 1
        if self._waiting[unit] and self._in_flight[unit] < IN_FLIGHT_PER_UNIT:
            self._ready.append(unit)
        return number

    def _take(self, finished: Sequence[Finished[int, ChangeResult]]) -> None:
        """Collect what has ended: count it, and write its outcomes to the journal in one append."""
        ends = {f.key: f.result if f.result is not None else self._of_error(f) for f in finished}
        for number, result in ends.items():
            unit = _unit(self._items[number])
            if self._waiting[unit] and self._in_flight[unit] == IN_FLIGHT_PER_UNIT:
                self._ready.append(unit)
            self._in_flight[unit] -= 1
            if result.stopped_by:
                self._stop_by(result.stopped_by)
            failed = result.outcome == "failed"
            self._guards.count(tried=failed and not result.accepted, failed=failed)
            self._untried += not failed and not result.accepted
        self._write(list(ends.values()))
        for number, result in ends.items():
            self._end(number, result)

    def _end(self, number: int, result: ChangeResult) -> None:
        self._rows[number] = row = ChangeRow(self._items[number], result)
        log_end(row)
        if self._progress:
            self._progress(len(self._rows), len(self._items))

    def _write(self, ends: Sequence[ChangeResult]) -> None:
        lines: dict[str, list[OutcomeRecord]] = defaultdict(list)
        for end in ends:
            if end.intent is not None and not end.unsettled:
                settled = OutcomeRecord(
                    end.intent.id, end.outcome, end.detail, end.attempts, end.left, end.clean_revision
                )
                lines[end.intent.run_id].append(settled)
        try:
            for run_id, settled_ones in lines.items():
                self._journals[run_id].record_outcomes(settled_ones)
        except AutoDefenderError as error:
            self._stop_by(_journal_stop(error))

    def _of_error(self, finished: Finished[int, ChangeResult]) -> ChangeResult:
        """Return the result of a change that raised; its journal entry, if any, stays open."""
        error = finished.error
        if isinstance(error, InternalError):
            self._stop_by(internal_error(error))
            return ChangeResult("failed", str(error))
        if isinstance(error, AutoDefenderError):
            self._stop_by(_journal_stop(error))
            return ChangeResult("deferred", f"its journal entry could not be written: {error}")
        # Neither the message nor the traceback's values: they may hold variables.
        place = traceback.extract_tb(error.__traceback__)[-1] if error else None
        where = (
            f"{type(error).__name__} at {place.filename}:{place.lineno}" if place else type(error).__name__
        )
        return ChangeResult("failed", f"internal error: {where}")

    def _not_ended(self, number: int) -> ChangeResult:
        if number in self._waiting[_unit(self._items[number])]:
            return ChangeResult("deferred", self._why)
        return ChangeResult(
            "deferred", "not settled before the run's time was up; the next run finds out", unsettled=True
        )

    def _stop_by(self, stop: GuardStop) -> None:
        self.stopped_by = self.stopped_by or stop
        self._halt(f"stopped by the guard '{stop.guard}'")

    def _halt(self, why: str) -> None:
        if not self._stopping.is_set():
            log.warning("no further change begins: %s", self.stopped_by or why)
            self._why = why
            self._stopping.set()


def _unit(item: Item) -> AccountRegion:
    return item.account_id, item.region


def _start_until(deadline: float | None, clock: Clock) -> float | None:
    if deadline is None:
        return None
    return deadline - min(SETTLE_SECONDS, max(0.0, deadline - clock.monotonic()) / 2)


def _journal_stop(error: AutoDefenderError) -> GuardStop:
    return GuardStop("journal", f"it can't be written: {error}", "Fix access to the output, then run again")
