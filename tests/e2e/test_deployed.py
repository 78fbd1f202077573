"""The package that `make package` built, deployed by the central stack and started by its schedule's target."""

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
import yaml

from tests.e2e.organization import EXTERNAL_ID, LAYER, REGIONS, Organization

RUN_TIMEOUT_SEC = 300.0


@pytest.fixture(scope="module")
def organization(new_organization: Callable[[], Organization], package: bytes) -> Organization:
    """Return an organization in general availability, its central stack at work with the real package."""
    created = new_organization()
    bucket = created.deploy_central(package, DryRun="false")["ReportBucket"]
    created.silence_schedules()
    account_id = created.add_account("payments")
    created.deploy_member(account_id, "General")
    created.deploy_member(created.central, "General")
    created.add_function(account_id, REGIONS[0], "orders")
    layers = {region: created.share_layer(region) for region in REGIONS}
    created.emulator.root(created.central, "ssm").put_parameter(
        Name="/auto-defender/configuration",
        Type="SecureString",
        Value=yaml.safe_dump(
            {
                "organization": {
                    "role_name": "AutoDefenderMember",
                    "external_id": EXTERNAL_ID,
                    "regions": list(REGIONS),
                },
                "defender": {
                    "layers": {"python": layers},
                    "wrapper": "/opt/twistlock/wrapper",
                },
                "risk": {"runtime_families": ["python"]},
                "rollout": {"quiet_minutes": 0},
                "output": f"s3://{bucket}",
            }
        ),
    )
    return created


def start(organization: Organization, schedule: str, **event: str) -> None:
    """Let the emulator's scheduler deliver a schedule's own target now, with more in its event where need be."""
    scheduler = organization.emulator.root(organization.central, "scheduler")
    (name,) = (s["Name"] for s in scheduler.list_schedules()["Schedules"] if f"-{schedule}-" in s["Name"])
    target = scheduler.get_schedule(Name=name)["Target"]
    scheduler.create_schedule(
        Name=f"{schedule}-now",
        ScheduleExpression=f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={**target, "Input": json.dumps({**json.loads(target["Input"]), **event})},
    )


def report(organization: Organization, key: str) -> Any:
    """Wait for a JSON document in the report bucket."""
    stack = organization.emulator.root(organization.central, "cloudformation").describe_stacks(
        StackName="central"
    )
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Stacks"][0]["Outputs"]}
    s3 = organization.emulator.root(organization.central, "s3")
    deadline = time.monotonic() + RUN_TIMEOUT_SEC
    while time.monotonic() < deadline:
        listed = s3.list_objects_v2(Bucket=outputs["ReportBucket"], Prefix=key)
        if listed["KeyCount"]:
            body = s3.get_object(Bucket=outputs["ReportBucket"], Key=listed["Contents"][0]["Key"])[
                "Body"
            ].read()
            return json.loads(body)
        time.sleep(0.2)
    raise AssertionError(f"no {key} after {RUN_TIMEOUT_SEC} s; the function's log: {_log(organization)}")


def _log(organization: Organization) -> list[str]:
    logs = organization.emulator.root(organization.central, "logs")
    (group,) = (found["logGroupName"] for found in logs.describe_log_groups()["logGroups"])
    return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]][-20:]


def test_the_schedules_protect_and_report(organization: Organization) -> None:
    start(organization, "Hourly")
    summary = report(organization, "latest/summary.json")
    assert (summary["mode"], summary["exit_code"]) == ("apply", 0)
    # The two accounts in two regions; the central account's function is Auto-Defender itself.
    assert (summary["units_read"], summary["changed"], summary["protected"]) == (4, 1, 1)
    client = organization.emulator.root(organization.members["payments"], "lambda", REGIONS[0])
    (layer,) = client.get_function_configuration(FunctionName="orders")["Layers"]
    assert layer["Arn"] == f"arn:aws:lambda:{REGIONS[0]}:{organization.central}:layer:{LAYER}:1"

    # By itself it reports the week that ended, in which this organization did not run yet.
    week = f"{date.fromisoformat(summary['run_id'][:8]):%G-W%V}"
    start(organization, "Weekly", week=week)
    assert report(organization, f"weekly/{week}/summary.json")["week"] == week
