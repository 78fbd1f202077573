"""Shared clients never sign a call as another account; the server says who signed each."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from benchmarks.answers import account_id, function_configuration
from benchmarks.server_process import RunningServer
from scanner.aws.caller import Aws
from scanner.core.errors import BadInput, InternalError
from scanner.settings import SweepSettings
from tests.functional.loopback import ORGANIZATION, REGIONS, aws_for, loopback

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


@pytest.mark.parametrize("write", [False, True])
def test_a_wrong_clock_is_corrected_from_the_answer_that_refuses_it(
    server: RunningServer, write: bool
) -> None:
    server.set_faults({"*/*": [{"kind": "skew", "service": "sts"}, {"kind": "skew", "service": "lambda"}]})
    aws = Aws(boto3.Session(), ORGANIZATION, SETTINGS, "20261124T034232Z-1a2b3c", writes=True)
    for account in ACCOUNTS[:3]:
        aws.call(account, REGIONS[0], "lambda", "list_functions", write=write)
    counts = aws.calls.as_dict()
    assert counts["sts.get_caller_identity"] == {"calls": 2, "retries": 1, "throttles": 0}
    assert counts["sts.assume_role"]["retries"] == 0, "it has the time of the same endpoint"
    assert counts["lambda.list_functions"] == {"calls": 4, "retries": 1, "throttles": 0}
    assert server.stats()["bad_signatures"] == 0


def test_threads_that_meet_a_wrong_clock_together_all_go_on(server: RunningServer) -> None:
    aws = aws_for(SETTINGS)
    calls = [(account, region) for account in ACCOUNTS for region in REGIONS]
    server.set_faults({"*/*": [{"kind": "skew"}]})
    with ThreadPoolExecutor(32) as pool:
        pages = list(pool.map(lambda call: aws.call(*call, "lambda", "list_functions"), calls))
    assert all(len(page["Functions"]) == 5 for page in pages)


def test_a_clock_that_can_not_be_corrected_is_reported_as_such(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.aws.caller.MAX_ATTEMPTS", 1)
    server.set_faults({"*/*": [{"kind": "skew", "service": "sts"}]})
    with pytest.raises(
        BadInput, match=r"this machine's clock differs from AWS's by (599|60[0-9]) seconds; set it by NTP$"
    ):
        aws_for(SETTINGS)


def test_a_signature_that_is_refused_at_the_right_time_is_no_clock_problem(server: RunningServer) -> None:
    server.set_faults({"*/*": [{"kind": "error", "status": 403, "code": "InvalidSignatureException"}]})
    aws = aws_for(SETTINGS)
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        aws.call(ACCOUNTS[0], REGIONS[0], "lambda", "list_functions")
    assert aws.calls.as_dict()["lambda.list_functions"]["calls"] == 1


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
