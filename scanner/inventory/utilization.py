"""How close functions run to their limits, asked only for functions that pass every other check.

timeout_utilization_pct: the longest duration of the look-back as a share of the timeout (AWS/Lambda, Duration).
memory_utilization_pct: the highest memory use: Lambda Insights (LambdaInsights, memory_utilization) where the function
carries its layer, else, with risk.utilization.memory_from_logs, the REPORT lines of its log. Both in percent, float32,
NaN where there is no value; the columns with _outcome in place of _pct (measured.py) tell why.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.aws.caller import Aws
from scanner.core.errors import InternalError
from scanner.core.worker_pool import WorkerPool
from scanner.inventory.cloudwatch import Metric, highest
from scanner.inventory.ledger import Outcome, Unit, rows_by_unit
from scanner.inventory.logs_insights import memory_shares
from scanner.inventory.measured import MEASURED, NOT_ASKED, OUTCOMES, UNMEASURED, outcome_column
from scanner.inventory.sweep import outcome_of
from scanner.inventory.unread import log_unit_error
from scanner.risk.layers import by_category
from scanner.settings import SweepSettings, UtilizationSettings

TIMEOUT, MEMORY = "timeout_utilization_pct", "memory_utilization_pct"
_CODES = frozenset(("timeout_utilization", "memory_utilization", ""))
_INSIGHTS_LAYER = ":layer:LambdaInsightsExtension"

Rows = npt.NDArray[np.intp]
# By column and row: a percentage, None where there is no data.
Values = dict[str, dict[int, float | None]]
Read = Callable[[Unit, pd.DataFrame, float], Values]


def add_utilization(
    assessed: pd.DataFrame,
    aws: Aws,
    settings: UtilizationSettings,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Add both percentages and how their measurement ended to an assessed frame. `deadline`: time.monotonic()."""
    sheet = _Sheet(len(assessed))
    if not settings.enabled:
        return assessed.assign(**sheet.columns())
    days = settings.lookback_days

    def from_metrics(unit: Unit, functions: pd.DataFrame, until: float) -> Values:
        return _from_metrics(aws, unit, functions, days, until)

    def from_logs(unit: Unit, functions: pd.DataFrame, until: float) -> Values:
        return _from_logs(aws, unit, functions, days, until)

    read = assessed[["account_id", "region", "function_name", "timeout_sec", "layers"]].reset_index(drop=True)
    asked = read.iloc[_passing_all_else(assessed)]
    for rows, ended in _each_unit(asked, from_metrics, aws, sweep, deadline):
        sheet.note(rows, (TIMEOUT, MEMORY), ended)
    if settings.memory_from_logs:
        # Only functions that ran have logs to read.
        ran_unseen = sheet.is_measured(TIMEOUT) & ~sheet.is_measured(MEMORY)
        for rows, ended in _each_unit(asked[ran_unseen[asked.index]], from_logs, aws, sweep, deadline):
            sheet.note(rows, (MEMORY,), ended)
    return assessed.assign(**sheet.columns())


def _passing_all_else(assessed: pd.DataFrame) -> Rows:
    """Find the rows whose verdict hangs on their utilization alone (under when_unmeasured: skip, none is eligible yet)."""
    reasons = assessed["reasons"]
    open_yet = [_CODES.issuperset(text.split(";")) for text in reasons.cat.categories]
    return np.flatnonzero(
        by_category(reasons, open_yet, bool, False) & (assessed["verdict"] != "protected").to_numpy()
    )


class _Sheet:
    """The four columns while they are filled in."""

    def __init__(self, rows: int) -> None:
        self._percent = {column: np.full(rows, np.nan, dtype=np.float32) for column in (TIMEOUT, MEMORY)}
        self._outcome = {
            column: np.full(rows, OUTCOMES.index(NOT_ASKED), dtype=np.int8) for column in (TIMEOUT, MEMORY)
        }

    def note(self, rows: Rows, columns: tuple[str, ...], ended: "Values | Outcome") -> None:
        """Note what was measured of some rows, or the fault that kept them from being measured."""
        for column in columns:
            outcome = self._outcome[column]
            if isinstance(ended, str):
                outcome[rows] = OUTCOMES.index(ended)
                continue
            outcome[rows] = OUTCOMES.index(UNMEASURED)
            for row, percent in ended.get(column, {}).items():
                if percent is not None:
                    self._percent[column][row] = percent
                    outcome[row] = OUTCOMES.index(MEASURED)

    def is_measured(self, column: str) -> npt.NDArray[np.bool_]:
        """Tell a row whether it has a value."""
        return ~np.isnan(self._percent[column])

    def columns(self) -> dict[str, object]:
        """Give the columns as the frame takes them."""
        outcomes = {
            outcome_column(column): pd.Categorical.from_codes(codes, list(OUTCOMES))
            for column, codes in self._outcome.items()
        }
        return {**self._percent, **outcomes}


def _each_unit(
    functions: pd.DataFrame, read: Read, aws: Aws, sweep: SweepSettings, deadline: float | None
) -> Iterator[tuple[Rows, "Values | Outcome"]]:
    """Read unit by unit, in parallel; give each unit's rows (index of `functions`) with their values or their fault."""
    units = {unit: functions.iloc[rows] for unit, rows in rows_by_unit(functions).items()}
    workers: WorkerPool[Unit, Values] = WorkerPool(
        lambda unit: read(unit, units[unit], time.monotonic() + sweep.unit_timeout_sec),
        sweep.workers,
        sweep.unit_timeout_sec,
    )
    for done in workers.run(list(units), deadline, aws.stop):
        rows = units[done.task].index.to_numpy()
        if isinstance(done.error, InternalError):
            aws.stop.set()
            raise done.error
        if done.error is not None:
            outcome, detail = outcome_of(done.error)
            log_unit_error("utilization", done.task, f"{outcome}: {detail}", outcome=outcome)
            yield rows, outcome
        else:
            yield rows, done.result or {}


def _from_metrics(aws: Aws, unit: Unit, functions: pd.DataFrame, days: int, deadline: float) -> Values:
    asked: list[tuple[str, int, float, Metric]] = []
    for row, name, timeout, layers in zip(
        functions.index,
        functions["function_name"],
        functions["timeout_sec"],
        functions["layers"],
        strict=True,
    ):
        # Duration is in milliseconds, the timeout in seconds: percent of the timeout is ms / s / 10.
        asked.append((TIMEOUT, row, 10.0 * timeout, Metric("AWS/Lambda", "Duration", "FunctionName", name)))
        if _INSIGHTS_LAYER in layers:
            memory = Metric("LambdaInsights", "memory_utilization", "function_name", name)
            asked.append((MEMORY, row, 1.0, memory))
    found = highest(aws, unit, [metric for *_, metric in asked], days, deadline)
    values: Values = {TIMEOUT: {}, MEMORY: {}}
    for (column, row, divisor, _), value in zip(asked, found, strict=True):
        values[column][row] = None if value is None else value / divisor
    return values


def _from_logs(aws: Aws, unit: Unit, functions: pd.DataFrame, days: int, deadline: float) -> Values:
    names = functions["function_name"].tolist()
    shares = memory_shares(aws, unit, names, days, deadline)
    return {
        MEMORY: {
            row: 100 * shares[name]
            for row, name in zip(functions.index, names, strict=True)
            if name in shares
        }
    }
