"""CloudWatch metrics, up to 500 in a call: the highest value of each over the look-back, or its sum over a window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from scanner.aws.caller import Aws
from scanner.aws.pagination import pages
from scanner.core.errors import AutoDefenderError
from scanner.inventory.ledger import Unit

# GetMetricData API reference: up to 500 metric queries a request.
QUERIES_A_CALL = 500
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

    deadline: a time.monotonic() moment. Raises what Aws.call raises, and AutoDefenderError where a result
    is not complete.
    """
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    window = Window(end - timedelta(days=lookback_days), end, lookback_days * 86_400)
    values = _values(aws, unit, metrics, window, "Maximum", deadline)
    return [max(some, default=None) for some in values]


def sums(aws: Aws, unit: Unit, metrics: Sequence[Metric], window: Window, deadline: float) -> list[float]:
    """Return the sum of each metric over a window; 0 where CloudWatch has no data. Raises as `highest`."""
    return [sum(some) for some in _values(aws, unit, metrics, window, "Sum", deadline)]


def _values(
    aws: Aws, unit: Unit, metrics: Sequence[Metric], window: Window, statistic: str, deadline: float
) -> list[list[float]]:
    found: list[list[float]] = []
    where = (unit.account_id, unit.region, "cloudwatch", "get_metric_data")
    times: dict[str, Any] = {"StartTime": window.start, "EndTime": window.end}
    for first in range(0, len(metrics), QUERIES_A_CALL):
        some = metrics[first : first + QUERIES_A_CALL]
        queries = [metric.query(number, window.period, statistic) for number, metric in enumerate(some)]
        answers = pages(aws, *where, deadline=deadline, MetricDataQueries=queries, **times)
        found += _gathered(len(some), (page["MetricDataResults"] for page in answers))
    return found


def _gathered(count: int, pages: Iterator[list[dict[str, Any]]]) -> list[list[float]]:
    values: list[list[float]] = [[] for _ in range(count)]
    ended = ["missing"] * count
    for page in pages:
        for result in page:
            number = int(result["Id"].removeprefix("q"))
            values[number] += result["Values"]
            ended[number] = result["StatusCode"]
    for status in ended:
        if status != COMPLETE:
            raise AutoDefenderError(f"get_metric_data: a result is {status}")
    return values
