"""Units and their outcomes. The ledger starts from the units that are expected, and each gets exactly one outcome."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from botocore.exceptions import ClientError

from scanner.aws.errors import Throttled, TimedOut, describe, error_code
from scanner.organization.accounts import ACTIVE
from scanner.organization.optouts import ALL_REGIONS, OptOuts
from scanner.organization.regions import RegionDisabled

log = logging.getLogger(__name__)

Outcome = Literal[
    "read", "access_denied", "region_disabled", "throttled", "timed_out", "error", "opted_out", "suspended"
]
OUTCOMES: tuple[Outcome, ...] = (
    "read", "access_denied", "region_disabled", "throttled", "timed_out", "error", "opted_out", "suspended",
)  # fmt: skip
# What outcome_of makes of an error.
FAULTS: tuple[Outcome, ...] = ("access_denied", "region_disabled", "throttled", "timed_out", "error")
# Not read although they should have been: exit code 3. The others are read, or known to have nothing to read.
UNREAD: frozenset[Outcome] = frozenset(("access_denied", "throttled", "timed_out", "error"))
COLUMNS = ("account_id", "region", "outcome", "functions", "detail")
# Stands for the regions of an account whose list of regions could not be read.
ANY_REGION = ALL_REGIONS
_DENIED = frozenset(
    "AccessDenied AccessDeniedException UnauthorizedOperation AuthFailure UnrecognizedClientException "
    "InvalidClientTokenId SignatureDoesNotMatch InvalidSignatureException OptInRequired".split()
)


@dataclass(frozen=True, slots=True)
class Unit:
    """An account in a region."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class UnitResult:
    """A unit's outcome. functions: how many were read. detail: why it was not read."""

    unit: Unit
    outcome: Outcome
    functions: int = 0
    detail: str = ""


class Ledger:
    """Expected units and their outcomes; each unit is settled once."""

    def __init__(self) -> None:
        """Start without units."""
        self._results: dict[Unit, UnitResult | None] = {}

    def expect(self, unit: Unit) -> None:
        """Add a unit that needs an outcome; no effect where it is expected already."""
        self._results.setdefault(unit, None)

    def settle(self, result: UnitResult) -> None:
        """Record a unit's outcome. Raises ValueError where it has one."""
        if self._results.get(result.unit) is not None:
            raise ValueError(f"{result.unit} has an outcome already")
        self._results[result.unit] = result

    def open_units(self) -> list[Unit]:
        """Return the units without an outcome."""
        return [unit for unit, result in self._results.items() if result is None]

    def __len__(self) -> int:
        """Return the number of expected units."""
        return len(self._results)

    def frame(self) -> pd.DataFrame:
        """Return the units frame: account_id, region, outcome, functions (count), detail; sorted by account and region.

        Raises ValueError where a unit has no outcome.
        """
        missing = self.open_units()
        if missing:
            raise ValueError(f"{len(missing)} units have no outcome, the first is {missing[0]}")
        rows = [
            (r.unit.account_id, r.unit.region, r.outcome, r.functions, r.detail)
            for r in self._results.values()
            if r is not None
        ]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.sort_values(["account_id", "region"], ignore_index=True)


def settle_without_calls(
    ledger: Ledger,
    accounts: pd.DataFrame,
    regions_of: Mapping[str, Iterable[str]],
    optouts: OptOuts,
    today: date,
) -> None:
    """Expect every account in its regions, and settle those that need no call: suspended, out of scope, opted out."""
    for account in accounts.itertuples(index=False):
        for region in regions_of[account.account_id]:
            unit = Unit(account.account_id, region)
            ledger.expect(unit)
            if account.state != ACTIVE:
                ledger.settle(UnitResult(unit, "suspended", detail=f"account state {account.state}"))
            elif not account.in_scope:
                ledger.settle(UnitResult(unit, "opted_out", detail=account.detail))
            elif entry := optouts.unit(account.account_id, region, today):
                until = f", until {entry.expires}" if entry.expires else ""
                detail = f"{entry.reason} ({entry.owner}{until})"
                ledger.settle(UnitResult(unit, "opted_out", detail=detail))


def rows_by_unit(functions: pd.DataFrame) -> dict[Unit, npt.NDArray[np.intp]]:
    """Return the row positions of each unit of a functions frame."""
    if functions.empty:
        return {}
    accounts, regions = functions["account_id"].cat, functions["region"].cat
    width = len(regions.categories)
    keys = accounts.codes.to_numpy().astype(np.int64) * width + regions.codes.to_numpy()
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return {
        Unit(accounts.categories[keys[rows[0]] // width], regions.categories[keys[rows[0]] % width]): rows
        for rows in np.split(order, starts[1:])
    }


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome that an error means for a unit, and its detail."""
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
