"""A call as AWS gets it, what it may be refused with, and the record of a write."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

Configuration = Mapping[str, Any]
# The prefix of IAM actions, where it is not the service's name in boto3.
_ACTION_PREFIXES = {"resourcegroupstaggingapi": "tag"}


class AwsError(Exception):
    """A refusal: AWS's code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class AnswerLost(Exception):
    """A hook raises this: the connection ends without an answer. Before a call: it is not done; after: it is."""


def invalid(message: str) -> NoReturn:
    """Raise Lambda's refusal of a parameter."""
    raise AwsError("InvalidParameterValueException", message)


@dataclass(frozen=True)
class Call:
    """One call. operation: as in AWS's API, UpdateFunctionConfiguration; parameters: as in boto3.

    session: the role session's name, "" where an account's own keys signed.
    """

    account: str
    region: str
    service: str
    operation: str
    parameters: Mapping[str, Any]
    session: str = ""
    user_agent: str = ""

    @property
    def action(self) -> str:
        """Return the IAM action, lambda:UpdateFunctionConfiguration."""
        return f"{_ACTION_PREFIXES.get(self.service, self.service)}:{self.operation}"

    @property
    def caller(self) -> str:
        """Return the ARN of who calls."""
        if not self.session:
            return f"arn:aws:iam::{self.account}:root"
        return f"arn:aws:sts::{self.account}:assumed-role/AutoDefenderMember/{self.session}"

    @cached_property
    def function(self) -> str:
        """Return the unqualified ARN of the function it is about, "" where it is about none."""
        named = str(self.parameters.get("FunctionName") or self.parameters.get("Resource") or "")
        if not named or self.service != "lambda":
            return ""
        if named.startswith("arn:"):
            return ":".join(named.split(":")[:7])
        name = named.rpartition("function:")[2].split(":")[0]
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"

    @property
    def qualifier(self) -> str:
        """Return the version or alias that it names, "" for none."""
        named = str(self.parameters.get("FunctionName") or self.parameters.get("Resource") or "")
        parts = named.split(":")
        in_name = parts[7] if named.startswith("arn:") and len(parts) > 7 else ""
        return str(self.parameters.get("Qualifier") or in_name)

    @property
    def resource(self) -> str:
        """Return what it is about: a function, a layer, or the account and region."""
        return self.function or str(self.parameters.get("LayerName") or f"{self.account}/{self.region}")


@dataclass(frozen=True)
class Write:
    """An accepted write: the call, and the function before and after it; None where there was or is none."""

    number: int
    at: datetime
    call: Call
    arn: str
    before: Configuration | None
    after: Configuration | None
    tags_before: Mapping[str, str]
    tags_after: Mapping[str, str]
