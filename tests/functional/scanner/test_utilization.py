"""Utilization from CloudWatch: measured, unmeasured, and a CloudWatch that does not answer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from scanner.inventory import cloudwatch as metrics
from scanner.inventory import logs_insights as memory_logs
from scanner.inventory.utilization import add_utilization
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import SweepSettings
from tests.functional.members import MEMBERS, SWEEP, Faulty, client, functions_of, members, refused, throttled
from tests.unit.scanner.risk.assessed import TODAY, function, layer, rules

A, B = MEMBERS
INSIGHTS = "arn:aws:lambda:us-east-1:580247275435:layer:LambdaInsightsExtension:64"


@pytest.fixture
def aws() -> Iterator[Faulty]:
    with members() as found:
        yield found


def ran(
    account_id: str, name: str, milliseconds: float, days_ago: float = 1, memory_pct: float | None = None
) -> None:
    cloudwatch, when = client("cloudwatch", account_id), datetime.now(UTC) - timedelta(days=days_ago)
    cloudwatch.put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": "Duration",
                "Dimensions": [{"Name": "FunctionName", "Value": name}],
                "Timestamp": when,
                "Value": milliseconds,
            }
        ],
    )
    if memory_pct is not None:
        cloudwatch.put_metric_data(
            Namespace="LambdaInsights",
            MetricData=[
                {
                    "MetricName": "memory_utilization",
                    "Dimensions": [{"Name": "function_name", "Value": name}],
                    "Timestamp": when,
                    "Value": memory_pct,
                }
            ],
        )


def measured(
    aws: Faulty, by: Rules, configurations: dict[str, list[dict[str, Any]]], sweep: SweepSettings = SWEEP
) -> pd.DataFrame:
    functions = functions_of(configurations, by)
    assessed = assess_risk(functions, by, TODAY)
    return assess_risk(add_utilization(assessed, aws, by.risk.utilization, sweep), by, TODAY).set_index(
        "function_name"
    )


@pytest.mark.parametrize(
    ("milliseconds", "verdict"), [(28_400, "eligible"), (28_500, "eligible"), (28_501, "skipped")]
)
def test_the_longest_duration_is_held_against_the_timeout(
    aws: Faulty, milliseconds: float, verdict: str
) -> None:
    for duration, days_ago in ((milliseconds, 3), (10, 1), (200, 13)):
        ran(A, "app", duration, days_ago)
    row = measured(aws, rules(), {A: [function("app", account=A)]}).loc["app"]
    assert row["timeout_utilization_pct"] == pytest.approx(milliseconds / 300, rel=1e-6)
    assert (row["timeout_utilization_outcome"], row["verdict"]) == ("measured", verdict)
    assert row["reasons"] == ("timeout_utilization" if verdict == "skipped" else "")


def test_what_lies_before_the_look_back_is_not_asked_for(aws: Faulty) -> None:
    ran(A, "app", 30_000, days_ago=20)
    by = rules({"utilization": {"lookback_days": 7}})
    assert (
        measured(aws, by, {A: [function("app", account=A)]}).loc["app", "timeout_utilization_outcome"]
        == "unmeasured"
    )


def test_memory_comes_from_lambda_insights_where_it_is_on(aws: Faulty) -> None:
    ran(A, "seen", 100, memory_pct=96.0)
    ran(A, "unseen", 100, memory_pct=99.0)
    found = measured(
        aws, rules(), {A: [function("seen", account=A, layers=[INSIGHTS]), function("unseen", account=A)]}
    )
    assert found.loc["seen", "memory_utilization_pct"] == 96.0
    assert list(found["memory_utilization_outcome"]) == ["measured", "unmeasured"]
    assert list(found["reasons"]) == ["memory_utilization", ""]


def test_accounts_are_asked_for_their_own_functions(aws: Faulty) -> None:
    ran(A, "app", 30_000)
    ran(B, "app", 300)
    found = measured(aws, rules(), {A: [function("app", account=A)], B: [function("app", account=B)]})
    assert [round(float(pct)) for pct in found["timeout_utilization_pct"]] == [100, 1]


def test_only_functions_that_pass_every_other_check_are_asked_for(aws: Faulty) -> None:
    carried = {"layers": [layer()], "variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/twistlock/wrapper"}}
    some = [
        function("small", account=A, MemorySize=128),
        function("safe", account=A, **carried),
        function("app", account=A),
    ]
    found = measured(aws, rules(), {A: some, B: [function("arm", account=B, Architectures=["arm64"])]})
    assert found["timeout_utilization_outcome"].to_dict() == {
        "small": "not_asked", "safe": "not_asked", "app": "unmeasured", "arm": "not_asked",
    }  # fmt: skip
    calls = [
        (account, parameters) for account, method, parameters in aws.asked if method == "get_metric_data"
    ]
    assert [account for account, _ in calls] == [A]
    assert [
        q["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for q in calls[0][1]["MetricDataQueries"]
    ] == ["app"]


@pytest.mark.parametrize(
    ("when_unmeasured", "expected"),
    [("allow", ["", ""]), ("skip", ["memory_utilization", "memory_utilization;timeout_utilization"])],
)
def test_unmeasured_is_let_through_or_skipped_as_configured(
    aws: Faulty, when_unmeasured: str, expected: list[str]
) -> None:
    ran(A, "ran", 300)
    by = rules({"utilization": {"when_unmeasured": when_unmeasured}})
    found = measured(aws, by, {A: [function("ran", account=A), function("never", account=A)]})
    assert list(found["timeout_utilization_outcome"]) == ["measured", "unmeasured"]
    assert list(found["reasons"]) == expected


def test_skipping_the_unmeasured_still_lets_the_measured_through(aws: Faulty) -> None:
    ran(A, "app", 300, memory_pct=20.0)
    by = rules({"utilization": {"when_unmeasured": "skip"}})
    found = measured(
        aws,
        by,
        {A: [function("app", account=A, layers=[INSIGHTS]), function("small", account=A, MemorySize=128)]},
    )
    assert list(found["verdict"]) == ["eligible", "skipped"]
    assert found.loc["small", "reasons"] == "memory"


@pytest.mark.parametrize("when_unmeasured", ["allow", "skip"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (refused("GetMetricData"), "access_denied"),
        (throttled("GetMetricData"), "throttled"),
        (OSError("x"), "error"),
    ],
)
def test_a_cloudwatch_that_does_not_answer_is_an_outcome_and_no_pass(
    aws: Faulty, caplog: pytest.LogCaptureFixture, when_unmeasured: str, error: Exception, outcome: str
) -> None:
    ran(B, "well", 300, memory_pct=1.0)

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> None:
        if account_id == A and method == "get_metric_data":
            raise error

    aws.fault = fault
    by = rules({"utilization": {"when_unmeasured": when_unmeasured}})
    found = measured(
        aws, by, {A: [function("ill", account=A)], B: [function("well", account=B, layers=[INSIGHTS])]}
    )
    assert list(found["verdict"]) == ["skipped", "eligible"]
    assert found.loc["ill", "reasons"] == "memory_utilization;timeout_utilization"
    assert list(found["timeout_utilization_outcome"]) == [outcome, "measured"]
    assert pd.isna(found.loc["ill", "timeout_utilization_pct"])
    assert f"utilization not read: {A} in us-east-1: {outcome}" in caplog.text


@pytest.mark.parametrize("status", ["InternalError", "Forbidden", "PartialData"])
def test_a_result_that_is_not_complete_is_no_measurement(aws: Faulty, status: str) -> None:
    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        results = [{"Id": "q0", "StatusCode": status, "Values": [1.0]}]
        return {"MetricDataResults": results} if method == "get_metric_data" else None

    aws.fault = fault
    row = measured(aws, rules(), {A: [function("app", account=A)]}).loc["app"]
    assert (row["timeout_utilization_outcome"], row["verdict"]) == ("error", "skipped")


def test_a_metric_that_the_answer_leaves_out_is_no_measurement(aws: Faulty) -> None:
    aws.fault = lambda account_id, method, parameters: (
        {"MetricDataResults": []} if method == "get_metric_data" else None
    )
    assert measured(aws, rules(), {A: [function("app", account=A)]}).loc["app", "verdict"] == "skipped"


def test_pages_and_partial_results_add_up(aws: Faulty) -> None:
    pages = {
        None: {
            "MetricDataResults": [{"Id": "q0", "StatusCode": "PartialData", "Values": [300.0, 15_000.0]}],
            "NextToken": "2",
        },
        "2": {"MetricDataResults": [{"Id": "q0", "StatusCode": "Complete", "Values": [600.0]}]},
    }
    aws.fault = lambda account_id, method, parameters: (
        pages[parameters.get("NextToken")] if method == "get_metric_data" else None
    )
    assert (
        measured(aws, rules(), {A: [function("app", account=A)]}).loc["app", "timeout_utilization_pct"]
        == 50.0
    )


def test_a_token_that_comes_twice_ends_the_reading(aws: Faulty) -> None:
    aws.fault = lambda account_id, method, parameters: (
        {"MetricDataResults": [], "NextToken": "again"} if method == "get_metric_data" else None
    )
    assert (
        measured(aws, rules(), {A: [function("app", account=A)]}).loc["app", "timeout_utilization_outcome"]
        == "error"
    )


@pytest.mark.parametrize(("functions", "calls"), [(2, 1), (3, 1), (4, 2), (7, 3)])
def test_metrics_are_asked_for_500_a_call(
    aws: Faulty, monkeypatch: pytest.MonkeyPatch, functions: int, calls: int
) -> None:
    assert metrics.QUERIES_A_CALL == 500
    monkeypatch.setattr(metrics, "QUERIES_A_CALL", 3)
    for number in range(functions):
        ran(A, f"app-{number}", 300 * (number + 1))
    found = measured(aws, rules(), {A: [function(f"app-{n}", account=A) for n in range(functions)]})
    assert [round(float(pct)) for pct in found["timeout_utilization_pct"]] == [
        n + 1 for n in range(functions)
    ]
    assert sum(method == "get_metric_data" for _, method, _ in aws.asked) == calls


def test_switched_off_nothing_is_asked_and_the_columns_are_there(aws: Faulty) -> None:
    found = measured(aws, rules({"utilization": {"enabled": False}}), {A: [function("app", account=A)]})
    assert not any(method == "get_metric_data" for _, method, _ in aws.asked)
    assert found.loc["app", "timeout_utilization_outcome"] == "not_asked"
    assert found["memory_utilization_pct"].dtype == "float32"


def test_no_functions_need_no_calls(aws: Faulty) -> None:
    assert len(measured(aws, rules(), {})) == 0
    assert not any(method == "get_metric_data" for _, method, _ in aws.asked)


class Logs:
    """Logs Insights of one account: the log groups that exist, with the result row of each."""

    def __init__(
        self, groups: dict[str, dict[str, str]], *statuses: str, error: Exception | None = None
    ) -> None:
        self.groups, self.statuses, self.error = groups, list(statuses or ("Complete",)), error
        self.queries: list[list[str]] = []

    def __call__(self, account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if method == "start_query":
            return self.started(parameters["logGroupNames"])
        if method == "get_query_results":
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            rows = [
                {"@log": f"{account_id}:{name}", **self.groups[name]}
                for name in self.queries[-1]
                if self.groups[name]
            ]
            return {
                "status": status,
                "results": [[{"field": k, "value": v} for k, v in row.items()] for row in rows],
            }
        return None

    def started(self, names: list[str]) -> dict[str, Any]:
        if self.error:
            raise self.error
        if not set(names) <= self.groups.keys():
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "StartQuery")
        self.queries.append(names)
        return {"queryId": "q"}


FROM_LOGS = {"utilization": {"memory_from_logs": True}}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_logs, "POLL_SECONDS", 0.0)


def test_memory_comes_from_the_logs_where_the_configuration_asks_for_it(aws: Faulty) -> None:
    names = ["text", "json", "low", "silent", "custom-group", "idle"]
    for name in names[:-1]:
        ran(A, name, 300)
    logs = Logs(
        {"/aws/lambda/text": {"text_share": "0.97"}, "/aws/lambda/json": {"json_share": "0.96"},
         "/aws/lambda/low": {"text_share": "0.95"}, "/aws/lambda/silent": {}},
        "Scheduled", "Running", "Complete",
    )  # fmt: skip
    aws.fault = logs
    found = measured(aws, rules(FROM_LOGS), {A: [function(name, account=A) for name in names]})
    assert [None if pd.isna(pct) else round(float(pct), 2) for pct in found["memory_utilization_pct"]] == [
        97,
        96,
        95,
        None,
        None,
        None,
    ]
    assert list(found["memory_utilization_outcome"]) == ["measured"] * 3 + ["unmeasured"] * 3
    assert list(found["reasons"]) == ["memory_utilization", "memory_utilization", "", "", "", ""]
    assert not any("/aws/lambda/idle" in query for query in logs.queries)


def test_without_being_asked_for_no_logs_are_read(aws: Faulty) -> None:
    ran(A, "app", 300)
    measured(aws, rules(), {A: [function("app", account=A)]})
    assert not any(method == "start_query" for _, method, _ in aws.asked)


def test_lambda_insights_spares_the_logs(aws: Faulty) -> None:
    ran(A, "app", 300, memory_pct=10.0)
    measured(aws, rules(FROM_LOGS), {A: [function("app", account=A, layers=[INSIGHTS])]})
    assert not any(method == "start_query" for _, method, _ in aws.asked)


@pytest.mark.parametrize(
    ("logs", "outcome"),
    [
        (Logs({}, error=refused("StartQuery")), "access_denied"),
        (Logs({}, error=throttled("StartQuery")), "throttled"),
        (Logs({"/aws/lambda/app": {"text_share": "0.1"}}, "Running", "Failed"), "error"),
        (Logs({"/aws/lambda/app": {"text_share": "0.1"}}, "Timeout"), "error"),
    ],
)
def test_logs_that_cannot_be_read_are_an_outcome_and_no_pass(aws: Faulty, logs: Logs, outcome: str) -> None:
    ran(A, "app", 300)
    aws.fault = logs
    row = measured(aws, rules(FROM_LOGS), {A: [function("app", account=A)]}).loc["app"]
    assert (row["memory_utilization_outcome"], row["timeout_utilization_outcome"]) == (outcome, "measured")
    assert (row["verdict"], row["reasons"]) == ("skipped", "memory_utilization")


def test_a_query_that_never_ends_times_out(aws: Faulty) -> None:
    ran(A, "app", 300)
    aws.fault = Logs({"/aws/lambda/app": {}}, "Running")
    short = SweepSettings(workers=1, calls_per_second=100.0, unit_timeout_sec=1.0)
    row = measured(aws, rules(FROM_LOGS), {A: [function("app", account=A)]}, short).loc["app"]
    assert (row["memory_utilization_outcome"], row["verdict"]) == ("timed_out", "skipped")
