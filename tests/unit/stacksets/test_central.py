"""The central stack: what an emulator does not check of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scanner.core.errors import BadInput, GuardStop, InternalError, WrongAccount
from storage.s3 import EXPIRES
from tests.unit.stacksets.policy import decision
from tools.templates import CENTRAL, render

STACK_SET = "arn:aws:cloudformation:us-east-1:999999999999:stackset/auto-defender-member:0a1b2c3d"


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


def test_no_name_of_the_central_role_cuts_the_list_of_those_who_may_write() -> None:
    """The bucket's policy splits its ARN and those of the operators at commas."""
    assert central(RoleName="Auto_Defender+=.@-9")["Role"]["Properties"]["RoleName"] == "Auto_Defender+=.@-9"
    with pytest.raises(ValueError, match="RoleName"):
        central(RoleName="Auto,Defender")


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
        ("s3:PutObject", "Reports.Arn/latest.json", "Allow"),
        ("s3:PutObject", "Reports.Arn/journals/20261124T034232Z-1a2b3c/00001.jsonl", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/journals/20261124T034232Z-1a2b3c/00001.jsonl", "ImplicitDeny"),
        ("s3:GetObject", "Reports.Arn/config/optouts.yaml", "Allow"),
        ("s3:PutObject", "Reports.Arn/config/optouts.yaml", "Deny"),
        ("s3:PutObject", "Reports.Arn/state/lock.json", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/state/lock", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/latest/report.html", "Allow"),
        ("s3:DeleteObject", "Reports.Arn/runs/2026/11/24/one/report.html", "ImplicitDeny"),
        ("s3:DeleteObjectVersion", "Reports.Arn/state/lock", "ImplicitDeny"),
        ("s3:GetObject", "arn:aws:s3:::another-bucket/secret", "ImplicitDeny"),
        ("organizations:ListAccounts", "*", "Allow"),
        ("organizations:DescribeOrganization", "*", "Allow"),
        ("organizations:ListDelegatedAdministrators", "*", "Allow"),
        ("cloudformation:DescribeStackSet", STACK_SET, "Allow"),
        ("cloudformation:ListStackInstances", STACK_SET, "Allow"),
        ("cloudformation:UpdateStackSet", STACK_SET, "ImplicitDeny"),
        ("cloudformation:DescribeStackSet", STACK_SET.replace("auto-defender", "other"), "ImplicitDeny"),
        ("sns:Publish", "Alarms", "Allow"),
        ("sns:GetTopicAttributes", "Alarms", "Allow"),
        ("sns:Publish", f"arn:aws:sns:us-east-1:{CENTRAL}:other", "ImplicitDeny"),
        ("sns:Subscribe", "Alarms", "ImplicitDeny"),
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


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("securityhub:BatchImportFindings", f"{CENTRAL}:product/{CENTRAL}/default", "Allow"),
        ("securityhub:BatchImportFindings", ":product/aws/guardduty", "ImplicitDeny"),
        ("securityhub:BatchUpdateFindings", f"{CENTRAL}:product/{CENTRAL}/default", "ImplicitDeny"),
    ],
)
def test_findings_may_be_imported_only_where_that_is_asked_for(
    action: str, resource: str, expected: str
) -> None:
    assert "FindingsPolicy" not in central()
    policy = central(SecurityHub="on")["FindingsPolicy"]["Properties"]
    assert policy["Roles"] == ["Role"]
    assert decision(policy["PolicyDocument"], action, f"arn:aws:securityhub:eu-west-1:{resource}") == expected


PRODUCT = f"arn:aws:iam::{CENTRAL}:role/AutoDefender"
ADMINISTRATOR = f"arn:aws:iam::{CENTRAL}:role/Administrator"
OPERATOR = (
    f"arn:aws:iam::{CENTRAL}:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Operator_0a1b2c3d"
)
OPERATORS = f"arn:aws:iam::{CENTRAL}:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Operator_*"
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
# What is read back, the journals of former versions among it.
READ_BACK = (
    "state/lock.json",
    "state/quarantine.json",
    "state/batches/20261124T034232Z-1a2b3c/0001.json.gz",
    "state/stop/more",
    "state/stopped",
    "runs/2026/11/24/20261124T034232Z-1a2b3c/journal.jsonl",
    "latest.json",
    "latest/summary.json",
)
SEGMENT = "journals/20261124T034232Z-1a2b3c/00001.jsonl"
CREATES = {"s3:if-none-match": "*"}


def in_bucket(action: str, key: str, principal: str | None, **parameters: str) -> str:
    """Decide on a request of a principal whom IAM allows everything; None: one without an ARN, such as a service."""
    stack = render(
        "central.yaml",
        CENTRAL,
        {"Role.Arn": PRODUCT, "Reports.Arn": "arn:aws:s3:::reports"},
        **{"CodeBucket": "code", "CodeKey": "package.zip", **parameters},
    )
    policy = stack["ReportsPolicy"]["Properties"]["PolicyDocument"]
    both = {"Statement": [EVERYTHING, *policy["Statement"]]}
    context = {"aws:SecureTransport": "true"} | ({"aws:PrincipalArn": principal} if principal else {})
    if action == "s3:PutObject" and key.startswith("journals/"):
        context |= CREATES
    return decision(both, action, f"arn:aws:s3:::reports/{key}", context)


@pytest.mark.parametrize(
    "action", ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectTagging"]
)
@pytest.mark.parametrize("key", READ_BACK)
def test_what_is_read_back_is_written_by_auto_defender_alone(action: str, key: str) -> None:
    assert in_bucket(action, key, PRODUCT) == "Allow"
    for other in (ADMINISTRATOR, OPERATOR, f"{PRODUCT}2", f"arn:aws:iam::{CENTRAL}:root", None):
        assert in_bucket(action, key, other) == "Deny"
    assert in_bucket("s3:GetObject", key, ADMINISTRATOR) == "Allow"


@pytest.mark.parametrize("key", ["state/stop", "config/optouts.yaml"])
@pytest.mark.parametrize("action", ["s3:PutObject", "s3:DeleteObject"])
def test_people_may_put_the_kill_switch_and_the_opt_outs(action: str, key: str) -> None:
    assert in_bucket(action, key, ADMINISTRATOR) == "Allow"


def test_roles_of_operators_write_what_auto_defender_writes() -> None:
    for key in (*READ_BACK, SEGMENT):
        assert in_bucket("s3:PutObject", key, OPERATOR, OperatorRoleArns=OPERATORS) == "Allow"
        assert (
            in_bucket("s3:PutObject", key, OPERATOR, OperatorRoleArns=f"{ADMINISTRATOR},{OPERATORS}")
            == "Allow"
        )
        assert in_bucket("s3:PutObject", key, PRODUCT, OperatorRoleArns=OPERATORS) == "Allow"
        assert in_bucket("s3:PutObject", key, ADMINISTRATOR, OperatorRoleArns=OPERATORS) == "Deny"
    assert in_bucket("s3:DeleteObject", SEGMENT, OPERATOR, OperatorRoleArns=OPERATORS) == "Deny"


@pytest.mark.parametrize("principal", [PRODUCT, ADMINISTRATOR, None])
@pytest.mark.parametrize("action", ["s3:DeleteObject", "s3:DeleteObjectVersion"])
def test_nobody_deletes_a_journal(action: str, principal: str | None) -> None:
    assert in_bucket(action, SEGMENT, principal) == "Deny"


def test_a_segment_of_a_journal_is_created_and_never_written_again() -> None:
    assert in_bucket("s3:PutObject", SEGMENT, PRODUCT) == "Allow"
    assert in_bucket("s3:PutObject", SEGMENT, ADMINISTRATOR) == "Deny"
    policy = central()["ReportsPolicy"]["Properties"]["PolicyDocument"]
    context = {"aws:PrincipalArn": "Role.Arn", "aws:SecureTransport": "true"}
    assert decision(policy, "s3:PutObject", f"Reports.Arn/{SEGMENT}", context) == "Deny"
    assert decision(policy, "s3:PutObject", f"Reports.Arn/{SEGMENT}", context | CREATES) == "ImplicitDeny"


@pytest.mark.parametrize(
    "refused",
    ["*", "arn:aws:iam::*:role/Operator", f"arn:aws:iam::{CENTRAL}:role/*", f"{OPERATORS}, {PRODUCT}"],
)
def test_operators_are_roles_of_a_named_account(refused: str) -> None:
    with pytest.raises(ValueError, match="OperatorRoleArns"):
        central(OperatorRoleArns=refused)


def test_runs_and_their_tables_are_kept_as_long() -> None:
    rules = central(ReportRetentionDays="200")["Reports"]["Properties"]["LifecycleConfiguration"]["Rules"]
    kept = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert kept["runs/"] == kept["tables/"] == "200"


def test_journals_outlast_the_other_files_of_their_runs() -> None:
    rules = central()["Reports"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (of_runs,) = (rule for rule in rules if rule.get("Prefix") == "runs/")
    # The store tags what it uploads, and journals are not uploaded (tests/functional/storage/test_store_s3.py).
    assert of_runs["TagFilters"] == [dict(zip(("Key", "Value"), EXPIRES, strict=True))]
    (policy,) = central()["Role"]["Properties"]["Policies"]
    assert decision(policy["PolicyDocument"], "s3:PutObjectTagging", "Reports.Arn/runs/any") == "Allow"
    everywhere = [rule for rule in rules if "Prefix" not in rule]
    assert not any("ExpirationInDays" in rule for rule in everywhere)


def state_machine(**parameters: str) -> dict[str, Any]:
    """Return the state machine's definition, as JSON reads it once its parameters are in."""
    run = central(ScaleOut="on", **parameters)["Run"]["Properties"]
    definition: dict[str, Any] = json.loads(run["DefinitionString"])
    return definition


def test_without_scale_out_one_function_does_it_all() -> None:
    stack = central()
    assert not {"Run", "RunRole", "RunPolicy", "BatchFunction", "ExecutionFailed"} & stack.keys()
    assert stack["Hourly"]["Properties"]["Target"]["Arn"] == "Function.Arn"
    (policy,) = stack["ScheduleRole"]["Properties"]["Policies"]
    assert decision(policy["PolicyDocument"], "states:StartExecution", "Run") == "ImplicitDeny"


def test_with_scale_out_the_schedule_starts_the_state_machine() -> None:
    stack = central(ScaleOut="on", BatchConcurrency="40", BatchMemorySize="1024")
    assert stack["Hourly"]["Properties"]["Target"]["Arn"] == "Run"
    assert stack["Weekly"]["Properties"]["Target"]["Arn"] == "Function.Arn"
    (policy,) = stack["ScheduleRole"]["Properties"]["Policies"]
    assert decision(policy["PolicyDocument"], "states:StartExecution", "Run") == "Allow"
    batch = stack["BatchFunction"]["Properties"]
    assert (batch["ReservedConcurrentExecutions"], batch["MemorySize"]) == ("40", "1024")
    assert batch["Code"] == stack["Function"]["Properties"]["Code"]
    assert batch["Environment"]["Variables"]["DRY_RUN"] == "true"


def test_the_kill_switch_leaves_no_batch_to_run_either() -> None:
    stack = central(ScaleOut="on", KillSwitch="on")
    assert stack["BatchFunction"]["Properties"]["ReservedConcurrentExecutions"] == 0


def test_the_parameters_reach_the_state_machine_as_numbers() -> None:
    states = state_machine(
        BatchSize="250", BatchConcurrency="40", BatchRetries="1", ToleratedFailurePercentage="5"
    )["States"]
    assert states["Begin"]["Parameters"]["Payload"]["batch_size"] == 250
    batches = states["Batches"]
    assert (batches["MaxConcurrency"], batches["ToleratedFailurePercentage"]) == (40, 5)
    defects, others = batches["ItemProcessor"]["States"]["Sweep"]["Retry"]
    assert defects["MaxAttempts"] == 0
    final = (WrongAccount, InternalError, BadInput, GuardStop)
    assert defects["ErrorEquals"] == [kind.__name__ for kind in final], "Step Functions knows them by name"
    assert (others["ErrorEquals"], others["MaxAttempts"]) == (["States.ALL"], 1)


def payloads(node: Any) -> Iterator[Any]:
    """Yield what each step is called with."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("Payload", "Payload.$") if key in node)
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from payloads(value)


def test_each_step_is_called_with_named_fields() -> None:
    whole = {"$", "$$", "$.Payload", "$$.Map.Item.Value"}
    begin, sweep, conclude = payloads(state_machine())
    assert set(begin) == {"job", "batch_size", "execution.$", "started.$"}
    assert sweep == {"job": "batch", "run_id.$": "$.run_id", "batch.$": "$.batch"}
    assert conclude == {"job": "merge", "run_id.$": "$.run_id", "stopped": {"Error.$": "$.stopped.Error"}}
    assert not whole & {value for payload in (begin, sweep, conclude) for value in map(str, payload.values())}


def test_the_last_step_is_tried_again_for_longer_than_an_invocation_takes() -> None:
    stack = central(ScaleOut="on")
    service, killed = state_machine()["States"]["Conclude"]["Retry"]
    waits = [
        min(service["IntervalSeconds"] * service["BackoffRate"] ** attempt, service["MaxDelaySeconds"])
        for attempt in range(service["MaxAttempts"])
    ]
    assert sum(waits) > stack["Function"]["Properties"]["Timeout"]
    assert killed["MaxAttempts"] == 1


def test_a_run_is_concluded_whatever_became_of_its_batches() -> None:
    batches = state_machine()["States"]["Batches"]
    (catch,) = batches["Catch"]
    assert (catch["ErrorEquals"], catch["Next"], batches["Next"]) == (["States.ALL"], "Conclude", "Conclude")


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("lambda:InvokeFunction", "Function.Arn", "Allow"),
        ("lambda:InvokeFunction", "BatchFunction.Arn", "Allow"),
        ("lambda:InvokeFunction", f"arn:aws:lambda:us-east-1:{CENTRAL}:function:other", "ImplicitDeny"),
        ("s3:GetObject", "Reports.Arn/state/batches/20261124T034232Z-1a2b3c/manifest.json", "Allow"),
        ("s3:GetObject", "Reports.Arn/latest/functions.csv", "ImplicitDeny"),
        ("s3:PutObject", "Reports.Arn/state/batches/any", "ImplicitDeny"),
        ("sts:AssumeRole", "arn:aws:iam::444455556666:role/AutoDefenderMember", "ImplicitDeny"),
    ],
)
def test_the_state_machine_may_call_its_steps_and_no_more(action: str, resource: str, expected: str) -> None:
    policy = central(ScaleOut="on")["RunPolicy"]["Properties"]["PolicyDocument"]
    assert decision(policy, action, resource) == expected


def test_every_alarm_reaches_the_topic() -> None:
    alarms = [r["Properties"] for r in central().values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 7
    scaled = central(ScaleOut="on")
    assert scaled["ExecutionFailed"]["Properties"] not in alarms
    alarms.append(scaled["ExecutionFailed"]["Properties"])
    assert all(alarm["AlarmActions"] == ["Alarms"] for alarm in alarms)


def test_an_e_mail_address_is_subscribed_when_one_is_given() -> None:
    assert "AlarmsByEmail" not in central()
    assert (
        central(AlarmEmail="soc@example.com")["AlarmsByEmail"]["Properties"]["Endpoint"] == "soc@example.com"
    )
