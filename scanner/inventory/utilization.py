"""How close functions run to their limits, measured only for functions that pass every other check.

timeout_utilization_pct: the longest duration of the look-back as a share of the timeout (AWS/Lambda, Duration).
memory_utilization_pct: the highest memory use: Lambda Insights (LambdaInsights, memory_utilization) where the function
carries its layer, else, with risk.utilization.memory_from_logs, the REPORT lines of its log. Both in percent, float32,
NaN where there is no value.

timeout_utilization_outcome and memory_utilization_outcome (categories) say how each measurement ended: not_asked,
measured, unmeasured, or the outcome of a unit that could not be read, on which no check passes.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.aws.caller import Aws
from scanner.core.categories import by_category
from scanner.inventory.cloudwatch import Metric, highest
from scanner.inventory.ledger import FAULTS, Outcome, Unit, rows_by_unit
from scanner.inventory.logs_insights import memory_shares
from scanner.inventory.parallel import read_units
from scanner.settings import SweepSettings, UtilizationSettings

NOT_ASKED = "not_asked"  # the function fails another check, or is protected
MEASURED = "measured"
# No metric or log has a value, or it was never invoked; risk.utilization.when_unmeasured decides.
UNMEASURED = "unmeasured"
OUTCOMES = (NOT_ASKED, MEASURED, UNMEASURED, *FAULTS)
TIMEOUT, MEMORY = "timeout_utilization_pct", "memory_utilization_pct"
_CODES = frozenset(("timeout_utilization", "memory_utilization", ""))
_INSIGHTS_LAYER = ":layer:LambdaInsightsExtension"

Rows = npt.NDArray[np.intp]
# By column and row: a percentage, None where there is no data.
Values = dict[str, dict[int, float | None]]
Read = Callable[[Unit, pd.DataFrame, float], Values]


def outcome_column(percent_column: str) -> str:
    """Return the name of the column that says how the measurement of a percentage ended."""
    return percent_column.removesuffix("_pct") + "_outcome"


def add_utilization(
    assessed: pd.DataFrame,
    aws: Aws,
    settings: UtilizationSettings,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Return an assessed frame with both percentages and outcomes. deadline: a Clock.monotonic() moment."""
    measurements = _Measurements(len(assessed))
    if not settings.enabled:
        return assessed.assign(**measurements.columns())
    days = settings.lookback_days

    def from_metrics(unit: Unit, functions: pd.DataFrame, until: float) -> Values:
        return _from_metrics(aws, unit, functions, days, until)

    def from_logs(unit: Unit, functions: pd.DataFrame, until: float) -> Values:
        return _from_logs(aws, unit, functions, days, until)

    read = assessed[["account_id", "region", "function_name", "timeout_sec", "layers"]].reset_index(drop=True)
    asked = read.iloc[_passing_all_else(assessed)]
    for rows, found in _each_unit(asked, from_metrics, aws, sweep, deadline):
        measurements.record(rows, (TIMEOUT, MEMORY), found)
    if settings.memory_from_logs:
        # Only functions that ran have logs to read.
        logged = measurements.is_measured(TIMEOUT) & ~measurements.is_measured(MEMORY)
        for rows, found in _each_unit(asked[logged[asked.index]], from_logs, aws, sweep, deadline):
            measurements.record(rows, (MEMORY,), found)
    return assessed.assign(**measurements.columns())


def _passing_all_else(assessed: pd.DataFrame) -> Rows:
    """Return the rows whose verdict depends on utilization alone; with when_unmeasured: skip, none is eligible yet."""
    reasons = assessed["reasons"]
    undecided = [_CODES.issuperset(text.split(";")) for text in reasons.cat.categories]
    return np.flatnonzero(
        by_category(reasons, undecided, bool, False) & (assessed["verdict"] != "protected").to_numpy()
    )


class _Measurements:
    """The four columns while units are read."""

    def __init__(self, rows: int) -> None:
        self._percent = {column: np.full(rows, np.nan, dtype=np.float32) for column in (TIMEOUT, MEMORY)}
        self._outcome = {
            column: np.full(rows, OUTCOMES.index(NOT_ASKED), dtype=np.int8) for column in (TIMEOUT, MEMORY)
        }

    def record(self, rows: Rows, columns: tuple[str, ...], found: "Values | Outcome") -> None:
        """Record the values of some rows, or the outcome of the unit that could not be read."""
        for column in columns:
            outcome = self._outcome[column]
            if isinstance(found, str):
                outcome[rows] = OUTCOMES.index(found)
                continue
            outcome[rows] = OUTCOMES.index(UNMEASURED)
            for row, percent in found.get(column, {}).items():
                if percent is not None:
                    self._percent[column][row] = percent
                    outcome[row] = OUTCOMES.index(MEASURED)

    def is_measured(self, column: str) -> npt.NDArray[np.bool_]:
        """Return a flag a row: whether it has a value."""
        return ~np.isnan(self._percent[column])

    def columns(self) -> dict[str, object]:
        """Return the columns by name."""
        outcomes = {
            outcome_column(column): pd.Categorical.from_codes(codes, list(OUTCOMES))
            for column, codes in self._outcome.items()
        }
        return {**self._percent, **outcomes}


def _each_unit(
    functions: pd.DataFrame, read: Read, aws: Aws, sweep: SweepSettings, deadline: float | None
) -> Iterator[tuple[Rows, "Values | Outcome"]]:
    """Yield the rows (index of `functions`) of each unit with their values, or with the outcome of a failed reading."""
    units = {unit: functions.iloc[rows] for unit, rows in rows_by_unit(functions).items()}

    def read_unit(unit: Unit, until: float) -> Values:
        return read(unit, units[unit], until)

    for answer in read_units("utilization", list(units), read_unit, aws, sweep, deadline):
        rows = units[answer.unit].index.to_numpy()
        yield rows, answer.outcome if answer.result is None else answer.result


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
