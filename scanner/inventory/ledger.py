"""Units: an account in a region. The ledger starts from those expected, and gives each exactly one outcome."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.organization.accounts import ACTIVE
from scanner.organization.optouts import OptOuts

Outcome = Literal[
    "read", "access_denied", "region_disabled", "throttled", "timed_out", "error", "opted_out", "suspended"
]
OUTCOMES: tuple[Outcome, ...] = (
    "read", "access_denied", "region_disabled", "throttled", "timed_out", "error", "opted_out", "suspended",
)  # fmt: skip
# Not read although they should have been: exit code 3. The others are read, or known to have nothing to read.
UNREAD: frozenset[Outcome] = frozenset(("access_denied", "throttled", "timed_out", "error"))
COLUMNS = ("account_id", "region", "outcome", "functions", "detail")
# Stands for the regions of an account whose list of regions could not be read.
ANY_REGION = "*"


@dataclass(frozen=True, slots=True)
class Unit:
    """An account in a region."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of a unit."""

    unit: Unit
    outcome: Outcome
    functions: int = 0
    detail: str = ""


class Ledger:
    """Expected units and their outcomes; a unit is settled once, and none is forgotten."""

    def __init__(self) -> None:
        """Start with nothing expected."""
        self._results: dict[Unit, UnitResult | None] = {}

    def expect(self, unit: Unit) -> None:
        """Expect a unit."""
        self._results.setdefault(unit, None)

    def settle(self, result: UnitResult) -> None:
        """Give a unit its outcome."""
        if self._results.get(result.unit) is not None:
            raise ValueError(f"{result.unit} has an outcome already")
        self._results[result.unit] = result

    def open_units(self) -> list[Unit]:
        """List the units without an outcome."""
        return [unit for unit, result in self._results.items() if result is None]

    def __len__(self) -> int:
        """Count the expected units."""
        return len(self._results)

    def frame(self) -> pd.DataFrame:
        """Give the ledger: account_id, region, outcome, functions (count), detail; by account and region."""
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
    """Give the row positions of each unit of a functions frame."""
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
