"""How close functions run to their limits, from CloudWatch: asked only for functions that pass every other check.

timeout_utilization_pct: the longest duration of the look-back as a share of the timeout (AWS/Lambda, Duration, maximum).
memory_utilization_pct: the highest memory use (LambdaInsights, memory_utilization, maximum), for functions that carry
the Lambda Insights layer. Both in percent, float32: NaN where there is nothing to measure (never invoked, Insights off),
infinite where CloudWatch could not be read, which no threshold passes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from scanner.calls import Aws
from scanner.settings import SweepSettings, UtilizationSettings
from scanner.units import Unit, rows_by_unit
from scanner.unread import log_unread
from scanner.workers import Workers

# GetMetricData API reference: up to 500 metric queries a request.
QUERIES_A_CALL = 500
COULD_NOT_BE_READ = np.inf
_INSIGHTS_LAYER = ":layer:LambdaInsightsExtension"


@dataclass(frozen=True)
class _Query:
    row: int
    column: str
    scale: float
    metric: dict[str, Any]


def add_utilization(
    assessed: pd.DataFrame,
    aws: Aws,
    settings: UtilizationSettings,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Add timeout_utilization_pct and memory_utilization_pct to an assessed frame (measured where it is eligible)."""
    values = {
        column: np.full(len(assessed), np.nan, dtype=np.float32)
        for column in ("timeout_utilization_pct", "memory_utilization_pct")
    }
    if not settings.enabled:
        return assessed
    eligible = np.flatnonzero((assessed["verdict"] == "eligible").to_numpy())
    rows_of = {unit: eligible[rows] for unit, rows in rows_by_unit(assessed.iloc[eligible]).items()}
    workers = Workers(
        lambda unit: _measured(aws, unit, list(_queries(assessed, rows_of[unit])), settings.lookback_days),
        sweep.workers,
        sweep.unit_timeout_sec,
    )
    for done in workers.run(list(rows_of), deadline, aws.stop):
        if done.result is None:
            log_unread("utilization", done.task, done.error)
            values["timeout_utilization_pct"][rows_of[done.task]] = COULD_NOT_BE_READ
            continue
        for query, value in done.result:
            values[query.column][query.row] = value
    return assessed.assign(**values)


def _queries(assessed: pd.DataFrame, rows: Sequence[int]) -> Iterator[_Query]:
    part = assessed.iloc[rows]
    for row, name, timeout, layers in zip(
        rows, part["function_name"], part["timeout_sec"], part["layers"], strict=True
    ):
        duration = _metric("AWS/Lambda", "Duration", "FunctionName", name)
        # Duration is in milliseconds, the timeout in seconds: percent of the timeout is ms / s / 10.
        yield _Query(int(row), "timeout_utilization_pct", 1 / (10 * timeout), duration)
        if _INSIGHTS_LAYER in layers:
            memory = _metric("LambdaInsights", "memory_utilization", "function_name", name)
            yield _Query(int(row), "memory_utilization_pct", 1.0, memory)


def _metric(namespace: str, name: str, dimension: str, function_name: str) -> dict[str, Any]:
    return {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": dimension, "Value": function_name}],
    }


def _measured(
    aws: Aws, unit: Unit, queries: Sequence[_Query], lookback_days: int
) -> list[tuple[_Query, float]]:
    """Ask for one value a query, the maximum over the look-back; queries without data are left out."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    start = end - timedelta(days=lookback_days)
    measured = []
    for first in range(0, len(queries), QUERIES_A_CALL):
        some = queries[first : first + QUERIES_A_CALL]
        highest = _highest(aws, unit, some, start, end, lookback_days * 86_400)
        measured += [
            (query, value * query.scale)
            for query, value in zip(some, highest, strict=True)
            if value is not None
        ]
    return measured


def _highest(
    aws: Aws, unit: Unit, queries: Sequence[_Query], start: datetime, end: datetime, period: int
) -> list[float | None]:
    asked = [
        {"Id": f"q{i}", "MetricStat": {"Metric": query.metric, "Period": period, "Stat": "Maximum"}}
        for i, query in enumerate(queries)
    ]
    highest: list[float | None] = [None] * len(queries)
    token: str | None = None
    while True:
        more = {"NextToken": token} if token else {}
        page = aws.call(
            unit.account_id,
            unit.region,
            "cloudwatch",
            "get_metric_data",
            MetricDataQueries=asked,
            StartTime=start,
            EndTime=end,
            **more,
        )
        for result in page["MetricDataResults"]:
            index = int(result["Id"][1:])
            highest[index] = max(
                (v for v in (highest[index], *result["Values"]) if v is not None), default=None
            )
        token = page.get("NextToken")
        if not token:
            return highest
