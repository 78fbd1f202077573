"""Reads in parallel on the sweep's worker threads: the one loop over units, accounts or functions."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scanner.aws.caller import Aws
from scanner.core.errors import InternalError
from scanner.core.heap import frozen_heap
from scanner.core.worker_pool import TaskResult, WorkerPool
from scanner.inventory.ledger import Outcome, Unit, outcome_of
from scanner.settings import SweepSettings

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class UnitAnswer(Generic[R]):
    """What was read of one unit; result is None, and detail says why, where outcome is not "read"."""

    unit: Unit
    result: R | None
    outcome: Outcome = "read"
    detail: str = ""


def in_parallel(
    read: Callable[[T], R], tasks: Sequence[T], aws: Aws, sweep: SweepSettings, deadline: float | None
) -> Iterator[TaskResult[T, R]]:
    """Call `read` for each task and yield each end as it comes; a task has sweep.unit_timeout_sec seconds.

    deadline: a Clock.monotonic() moment; what is missing then, or soon after aws.stop is set, ends in TimeoutError.
    Raises InternalError as soon as one call does, and sets aws.stop: nothing may be called after a defect.
    """
    pool = WorkerPool(read, sweep.workers, sweep.unit_timeout_sec, aws.clock)
    with frozen_heap():
        for done in pool.run(tasks, deadline, aws.stop):
            if isinstance(done.error, InternalError):
                aws.stop.set()
                raise done.error
            yield done


def read_units(
    what: str,
    units: Sequence[Unit],
    read: Callable[[Unit, float], R],
    aws: Aws,
    sweep: SweepSettings,
    deadline: float | None,
) -> Iterator[UnitAnswer[R]]:
    """Yield an answer a unit, as in_parallel does, and log each unit that could not be read.

    what: the log line's subject. read: takes a unit and its own deadline, a Clock.monotonic() moment.
    """

    def read_unit(unit: Unit) -> R:
        return read(unit, aws.clock.monotonic() + sweep.unit_timeout_sec)

    for done in in_parallel(read_unit, units, aws, sweep, deadline):
        if done.error is None:
            yield UnitAnswer(done.task, done.result)
            continue
        unit, (outcome, detail) = done.task, outcome_of(done.error)
        log.error(
            "%s not read: %s in %s: %s: %s", what, unit.account_id, unit.region, outcome, detail,
            extra={"account_id": unit.account_id, "region": unit.region, "outcome": outcome},
        )  # fmt: skip
        yield UnitAnswer(unit, None, outcome, detail)
