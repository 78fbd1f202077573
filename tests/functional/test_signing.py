"""Shared clients never sign a call as another account; the server says who signed each."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from benchmarks.answers import account_id, function_configuration
from benchmarks.server_process import RunningServer
from scanner.core.errors import InternalError
from scanner.settings import SweepSettings
from tests.functional.loopback import REGIONS, aws_for, loopback

ACCOUNTS = [account_id(number) for number in range(50)]
SETTINGS = SweepSettings(workers=32, calls_per_second=100)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    with loopback(len(ACCOUNTS), functions=5) as server:
        yield server


@pytest.fixture
def server(running: RunningServer) -> RunningServer:
    running.reset()
    return running


def arn_in(account: str, region: str) -> str:
    return str(function_configuration(region, 1, account)["FunctionArn"])


def test_racing_calls_are_each_signed_by_the_account_they_are_for(server: RunningServer) -> None:
    aws = aws_for(SETTINGS)
    calls = [(account, region) for account in ACCOUNTS for region in REGIONS] * 32
    random.Random(1).shuffle(calls)

    def read(call: tuple[str, str]) -> bool:
        answer = aws.call(*call, "lambda", "get_function_configuration", FunctionName=arn_in(*call))
        return bool(answer["FunctionArn"] == arn_in(*call))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(read, calls))

    stats = server.stats()
    assert len(calls) >= 3_000
    assert stats["signed"] == Counter(f"{account}/{region}" for account, region in calls)
    assert stats["for_another_account"] == stats["unknown_keys"] == stats["bad_signatures"] == 0
    assert stats["operations"]["sts.AssumeRole"] == len(ACCOUNTS)


def test_the_host_that_is_signed_is_the_one_that_is_sent(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.environment()["AWS_ENDPOINT_URL"].rpartition(":")[2]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://LocalHost:{port}")
    aws_for(SETTINGS)
    assert server.stats()["bad_signatures"] == 0


def test_a_call_outside_any_account_is_never_sent(server: RunningServer) -> None:
    aws = aws_for(SETTINGS)
    before = server.stats()["requests"]
    with pytest.raises(InternalError, match="without an account's credentials"):
        aws.clients.get("lambda", REGIONS[0]).list_functions()  # type: ignore[attr-defined]
    assert server.stats()["requests"] == before


def test_the_server_notices_a_call_signed_by_another_account(server: RunningServer) -> None:
    """Without this, the race above could pass because the server looks away."""
    role = f"arn:aws:iam::{ACCOUNTS[0]}:role/AutoDefenderMember"
    keys = boto3.Session().client("sts").assume_role(RoleArn=role, RoleSessionName="other")["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    session.client("lambda", region_name=REGIONS[0]).get_function_configuration(
        FunctionName=arn_in(ACCOUNTS[1], REGIONS[0])
    )
    assert server.stats()["for_another_account"] == 1

    mixed = boto3.Session(keys["AccessKeyId"], "secret-of-another", keys["SessionToken"])
    client = mixed.client("lambda", region_name=REGIONS[0])
    with pytest.raises(client.exceptions.ClientError, match="InvalidSignatureException"):
        client.list_functions()
    assert server.stats()["bad_signatures"] == 1


def test_answers_read_as_botocore_itself_would_read_them(server: RunningServer) -> None:
    """The calls bypass botocore's parser: a botocore that reads these answers otherwise shows here."""
    account, region = ACCOUNTS[0], REGIONS[0]
    role = f"arn:aws:iam::{account}:role/AutoDefenderMember"
    keys = boto3.Session().client("sts").assume_role(RoleArn=role, RoleSessionName="plain")["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    theirs = session.client("lambda", region_name=region)
    aws = aws_for(SETTINGS)

    page: Any = theirs.list_functions(MaxItems=3)
    read: Any = theirs.get_function_configuration(FunctionName=arn_in(account, region))
    for answer in (page, read):
        del answer["ResponseMetadata"]
    assert aws.call(account, region, "lambda", "list_functions", MaxItems=3) == page
    assert len(page["Functions"]) == 3
    assert (
        aws.call(
            account, region, "lambda", "get_function_configuration", FunctionName=arn_in(account, region)
        )
        == read
    )
