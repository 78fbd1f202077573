"""The rollout as a user sees it: waves, the health watch, drift and the kill switch, by the command line."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.awslambda.models import lambda_backends
from moto.cloudwatch.models import cloudwatch_backends

from auto_defender.demo.organization import Organization
from tests.functional.moto_server import (
    Workspace,
    auto_defender,
    configurations,
    environment,
)


def state(organization: Organization) -> dict[str, dict[str, Any]]:
    return configurations([account.id for account in organization.accounts])


def run(server: str, config: str, *more: str) -> Any:
    return auto_defender("run", "--config", config, "--apply", *more, env=environment(server))


def changed(workspace: Workspace, summary: dict[str, Any], action: str = "") -> list[str]:
    changes = workspace.run_file(summary["run_id"], "changes.csv").splitlines()[1:]
    return [line.split(",")[3] for line in changes if f"{action},changed," in line]


def report(workspace: Workspace, summary: dict[str, Any]) -> str:
    return workspace.run_file(summary["run_id"], "report.html")


def hours_ago(workspace: Workspace, run_id: str, hours: int) -> datetime:
    """Let a run have made its changes some hours ago, and give when."""
    at = datetime.now(UTC) - timedelta(hours=hours)
    for path in (workspace.folder / "out/journals" / run_id).glob("*.jsonl"):
        lines = [json.loads(line) | {"at": at.isoformat()} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return at


def count(arn: str, at: datetime, **values: float) -> None:
    """Let CloudWatch have counted something of a function."""
    _, _, _, region, account, _, name = arn.split(":")
    metrics = [
        {
            "MetricName": metric,
            "Value": value,
            "Timestamp": at.replace(tzinfo=None),
            "Dimensions": [{"Name": "FunctionName", "Value": name}],
        }
        for metric, value in values.items()
    ]
    cloudwatch_backends[account][region].put_metric_data("AWS/Lambda", metrics)


def count_before(arn: str, at: datetime) -> None:
    """Let a function have been called in the same hours of ten earlier days: an hour that is over by now."""
    for days in range(1, 11):
        moment = at + timedelta(minutes=90) - timedelta(days=days)
        count(arn, moment, Invocations=500, Errors=0.3, Duration=50_000)


def test_only_the_first_wave_is_changed_and_the_run_reports_the_status_of_the_waves(
    server: str, workspace: Workspace
) -> None:
    before = state(workspace.organization)
    dry = auto_defender("run", "--config", workspace.configure(), "--json", env=environment(server))
    accounts = sorted({arn.split(":")[4] for arn in planned(workspace, dry.summary)})
    pilot, *others = accounts
    assert others
    waves = [{"name": "pilot", "accounts": [pilot], "soak_hours": 24}]
    config = workspace.configure(rollout={"waves": waves})
    first = run(server, config)
    assert "wave           pilot: soaking, soaks until" in first.stdout, first.stderr[-2000:]
    again = run(server, config, "--json")
    (wave,) = again.summary["waves"]
    assert (wave["name"], wave["stage"], wave["failed"]) == ("pilot", "soaking", 0)
    assert wave["changed"] > 0
    assert json.loads(workspace.run_file(again.summary["run_id"], "plan.json"))["held_back"]["wave"] > 0
    assert "Waves of the rollout" in report(workspace, again.summary)
    now = state(workspace.organization)
    assert {arn.split(":")[4] for arn in now if now[arn] != before[arn]} == {pilot}


def planned(workspace: Workspace, summary: dict[str, Any]) -> list[str]:
    return [
        change["function_arn"]
        for change in json.loads(workspace.run_file(summary["run_id"], "plan.json"))["changes"]
    ]


def test_a_function_that_regressed_is_rolled_back_and_named(server: str, workspace: Workspace) -> None:
    config = workspace.configure()
    before = state(workspace.organization)
    first = run(server, config, "--json").summary
    bad, good, *_ = changed(workspace, first)
    at = hours_ago(workspace, first["run_id"], 3)
    for arn, errors in ((bad, 300), (good, 0)):
        count_before(arn, at)
        count(arn, at + timedelta(hours=1), Invocations=600, Errors=errors, Duration=60_000)

    dry = auto_defender("run", "--config", config, "--json", env=environment(server)).summary
    assert dry["health"]["regressed"] == 1
    assert state(workspace.organization)[bad]["Layers"] != before[bad]["Layers"]

    second = run(server, config, "--json").summary
    assert second["health"]["healthy"] == 1
    assert second["health"]["too_little_traffic"] == second["health"]["watched"] - 2
    (named,) = second["health"]["regressed_functions"]
    assert named["function_arn"] == bad
    assert "errors 0.06 % of 5,000 invocations before, 50.00 % of 600 after" in named["why"]
    assert second["changes_by_outcome"]["rolled_back"] == 1
    now = state(workspace.organization)
    assert now[bad]["Layers"] == before[bad]["Layers"]
    assert now[bad]["Environment"] == before[bad]["Environment"]
    assert now[good]["Layers"] != before[good]["Layers"]
    page = report(workspace, second)
    assert "Regressed since their change: 1" in page
    assert bad in page

    third = run(server, config, "--json").summary
    assert third["health"]["regressed"] == 0
    assert third["quarantined"] == second["quarantined"]
    assert bad not in changed(workspace, third)
    assert "quarantined" in third["by_reason"]


def test_what_regressed_and_can_not_be_rolled_back_is_not_changed_by_the_same_run(
    server: str, workspace: Workspace
) -> None:
    config = workspace.configure(risk={"utilization": {"enabled": False}})
    first = run(server, config, "--json").summary
    bad = changed(workspace, first)[0]
    at = hours_ago(workspace, first["run_id"], 3)
    count_before(bad, at)
    count(bad, at + timedelta(hours=1), Invocations=600, Errors=300, Duration=60_000)
    function = function_of(bad)
    ours = function.layers[-1]["Arn"]
    older = f"{ours.rpartition(':')[0]}:{int(ours.rpartition(':')[2]) - 1}"
    function.layers = [*function.layers[:-1], function.layers[-1] | {"Arn": older}]

    second = run(server, config, "--json").summary
    assert second["health"]["regressed"] == 1
    assert second["changes_by_outcome"]["dropped"] == 1
    assert changed(workspace, second) == []
    assert json.loads(workspace.run_file(second["run_id"], "plan.json"))["held_back"]["regressed"] == 1


def test_more_than_a_few_regressions_stop_the_run(server: str, workspace: Workspace) -> None:
    config = workspace.configure(rollout={"health": {"max_regressed": 0}})
    first = run(server, config, "--json").summary
    bad = changed(workspace, first)[0]
    at = hours_ago(workspace, first["run_id"], 3)
    count_before(bad, at)
    count(bad, at + timedelta(hours=1), Invocations=600, Errors=300, Duration=60_000)
    for _ in range(2):  # it stays open while the regression is fresh
        stopped = run(server, config)
        assert stopped.exit_code == 5
        assert (
            "stopped by the guard 'health'" in stopped.stdout + stopped.stderr or "health" in stopped.stdout
        )


def test_an_open_breaker_and_open_journals_come_before_an_approved_plan(
    server: str, workspace: Workspace
) -> None:
    config, env = workspace.configure(rollout={"health": {"max_regressed": 0}}), environment(server)
    plan = str(workspace.folder / "plan.json")
    planned = auto_defender("plan", "--config", config, "--out", plan, "--json", env=env).summary
    arn = planned["changes"][0]["function_arn"]
    before = state(workspace.organization)
    entry = {"function_arn": arn, "since": datetime.now(UTC).isoformat(), "run_id": planned["run_id"]}
    quarantine = workspace.folder / "out/state/quarantine.json"
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    quarantine.write_text(json.dumps([entry | {"reason": "slow", "regressed": True}]))
    stopped = auto_defender("apply", "--config", config, plan, "--json", env=env)
    assert stopped.exit_code == 5, stopped.stderr[-2000:]
    assert stopped.summary["stopped_by"] == "health"
    assert stopped.summary["changes_by_outcome"] == {"deferred": len(planned["changes"])}
    assert "resolve" in stopped.summary["stages_sec"]
    assert state(workspace.organization) == before


@pytest.mark.parametrize("allowed", [0, 1])
def test_an_approved_plan_is_held_back_by_what_an_earlier_one_did_and_rolls_nothing_back(
    server: str, workspace: Workspace, allowed: int
) -> None:
    limits = {"max_changes_per_run": 2, "health": {"max_regressed": allowed}}
    config, env = workspace.configure(rollout=limits), environment(server)
    plan = str(workspace.folder / "plan.json")

    def approved() -> dict[str, Any]:
        auto_defender("plan", "--config", config, "--out", plan, env=env)
        return auto_defender("apply", "--config", config, plan, "--json", env=env).summary

    first = approved()
    bad, _ = changed(workspace, first)
    at = hours_ago(workspace, first["run_id"], 3)
    count_before(bad, at)
    count(bad, at + timedelta(hours=1), Invocations=600, Errors=300, Duration=60_000)
    before = state(workspace.organization)

    second = approved()
    assert second["stopped_by"] == (None if allowed else "health")
    assert second["changes_by_outcome"] == {"changed" if allowed else "deferred": 2}
    assert (second["health"]["watched"], second["health"]["regressed"]) == (2, 1)
    assert bad in report(workspace, second)
    after = state(workspace.organization)
    assert after[bad] == before[bad]
    assert {arn for arn in after if after[arn] != before[arn]} == set(changed(workspace, second))


def test_a_function_that_lost_the_defender_three_times_is_given_up_with_what_makes_it_permanent(
    server: str, workspace: Workspace
) -> None:
    config = workspace.configure()
    first = run(server, config, "--json").summary
    arn = changed(workspace, first, "protect")[0]
    redeployed(arn)
    second = run(server, config, "--json").summary
    assert second["drift"] == {"lost": 1, "given_up": 0}
    assert arn in changed(workspace, second)
    path = workspace.folder / f"out/state/functions/{arn.split(':')[4]}.json"
    document = json.loads(path.read_text())
    (mine,) = [one["protections"] for one in document["functions"] if one["function_arn"] == arn]
    assert mine["times"] == 2
    mine["times"] = 3
    path.write_text(json.dumps(document))
    redeployed(arn)

    third = run(server, config, "--json").summary
    assert third["drift"] == {"lost": 1, "given_up": 1}
    assert changed(workspace, third) == []
    page = report(workspace, third)
    assert "Lost the Defender: 1" in page
    assert "put it into its template (Terraform)" in page
    explained = auto_defender("explain", "--config", config, arn, env=environment(server))
    assert "it lost the Defender that a run added, 3 times" in explained.stdout
    assert 'layers = ["arn:aws:lambda:' in explained.stdout


def function_of(arn: str) -> Any:
    _, _, _, region, account, _, name = arn.split(":")
    return lambda_backends[account][region].get_function(name)


def redeployed(arn: str) -> None:
    function = function_of(arn)
    function.layers = []
    function.environment_vars = {}


@pytest.mark.parametrize("value", ["on", "off", None])
def test_the_kill_switch_may_be_a_parameter(server: str, workspace: Workspace, value: str | None) -> None:
    config = workspace.configure(rollout={"kill_switch": "ssm:/auto-defender/stop"})
    if value:
        boto3.client(
            "ssm", "us-east-1", endpoint_url=server, aws_access_key_id="AKIATESTTESTTESTTEST", aws_secret_access_key="testing"
        ).put_parameter(Name="/auto-defender/stop", Value=value, Type="String")  # fmt: skip
    done = run(server, config, "--json")
    if value == "off":
        assert done.summary["changed"] > 0
    else:
        assert done.exit_code == 5
        assert done.summary["stopped_by"] == "kill_switch"
        assert done.summary["changed"] == 0
        assert ("is not off (on)" if value else "could not be read") in done.stderr
