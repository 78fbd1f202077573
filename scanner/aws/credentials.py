"""Whose credentials sign a call: one ContextVar, one AssumeRole an account.

The clients are shared by all accounts and hold keys that can't work. What sends a call asks here for the credentials
of the account that the running context acts as; where there are none, the call fails before it is signed.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from scanner.core.errors import InternalError

_acting_as: ContextVar[Credentials | None] = ContextVar("acting_as", default=None)

# AssumeRole API reference: role chaining limits the session to one hour, whatever the role allows.
SESSION_SECONDS = 3600
REFRESH_BEFORE_SECONDS = 300


@contextmanager
def acting_as(credentials: Credentials) -> Iterator[None]:
    """Sign every call of this context with these credentials."""
    token = _acting_as.set(credentials)
    try:
        yield
    finally:
        _acting_as.reset(token)


def current_credentials() -> Credentials:
    """Give the credentials of the account that this context acts as; Defect where there is none."""
    credentials = _acting_as.get()
    if credentials is None:
        raise InternalError("a call was about to be sent without an account's credentials; it was not sent")
    return credentials


@dataclass(frozen=True)
class _Session:
    credentials: Credentials
    refresh_at: float


class MemberCredentials:
    """The member accounts' credentials: one AssumeRole an account, shared by its regions, refreshed in time."""

    def __init__(self, assume_role: Callable[[str], dict[str, Any]]) -> None:
        """Take the call that assumes the member role of an account and gives AssumeRole's answer."""
        self._assume_role = assume_role
        self._sessions: dict[str, _Session | ClientError] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, account_id: str) -> Credentials:
        """Give an account's credentials.

        Raises what AssumeRole raised; a refusal is remembered, so that an account's other regions do not ask again.
        """
        known = self._sessions.get(account_id)
        if isinstance(known, ClientError):
            raise known.with_traceback(None)  # or else it keeps every frame that ever raised it
        if known is not None and time.monotonic() < known.refresh_at:
            return known.credentials
        return self._renewed(account_id)

    def _renewed(self, account_id: str) -> Credentials:
        with self._lock:
            lock = self._locks.setdefault(account_id, threading.Lock())
        with lock:
            known = self._sessions.get(account_id)
            if isinstance(known, ClientError):
                raise known.with_traceback(None)
            if known is None or time.monotonic() >= known.refresh_at:
                known = self._sessions[account_id] = self._assumed(account_id)
            return known.credentials

    def forget(self, account_id: str, credentials: Credentials) -> None:
        """Drop credentials that AWS calls expired, unless another thread has renewed them already."""
        with self._lock:
            known = self._sessions.get(account_id)
            if isinstance(known, _Session) and known.credentials is credentials:
                del self._sessions[account_id]

    def _assumed(self, account_id: str) -> _Session:
        asked_at = time.monotonic()
        try:
            answer = self._assume_role(account_id)["Credentials"]
        except ClientError as refusal:
            self._sessions[account_id] = refusal
            raise
        credentials = Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
        return _Session(credentials, asked_at + SESSION_SECONDS - REFRESH_BEFORE_SECONDS)


READS = (
    "lambda:List*",
    "lambda:Get*",
    "account:ListRegions",
    "account:GetRegionOptStatus",
    "ec2:DescribeRegions",
    "tag:GetResources",
    "cloudwatch:GetMetricData",
    "logs:StartQuery",
    "logs:GetQueryResults",
)
WRITES = ("lambda:UpdateFunctionConfiguration", "lambda:TagResource", "lambda:UntagResource")


def session_policy(writes: bool) -> str:
    """Give the policy that narrows a member session: a sweep can't write, even where the role could.

    A run that writes also needs kms:* and layer access as the role grants them: Lambda checks those with the
    caller's permissions (CreateGrant and Decrypt for an encrypted environment, GetLayerVersion for a layer).
    """
    statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": list(READS), "Resource": "*"}]
    kms = ["kms:Decrypt"] + (["kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant"] if writes else [])
    statements.append({"Effect": "Allow", "Action": kms, "Resource": "*"})
    if writes:
        statements.append({"Effect": "Allow", "Action": list(WRITES), "Resource": "*"})
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
