"""The hourly run spread over batches: the packaged code, called by the state machine that the schedule starts."""

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from remediator.state.store import run_folder
from tests.e2e.organization import EXTERNAL_ID, LAYER, REGIONS, Organization

EXECUTION_TIMEOUT_SEC = 300.0
# Seven accounts with the central one: four batches, the last of a single account.
MEMBERS = ("payments", "trading", "fraud", "identity", "ledger", "without-role")
COUNTS = (
    "units_expected",
    "units_read",
    "functions",
    "protected",
    "eligible",
    "skipped",
    "excluded",
    "exit_code",
)


class Machine:
    """The central stack with ScaleOut, and what can be asked of it."""

    def __init__(self, organization: Organization, package: bytes) -> None:
        self.organization = organization
        self.outputs = organization.deploy_central(
            package, ScaleOut="on", BatchSize="2", BatchConcurrency="2", BatchRetries="1"
        )
        self.organization.silence_schedules()
        self.bucket = self.outputs["ReportBucket"]

    def root(self, service: str) -> Any:
        return self.organization.emulator.root(self.organization.central, service)

    def configure(self, **rollout: Any) -> None:
        layer = f"arn:aws:lambda:{{region}}:{self.organization.central}:layer:{LAYER}:1"
        configuration = {
            "organization": {
                "role_name": "AutoDefenderMember",
                "external_id": EXTERNAL_ID,
                "regions": list(REGIONS),
            },
            "defender": {"layers": {"python": layer}, "wrapper": "/opt/twistlock/wrapper"},
            "risk": {"runtime_families": ["python"]},
            "rollout": {"quiet_minutes": 0, **rollout},
            "output": f"s3://{self.bucket}",
        }
        self.root("ssm").put_parameter(
            Name="/auto-defender/configuration",
            Type="SecureString",
            Value=yaml.safe_dump(configuration),
            Overwrite=True,
        )

    def functions_write(self, write: bool) -> None:
        """Set DRY_RUN as an update of the stack with the parameter DryRun does."""
        client = self.root("lambda")
        variables = client.get_function_configuration(FunctionName=self.outputs["FunctionName"])[
            "Environment"
        ]
        variables["Variables"]["DRY_RUN"] = "false" if write else "true"
        client.update_function_configuration(FunctionName=self.outputs["FunctionName"], Environment=variables)

    def call(self, **event: Any) -> dict[str, Any]:
        """Invoke the function by hand and give its answer."""
        payload = json.dumps(event).encode()
        answer = self.root("lambda").invoke(FunctionName=self.outputs["FunctionName"], Payload=payload)
        reported: dict[str, Any] = json.loads(answer["Payload"].read())
        return reported

    def start(self) -> str:
        """Let the emulator's scheduler deliver the hourly schedule's own target now; give the execution's ARN."""
        before = {execution["executionArn"] for execution in self._executions()}
        scheduler = self.root("scheduler")
        (name,) = (s["Name"] for s in scheduler.list_schedules()["Schedules"] if "-Hourly-" in s["Name"])
        target = scheduler.get_schedule(Name=name)["Target"]
        scheduler.create_schedule(
            Name=f"now-{len(before)}",
            ScheduleExpression=f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target,
        )
        deadline = time.monotonic() + EXECUTION_TIMEOUT_SEC
        while time.monotonic() < deadline:
            new = {execution["executionArn"] for execution in self._executions()} - before
            if new:
                return str(new.pop())
            time.sleep(0.2)
        raise AssertionError("the schedule started no execution")

    def ended(self, execution: str) -> dict[str, Any]:
        """Wait for an execution's end."""
        states, deadline = self.root("stepfunctions"), time.monotonic() + EXECUTION_TIMEOUT_SEC
        while time.monotonic() < deadline:
            described: dict[str, Any] = states.describe_execution(executionArn=execution)
            if described["status"] != "RUNNING":
                return described
            time.sleep(0.3)
        raise AssertionError(f"the execution did not end; the functions' log: {self.log()}")

    def output(self, execution: str) -> dict[str, Any]:
        """Wait for an execution's end and return its output."""
        described = self.ended(execution)
        assert described["status"] == "SUCCEEDED", (described.get("cause"), self.log())
        output: dict[str, Any] = json.loads(described["output"])
        return output

    def rows(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.read(f"latest/{name}").decode("utf-8-sig"))))

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.read("latest/summary.json"))
        return summary

    def read(self, key: str) -> bytes:
        body: bytes = self.root("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        listed = self.root("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", [])]

    def log(self) -> list[str]:
        logs = self.root("logs")
        groups = [found["logGroupName"] for found in logs.describe_log_groups()["logGroups"]]
        return [
            event["message"]
            for group in groups
            for event in logs.filter_log_events(logGroupName=group)["events"]
        ][-20:]

    def _executions(self) -> list[dict[str, Any]]:
        arn = self.outputs["StateMachineArn"]
        found: list[dict[str, Any]] = self.root("stepfunctions").list_executions(stateMachineArn=arn)[
            "executions"
        ]
        return found


@pytest.fixture(scope="module")
def machine(new_organization: Callable[[], Organization], package: bytes) -> Machine:
    """Return an organization of seven accounts, one of which lacks the member role."""
    created = new_organization()
    deployed = Machine(created, package)
    created.deploy_member(created.central, "General")
    for name in MEMBERS:
        account_id = created.add_account(name)
        if name != "without-role":
            created.deploy_member(account_id, "General")
            created.add_function(account_id, REGIONS[0], f"{name}-orders")
            created.add_function(account_id, REGIONS[1], f"{name}-small", MemorySize=128)
    for region in REGIONS:
        created.share_layer(region)
    deployed.configure()
    return deployed


def sorted_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def test_a_run_in_batches_is_a_run_of_one_process(machine: Machine) -> None:
    # A dry run in one process, by the same function.
    whole = machine.call(job="run")
    assert whole.get("mode") == "dry_run", (whole, machine.log())
    tables = ("units.csv", "functions.csv", "accounts.csv", "changes.csv")
    one = {name: sorted_rows(machine.rows(name)) for name in tables}

    execution = machine.start()
    brief = machine.output(execution)
    assert brief["run_id"] != whole["run_id"]
    steps = machine.summary()
    assert {name: steps[name] for name in COUNTS} == {name: whole[name] for name in COUNTS}
    assert (
        steps["calls"]["lambda.list_functions"]["calls"] == whole["calls"]["lambda.list_functions"]["calls"]
    )
    assert {name: sorted_rows(machine.rows(name)) for name in tables} == one
    assert brief["units_expected"] == 14
    (map_run,) = machine.root("stepfunctions").list_map_runs(executionArn=execution)["mapRuns"]
    counts = machine.root("stepfunctions").describe_map_run(mapRunArn=map_run["mapRunArn"])["itemCounts"]
    assert (counts["total"], counts["succeeded"]) == (4, 4)


def test_a_run_in_batches_protects_and_leaves_nothing_behind(machine: Machine) -> None:
    machine.functions_write(True)
    brief = machine.output(machine.start())
    assert (brief["mode"], brief["changed"], brief["failed"]) == ("apply", 5, 0)
    assert brief["exit_code"] == 3  # the account without a role
    for name in MEMBERS[:5]:
        client = machine.organization.emulator.root(machine.organization.members[name], "lambda", REGIONS[0])
        (layer,) = client.get_function_configuration(FunctionName=f"{name}-orders")["Layers"]
        assert layer["Arn"] == f"arn:aws:lambda:{REGIONS[0]}:{machine.organization.central}:layer:{LAYER}:1"
    assert machine.keys("state/open/") == []
    left = [key for key in machine.keys("state/batches/") if brief["run_id"] in key]
    assert left == [f"state/batches/{brief['run_id']}/ending.json"]
    assert machine.keys(f"journals/{brief['run_id']}/")


def test_an_execution_is_refused_while_another_is_under_way(machine: Machine) -> None:
    machine.functions_write(True)
    # What the first step of another execution leaves behind, whose batches are still to come.
    other = {"execution": "another", "started": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    begun = machine.call(job="manifest", batch_size=2, **other)
    assert "state/lock.json" in machine.keys("state/lock")
    try:
        refused = machine.ended(machine.start())
    finally:
        machine.call(job="merge", run_id=begun["run_id"])
    assert refused["status"] == "FAILED"
    # AWS names the error by its class, GuardStop; the emulator has one name for all errors.
    assert f"run {begun['run_id']} on " in refused["cause"]
    assert "is under way" in refused["cause"]
    assert json.loads(machine.read("state/lock.json"))["released"]


def test_a_batch_that_fails_for_good_is_reported_and_nothing_is_changed(machine: Machine) -> None:
    machine.functions_write(True)
    account_id = machine.organization.members["payments"]
    machine.organization.add_function(account_id, REGIONS[0], "late-orders")
    client = machine.root("lambda")
    (batch_function,) = (
        found["FunctionName"]
        for found in client.list_functions()["Functions"]
        if "BatchFunction" in found["FunctionName"]
    )
    client.put_function_concurrency(FunctionName=batch_function, ReservedConcurrentExecutions=0)
    try:
        brief = machine.output(machine.start())
    finally:
        client.put_function_concurrency(FunctionName=batch_function, ReservedConcurrentExecutions=2)
    assert (brief["exit_code"], brief["stopped_by"], brief["changed"]) == (5, "tolerated_failures", 0)
    assert brief["units_expected"] == 14
    units = machine.read(f"{run_folder(brief['run_id'])}/units.csv").decode("utf-8-sig")
    assert {row["outcome"] for row in csv.DictReader(io.StringIO(units))} == {"timed_out"}
    assert json.loads(machine.read("state/lock.json"))["released"]
