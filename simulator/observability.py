"""What other services report about functions: their tags, and their traffic."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from simulator.calls import AwsError, Call
from simulator.state import Function, function_arn

if TYPE_CHECKING:
    from simulator.core import Core

RESOURCES_A_PAGE = 50
QUERIES_A_CALL = 500
Datapoints = list[tuple[datetime, float]]


class TaggingApi:
    """Resource Groups Tagging: functions by their tags."""

    def __init__(self, core: "Core") -> None:
        self._core = core

    def get_resources(self, call: Call) -> dict[str, Any]:
        filters = call.parameters.get("TagFilters") or ()
        found = [
            {"ResourceARN": function.arn, "Tags": [{"Key": k, "Value": v} for k, v in function.tags.items()]}
            for function in self._core.functions_of(call.account, call.region)
            if function.tags and all(_carries(function, wanted) for wanted in filters)
        ]
        first = int(call.parameters.get("PaginationToken") or 0)
        last = first + int(call.parameters.get("ResourcesPerPage") or RESOURCES_A_PAGE)
        token = str(last) if last < len(found) else ""
        return {"ResourceTagMappingList": found[first:last], "PaginationToken": token}


def _carries(function: Function, wanted: dict[str, Any]) -> bool:
    value = function.tags.get(wanted["Key"])
    return value is not None and (not wanted.get("Values") or value in wanted["Values"])


@dataclass(frozen=True)
class MetricQuery:
    """One metric of one function, in periods (seconds) from start to end."""

    arn: str
    metric: str
    statistic: str
    start: datetime
    end: datetime
    period: int


class CloudWatchApi:
    """CloudWatch: GetMetricData of functions. `datapoints`: by function's ARN and metric."""

    def __init__(self, core: "Core") -> None:
        del core
        self.datapoints: defaultdict[tuple[str, str], Datapoints] = defaultdict(list)
        self.metric_data: Callable[[MetricQuery], Datapoints] = self._aggregated

    def get_metric_data(self, call: Call) -> dict[str, Any]:
        queries = call.parameters["MetricDataQueries"]
        if len(queries) > QUERIES_A_CALL:
            raise AwsError(
                "ValidationError", "The collection MetricDataQueries must not have a size greater than 500."
            )
        return {"MetricDataResults": [self._result(call, query) for query in queries]}

    def _result(self, call: Call, query: dict[str, Any]) -> dict[str, Any]:
        stat = query["MetricStat"]
        name = stat["Metric"]["Dimensions"][0]["Value"]
        found = self.metric_data(
            MetricQuery(
                function_arn(call.account, call.region, name),
                stat["Metric"]["MetricName"],
                stat["Stat"],
                _moment(call.parameters["StartTime"]),
                _moment(call.parameters["EndTime"]),
                stat["Period"],
            )
        )
        times, values = [at for at, _ in found], [value for _, value in found]
        return {"Id": query["Id"], "Timestamps": times, "Values": values, "StatusCode": "Complete"}

    def _aggregated(self, query: MetricQuery) -> Datapoints:
        """Return the statistic of each period that has data; CloudWatch leaves the others out."""
        periods: defaultdict[int, list[float]] = defaultdict(list)
        for at, value in self.datapoints[query.arn, query.metric]:
            if query.start <= at < query.end:
                periods[int((at - query.start).total_seconds()) // query.period].append(value)
        combine: Callable[[list[float]], float] = max if query.statistic == "Maximum" else sum
        step = timedelta(seconds=query.period)
        return [(query.start + number * step, combine(values)) for number, values in sorted(periods.items())]


def _moment(value: Any) -> datetime:
    """Return a time that came as a datetime, or over the wire as seconds."""
    return value if isinstance(value, datetime) else datetime.fromtimestamp(float(value), UTC)
