"""The sweep: reads every expected unit in parallel and gives each its outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pandas as pd

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer
from scanner.inventory.functions_frame import FunctionsFrame
from scanner.inventory.ledger import ANY_REGION, Ledger, Unit, UnitResult, outcome_of, settle_without_calls
from scanner.inventory.parallel import in_parallel, read_units
from scanner.inventory.unit_reader import UnitReader
from scanner.organization.accounts import ACTIVE
from scanner.organization.optouts import OptOuts
from scanner.organization.regions import enabled_regions
from scanner.settings import OrganizationSettings, SweepSettings, Variables


@dataclass
class Progress:
    """How far the sweep is: units done of those to be read, functions read, and units not read by outcome."""

    total: int
    done: int = 0
    functions: int = 0
    unread: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class SweepResult:
    """The functions frame (functions_frame.py) and the units frame (ledger.py)."""

    functions: pd.DataFrame
    units: pd.DataFrame


class Sweep:
    """One sweep of an organization."""

    def __init__(
        self,
        aws: Aws,
        organization: OrganizationSettings,
        settings: SweepSettings,
        watched_variables: Variables,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Take the caller, what to sweep and how, the variables that a change would set, and a callback a unit."""
        self._aws = aws
        self._organization = organization
        self._settings = settings
        self._watched = watched_variables
        self._on_progress = on_progress

    def run(
        self, accounts: pd.DataFrame, optouts: OptOuts, today: date, deadline: float | None = None
    ) -> SweepResult:
        """Read every account in scope in each of its regions.

        deadline: a Clock.monotonic() moment; units not read by then, or when aws.stop is set, are timed_out.
        Raises InternalError, such as WrongAccount where AWS answers for another account; every other error is an
        outcome.
        """
        ledger = Ledger()
        regions_of = self._regions_of(accounts, optouts, today, deadline, ledger)
        settle_without_calls(ledger, accounts, regions_of, optouts, today)
        self._prepare_clients(ledger)
        frame = FunctionsFrame()
        units = _interleaved(ledger.open_units())
        progress = Progress(total=len(units))
        read = UnitReader(self._aws, self._watched).read
        for answer in read_units("functions", units, read, self._aws, self._settings, deadline):
            rows = answer.result or []
            frame.add(answer.unit.account_id, answer.unit.region, rows)
            result = UnitResult(answer.unit, answer.outcome, len(rows), answer.detail)
            ledger.settle(result)
            _count(progress, result)
            self._on_progress(progress)
        return SweepResult(frame.finish(), ledger.frame())

    def _prepare_clients(self, ledger: Ledger) -> None:
        """Make the clients on this thread: made on demand, they would make every worker wait for the same lock."""
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
        asked = list(accounts.loc[reading, "account_id"])
        for done in in_parallel(self._enabled_regions, asked, self._aws, self._settings, deadline):
            regions_of[done.task] = done.result or []
            if not done.result:
                unit = Unit(done.task, ANY_REGION)
                outcome, detail = outcome_of(done.error or BrokenAnswer("no region is enabled"))
                ledger.expect(unit)
                ledger.settle(UnitResult(unit, outcome, detail=f"its regions could not be listed: {detail}"))
        return regions_of

    def _enabled_regions(self, account_id: str) -> list[str]:
        return enabled_regions(self._aws, account_id)


def _interleaved(units: list[Unit]) -> list[Unit]:
    """Order units so that neighbours differ in account and region.

    An account's role is then assumed once before its other regions need it, and a silent region can't occupy every
    worker at once.
    """
    regions = {region: number for number, region in enumerate(sorted({unit.region for unit in units}))}
    accounts = {account: number for number, account in enumerate(sorted({unit.account_id for unit in units}))}

    def position(unit: Unit) -> tuple[int, int]:
        account = accounts[unit.account_id]
        return (regions[unit.region] - account) % len(regions), account

    return sorted(units, key=position)


def _count(progress: Progress, result: UnitResult) -> None:
    progress.done += 1
    progress.functions += result.functions
    if result.outcome != "read":
        progress.unread[result.outcome] += 1
