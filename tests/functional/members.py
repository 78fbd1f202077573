"""Member accounts in moto, in this process: who calls them, and what they answer before AWS is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pandas as pd
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from scanner.aws.caller import Aws
from scanner.aws.errors import Throttled
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.risk.rules import Rules
from scanner.settings import OrganizationSettings, SweepSettings

MEMBERS = ("222233334444", "333344445555")
REGION = "us-east-1"
SWEEP = SweepSettings(workers=4, calls_per_second=100.0)
Fault = Callable[..., dict[str, Any] | None]


class Faulty(Aws):
    """Asks `fault` first: it raises, answers, or returns None and the call goes to moto. Records every call."""

    fault: Fault = staticmethod(lambda *_, **__: None)

    def call(
        self, account_id: str, region: str, service: str, method: str, **parameters: Any
    ) -> dict[str, Any]:
        if service == "sts":  # Aws's own, for another call
            return super().call(account_id, region, service, method, **parameters)
        self.asked.append((account_id, method, parameters))
        answer = self.fault(account_id, method, parameters)
        return super().call(account_id, region, service, method, **parameters) if answer is None else answer

    @property
    def asked(self) -> list[tuple[str, str, dict[str, Any]]]:
        return self.__dict__.setdefault("_asked", [])


@contextmanager
def members() -> Iterator[Faulty]:
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "testing")
        patch.delenv("AWS_PROFILE", raising=False)
        organization = OrganizationSettings(role_name="AutoDefenderMember", regions=(REGION,))
        yield Faulty(boto3.Session(region_name=REGION), organization, SWEEP, "20261124T034232Z-1a2b3c")


def client(service: str, account_id: str) -> Any:
    """A client that acts in a member account."""
    role = f"arn:aws:iam::{account_id}:role/AutoDefenderMember"
    keys = boto3.client("sts", REGION).assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        service, REGION, aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )  # fmt: skip


def functions_of(configurations: dict[str, list[dict[str, Any]]], rules: Rules) -> pd.DataFrame:
    """Make a functions frame of some accounts' functions."""
    frame, watched = FunctionsFrame(), rules.defender.watched_variables
    for account_id, some in configurations.items():
        frame.add(account_id, REGION, facts(some, "aws", account_id, REGION, watched))
    return frame.finish()


def refused(method: str) -> ClientError:
    return ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, method)


def throttled(method: str) -> Throttled:
    return Throttled(f"{method}: ThrottlingException")
