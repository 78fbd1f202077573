"""The central stack: what an emulator does not check of it."""

from typing import Any

import pytest

from tests.unit.stacksets.policy import decision
from tests.unit.stacksets.render import CENTRAL, render


def central(**parameters: str) -> dict[str, Any]:
    return render("central.yaml", CENTRAL, CodeBucket="code", CodeKey="package.zip", **parameters)


def test_the_hourly_and_the_weekly_run_are_scheduled() -> None:
    stack = central()
    assert stack["Hourly"]["Properties"]["ScheduleExpression"] == "cron(0 * * * ? *)"
    assert stack["Weekly"]["Properties"]["ScheduleExpression"] == "cron(30 5 ? * MON *)"
    assert {stack[name]["Properties"]["State"] for name in ("Hourly", "Weekly")} == {"ENABLED"}
    assert stack["Function"]["Properties"]["ReservedConcurrentExecutions"] == 1


def test_the_kill_switch_leaves_no_way_to_run() -> None:
    stack = central(KillSwitch="on")
    assert {stack[name]["Properties"]["State"] for name in ("Hourly", "Weekly")} == {"DISABLED"}
    assert stack["Function"]["Properties"]["ReservedConcurrentExecutions"] == 0


def test_a_stack_with_its_defaults_is_a_dry_run() -> None:
    assert central()["Function"]["Properties"]["Environment"]["Variables"]["DRY_RUN"] == "true"
    assert central(DryRun="false")["Function"]["Properties"]["Environment"]["Variables"]["DRY_RUN"] == "false"


def test_deletion_keeps_the_reports_their_key_and_the_log() -> None:
    stack = central()
    kept = {key for key, resource in stack.items() if resource.get("DeletionPolicy") == "Retain"}
    assert kept == {"Reports", "ReportsPolicy", "Key", "Log"}
    assert all(stack[key]["UpdateReplacePolicy"] == "Retain" for key in kept)


def test_the_report_bucket_is_encrypted_versioned_and_never_public() -> None:
    bucket = central()["Reports"]["Properties"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "Key.Arn"}
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("sts:AssumeRole", "arn:aws:iam::444455556666:role/AutoDefenderMember", "Allow"),
        ("sts:AssumeRole", "arn:aws:iam::444455556666:role/OrganizationAccountAccessRole", "ImplicitDeny"),
        (
            "ssm:GetParameter",
            f"arn:aws:ssm:us-east-1:{CENTRAL}:parameter/auto-defender/configuration",
            "Allow",
        ),
        ("ssm:GetParameter", f"arn:aws:ssm:us-east-1:{CENTRAL}:parameter/other/secret", "ImplicitDeny"),
        ("s3:PutObject", "Reports.Arn/runs/2026/11/24/one/report.html", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/state/lock", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/latest/report.html", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/runs/2026/11/24/one/report.html", "ImplicitDeny"),
        ("s3:DeleteObjectVersion", "Reports.Arn/state/lock", "ImplicitDeny"),
        ("s3:GetObject", "arn:aws:s3:::another-bucket/secret", "ImplicitDeny"),
        ("organizations:ListAccounts", "*", "Allow"),
        ("organizations:MoveAccount", "*", "ImplicitDeny"),
        (
            "lambda:UpdateFunctionConfiguration",
            f"arn:aws:lambda:us-east-1:{CENTRAL}:function:any",
            "ImplicitDeny",
        ),
        ("iam:PassRole", f"arn:aws:iam::{CENTRAL}:role/any", "ImplicitDeny"),
    ],
)
def test_the_central_role_may_do_its_work_and_no_more(action: str, resource: str, expected: str) -> None:
    (policy,) = central()["Role"]["Properties"]["Policies"]
    assert decision(policy["PolicyDocument"], action, resource) == expected


def test_every_alarm_reaches_the_topic() -> None:
    alarms = [r["Properties"] for r in central().values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 7
    assert all(alarm["AlarmActions"] == ["Alarms"] for alarm in alarms)


def test_an_e_mail_address_is_subscribed_when_one_is_given() -> None:
    assert "AlarmsByEmail" not in central()
    assert (
        central(AlarmEmail="soc@example.com")["AlarmsByEmail"]["Properties"]["Endpoint"] == "soc@example.com"
    )
