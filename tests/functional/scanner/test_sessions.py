"""Which session a call goes through: a sweep can't write, even in a run that does."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from scanner.aws.caller import Aws
from scanner.core.errors import BadInput, InternalError
from scanner.settings import OrganizationSettings, SweepSettings

MEMBER = "222233334444"
ORGANIZATION = OrganizationSettings(role_name="AutoDefenderMember", external_id="x-1", regions=("us-east-1",))


@pytest.fixture
def assumed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[boto3.Session, list[dict[str, Any]]]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    calls: list[dict[str, Any]] = []
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        session.events.register(
            "provide-client-params.sts.AssumeRole", lambda params, **_: calls.append(params)
        )
        yield session, calls


def writing(policy: str) -> bool:
    statements = json.loads(policy)["Statement"]
    return any("lambda:UpdateFunctionConfiguration" in s["Action"] for s in statements)


def test_reads_go_through_a_session_that_cannot_write(
    assumed: tuple[boto3.Session, list[dict[str, Any]]],
) -> None:
    session, calls = assumed
    aws = Aws(session, ORGANIZATION, SweepSettings(), "20261124T034232Z-1a2b3c", writes=True)
    aws.call(MEMBER, "us-east-1", "lambda", "list_functions")
    aws.call(MEMBER, "us-west-2", "lambda", "list_functions")
    assert [writing(call["Policy"]) for call in calls] == [False]
    with pytest.raises(ClientError, match="ResourceNotFound"):
        aws.call(
            MEMBER,
            "us-east-1",
            "lambda",
            "update_function_configuration",
            write=True,
            FunctionName="gone",
        )
    assert [writing(call["Policy"]) for call in calls] == [False, True]
    assert {call["RoleArn"] for call in calls} == {f"arn:aws:iam::{MEMBER}:role/AutoDefenderMember"}
    assert {call["ExternalId"] for call in calls} == {"x-1"}
    assert {call["RoleSessionName"] for call in calls} == {"AutoDefender-20261124T034232Z-1a2b3c"}


def test_a_run_that_only_reads_sends_no_write(assumed: tuple[boto3.Session, list[dict[str, Any]]]) -> None:
    session, calls = assumed
    aws = Aws(session, ORGANIZATION, SweepSettings(), "run-1")
    for account_id in (MEMBER, aws.central_account_id):
        with pytest.raises(InternalError, match="only reads"):
            aws.call(account_id, "us-east-1", "lambda", "tag_resource", write=True, Resource="arn", Tags={})
    assert not calls


def test_half_credentials_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    with pytest.raises(BadInput, match="the AWS credentials do not work"):
        Aws(boto3.Session(region_name="us-east-1"), ORGANIZATION, SweepSettings(), "run-1")
