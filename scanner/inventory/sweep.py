"""The sweep: reads every expected unit in parallel, and says of each what became of it."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pandas as pd
from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import Throttled, TimedOut, describe, error_code
from scanner.core.errors import InternalError
from scanner.core.worker_pool import TaskResult, WorkerPool
from scanner.inventory import ledger as ledger_of
from scanner.inventory.functions_frame import BrokenAnswer, FunctionsFrame
from scanner.inventory.ledger import ANY_REGION, Ledger, Outcome, Unit, UnitResult
from scanner.inventory.unit_reader import RegionDisabled, Rows, UnitReader
from scanner.inventory.unread import log_unit_error
from scanner.organization.accounts import ACTIVE
from scanner.organization.optouts import OptOuts
from scanner.organization.regions import enabled_regions
from scanner.settings import OrganizationSettings, SweepSettings

log = logging.getLogger(__name__)

_DENIED = frozenset(
    "AccessDenied AccessDeniedException UnauthorizedOperation AuthFailure UnrecognizedClientException "
    "InvalidClientTokenId SignatureDoesNotMatch InvalidSignatureException OptInRequired".split()
)


@dataclass
class Progress:
    """How far the sweep is: units done of those to be read, functions seen, unread units by outcome."""

    total: int
    done: int = 0
    functions: int = 0
    unread: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class SweepResult:
    """What the sweep saw: the functions frame (frame.py) and the units ledger (units.py)."""

    functions: pd.DataFrame
    units: pd.DataFrame


class Sweep:
    """One sweep of an organization."""

    def __init__(
        self,
        aws: Aws,
        organization: OrganizationSettings,
        settings: SweepSettings,
        watched_variables: tuple[str, ...],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Take who calls AWS, what to sweep and how, the variables that we would set, and who hears of progress."""
        self._aws = aws
        self._organization = organization
        self._settings = settings
        self._watched = watched_variables
        self._on_progress = on_progress

    def run(
        self, accounts: pd.DataFrame, optouts: OptOuts, today: date, deadline: float | None = None
    ) -> SweepResult:
        """Read every account in scope in each of its regions.

        `deadline` is a time.monotonic() moment; what was not reached by then, or when aws.stop is set, is timed_out.
        Raises WrongAccount where AWS answers for another account, and nothing else: every fault is an outcome.
        """
        ledger = Ledger()
        regions_of = self._regions_of(accounts, optouts, today, deadline, ledger)
        ledger_of.settle_without_calls(ledger, accounts, regions_of, optouts, today)
        self._prepare_clients(ledger)
        frame = FunctionsFrame(self._aws.partition, self._watched)
        todo = _spread(ledger.open_units())
        progress = Progress(total=len(todo))
        reader = UnitReader(self._aws, self._watched, self._settings.unit_timeout_sec)
        workers = WorkerPool(reader.read, self._settings.workers, self._settings.unit_timeout_sec)
        for done in workers.run(todo, deadline, self._aws.stop):
            result = self._settled(done, frame)
            ledger.settle(result)
            _count(progress, result)
            self._on_progress(progress)
        return SweepResult(frame.finish(), ledger.frame())

    def _prepare_clients(self, ledger: Ledger) -> None:
        """Make the clients here, on one thread: made on demand, every worker would wait for the same lock."""
        for region in sorted({unit.region for unit in ledger.open_units()}):
            self._aws.clients.get("lambda", region)

    def _regions_of(
        self, accounts: pd.DataFrame, optouts: OptOuts, today: date, deadline: float | None, ledger: Ledger
    ) -> dict[str, list[str]]:
        regions = self._organization.regions
        if regions != "enabled":
            return {account_id: list(regions) for account_id in accounts["account_id"]}
        opted_out = accounts["account_id"].map(
            lambda account_id: optouts.unit(account_id, ANY_REGION, today) is not None
        )
        reading = (accounts["state"] == ACTIVE) & accounts["in_scope"] & ~opted_out.astype(bool)
        regions_of = {account_id: [ANY_REGION] for account_id in accounts.loc[~reading, "account_id"]}
        ask: WorkerPool[str, list[str]] = WorkerPool(
            lambda account_id: enabled_regions(self._aws, account_id),
            self._settings.workers,
            self._settings.unit_timeout_sec,
        )
        for done in ask.run(list(accounts.loc[reading, "account_id"]), deadline, self._aws.stop):
            regions_of[done.task] = done.result or []
            if not done.result:
                unit = Unit(done.task, ANY_REGION)
                outcome, detail = outcome_of(done.error or BrokenAnswer("no region is enabled"))
                ledger.expect(unit)
                ledger.settle(UnitResult(unit, outcome, detail=f"its regions could not be listed: {detail}"))
        return regions_of

    def _settled(self, done: TaskResult[Unit, Rows], frame: FunctionsFrame) -> UnitResult:
        if done.error is None:
            rows = done.result or []
            frame.add(done.task.account_id, done.task.region, rows)
            return UnitResult(done.task, "read", len(rows))
        if isinstance(done.error, InternalError):
            self._aws.stop.set()
            raise done.error
        outcome, detail = outcome_of(done.error)
        log_unit_error("functions", done.task, f"{outcome}: {detail}", outcome=outcome)
        return UnitResult(done.task, outcome, detail=detail)


def _spread(units: list[Unit]) -> list[Unit]:
    """Order units so that neighbours differ in account and region: an account's credentials are asked for once,
    and a region that hangs can't hold every worker.
    """  # noqa: D205
    regions = {region: place for place, region in enumerate(sorted({unit.region for unit in units}))}
    accounts = {account: place for place, account in enumerate(sorted({unit.account_id for unit in units}))}

    def turn(unit: Unit) -> tuple[int, int]:
        account = accounts[unit.account_id]
        return (regions[unit.region] - account) % len(regions), account

    return sorted(units, key=turn)


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """Name the outcome that an error means for a unit."""
    if isinstance(error, RegionDisabled):
        return "region_disabled", str(error)
    if isinstance(error, Throttled):
        return "throttled", describe(error)
    if isinstance(error, (TimedOut, TimeoutError)):
        return "timed_out", str(error)
    if isinstance(error, ClientError) and error_code(error) in _DENIED:
        return "access_denied", describe(error)
    if not isinstance(error, Exception):
        raise error
    if not isinstance(error, ClientError):
        log.debug("unit failed", exc_info=error)
    return "error", describe(error)


def _count(progress: Progress, result: UnitResult) -> None:
    progress.done += 1
    progress.functions += result.functions
    if result.outcome != "read":
        progress.unread[result.outcome] += 1
