"""Sums of metrics over a window: each data point in its period, no metric asked for twice, nothing half read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scanner.aws.errors import BrokenAnswer
from scanner.core.errors import AutoDefenderError
from scanner.inventory.cloudwatch import Metric, Window, sums
from scanner.inventory.ledger import Unit

START = datetime(2026, 11, 24, tzinfo=UTC)
UNIT = Unit("111122223333", "us-east-1")


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


class CloudWatch:
    """Answers with pages that a test gives, or a point of 1 in each metric's first hour."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def call(self, *_: Any, deadline: float | None = None, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        if not self.pages:
            return {"MetricDataResults": [result(q["Id"], {0: 1.0}) for q in parameters["MetricDataQueries"]]}
        more = {"NextToken": str(len(self.pages))} if len(self.pages) > 1 else {}
        return {"MetricDataResults": self.pages.pop(0), **more}


def result(name: str, points: dict[int, float], status: str = "Complete") -> dict[str, Any]:
    times = [at(hour) for hour in points]
    return {"Id": name, "Timestamps": times, "Values": list(points.values()), "StatusCode": status}


def metrics(count: int) -> list[Metric]:
    return [Metric("AWS/Lambda", "Errors", "FunctionName", f"f{number}") for number in range(count)]


def read(aws: CloudWatch, count: int, hours: int) -> Any:
    return sums(aws, UNIT, metrics(count), Window(START, at(hours), 3_600), 0.0)  # type: ignore[arg-type]


def test_each_point_is_in_its_period_whatever_the_order_and_the_page() -> None:
    aws = CloudWatch(
        [result("q1", {3: 7.0, 0: 5.0}), result("q0", {2: 1.0}, "PartialData")],
        [result("q0", {1: 2.0})],
    )
    assert read(aws, 2, 4).T.tolist() == [[0, 2, 1, 0], [5, 0, 0, 7]]


@pytest.mark.parametrize(
    ("count", "hours", "calls"), [(500, 24, 1), (501, 24, 2), (150, 672, 1), (151, 672, 2)]
)
def test_a_call_asks_for_500_metrics_and_no_more_than_a_page_of_points(
    count: int, hours: int, calls: int
) -> None:
    aws = CloudWatch()
    found = read(aws, count, hours)
    assert found.shape == (hours, count)
    assert found[0].tolist() == [1.0] * count
    assert len(aws.asked) == calls
    assert sum(len(asked["MetricDataQueries"]) for asked in aws.asked) == count


@pytest.mark.parametrize("hour", [-1, 4])
def test_a_point_outside_of_the_window_is_a_broken_answer(hour: int) -> None:
    with pytest.raises(BrokenAnswer, match="a data point of 2026-11-2"):
        read(CloudWatch([result("q0", {hour: 1.0})]), 1, 4)


@pytest.mark.parametrize("answer", [[], [result("q0", {0: 1.0}, "InternalError")]])
def test_half_an_answer_is_none(answer: list[dict[str, Any]]) -> None:
    with pytest.raises(AutoDefenderError, match=r"a result is (missing|InternalError)"):
        read(CloudWatch(answer), 1, 4)
