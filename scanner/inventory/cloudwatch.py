"""CloudWatch metrics, up to 500 in a call: the highest value of each over the look-back, or its sums over a window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer
from scanner.aws.pagination import pages
from scanner.core.errors import AutoDefenderError
from scanner.inventory.ledger import Unit

# GetMetricData API reference: up to 500 metric queries a request.
QUERIES_A_CALL = 500
# The same: data points in one page of an answer.
_POINTS_A_PAGE = 100_800
COMPLETE = "Complete"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one function: its namespace and name, and the dimension that names the function."""

    namespace: str
    name: str
    dimension: str
    function_name: str

    def query(self, number: int, period: int, statistic: str) -> dict[str, Any]:
        """Return the MetricDataQuery for one of its statistics. period: seconds."""
        dimensions = [{"Name": self.dimension, "Value": self.function_name}]
        metric = {"Namespace": self.namespace, "MetricName": self.name, "Dimensions": dimensions}
        return {"Id": f"q{number}", "MetricStat": {"Metric": metric, "Period": period, "Stat": statistic}}


@dataclass(frozen=True, slots=True)
class Window:
    """A time range that begins and ends on multiples of `period` (seconds), so that no data point crosses an end."""

    start: datetime
    end: datetime
    period: int


def highest(
    aws: Aws, unit: Unit, metrics: Sequence[Metric], lookback_days: int, deadline: float
) -> list[float | None]:
    """Return the maximum of each metric over the look-back, None where CloudWatch has no data.

    deadline: a Clock.monotonic() moment. Raises what Aws.call raises, and AutoDefenderError where a result
    is not complete.
    """
    end = aws.clock.now().replace(second=0, microsecond=0)
    window = Window(end - timedelta(days=lookback_days), end, lookback_days * 86_400)
    answers = _results(aws, unit, metrics, window, "Maximum", QUERIES_A_CALL, deadline)
    return [max((value for part in parts for value in part["Values"]), default=None) for parts in answers]


def sums(
    aws: Aws, unit: Unit, metrics: Sequence[Metric], window: Window, deadline: float
) -> NDArray[np.float64]:
    """Return the sum of each metric (columns) in each period of a window (rows); 0 where CloudWatch has no data.

    Raises as `highest`, and BrokenAnswer for a data point outside of the window.
    """
    rows = int((window.end - window.start).total_seconds()) // window.period
    found = np.zeros((rows, len(metrics)))
    # CloudWatch bills metrics and not data points; a call that fits into one page spares it the second.
    queries = max(1, min(QUERIES_A_CALL, _POINTS_A_PAGE // max(1, rows)))
    for column, parts in enumerate(_results(aws, unit, metrics, window, "Sum", queries, deadline)):
        for part in parts:
            for moment, value in zip(part["Timestamps"], part["Values"], strict=True):
                found[_row(moment, window), column] = value
    return found


def _row(moment: datetime, window: Window) -> int:
    if not window.start <= moment < window.end:
        raise BrokenAnswer(f"get_metric_data: a data point of {moment}, from {window.start} was asked")
    return int((moment - window.start).total_seconds()) // window.period


def _results(
    aws: Aws,
    unit: Unit,
    metrics: Sequence[Metric],
    window: Window,
    statistic: str,
    queries_a_call: int,
    deadline: float,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the parts of each metric's result, in the order of metrics."""
    where = (unit.account_id, unit.region, "cloudwatch", "get_metric_data")
    times: dict[str, Any] = {"StartTime": window.start, "EndTime": window.end}
    for first in range(0, len(metrics), queries_a_call):
        some = metrics[first : first + queries_a_call]
        queries = [metric.query(number, window.period, statistic) for number, metric in enumerate(some)]
        answers = pages(aws, *where, deadline=deadline, MetricDataQueries=queries, **times)
        yield from _gathered(len(some), (page["MetricDataResults"] for page in answers))


def _gathered(count: int, pages: Iterator[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for page in pages:
        for result in page:
            parts[int(result["Id"].removeprefix("q"))].append(result)
    for some in parts:
        status = some[-1]["StatusCode"] if some else "missing"
        if status != COMPLETE:
            raise AutoDefenderError(f"get_metric_data: a result is {status}")
    return parts
