"""Whose credentials sign a call: one ContextVar, one AssumeRole an account.

The clients are shared by all accounts and hold keys that can't work. What sends a call asks here for the credentials
of the account that the running context acts as; where there are none, the call fails before it is signed.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from scanner.aws.errors import TimedOut, Unreachable
from scanner.core.clock import Clock
from scanner.core.errors import InternalError

_acting_as: ContextVar[Credentials | None] = ContextVar("acting_as", default=None)

# AssumeRole API reference: role chaining limits the session to one hour, whatever the role allows.
SESSION_SECONDS = 3600
REFRESH_BEFORE_SECONDS = 300
# One AssumeRole with all its attempts: two that get no answer within the transport's 30 s.
ASSUME_ROLE_SECONDS = 60.0
# So many AssumeRoles in a row without an answer, over so long, and STS itself is down: to ask for every other account
# would cost a run that grows with their number. Connections that fail at once for a moment do not end a run.
SILENT_IN_A_ROW = 5
SILENT_SECONDS = 60.0


@contextmanager
def acting_as(credentials: Credentials) -> Iterator[None]:
    """Sign every call of this context with these credentials."""
    token = _acting_as.set(credentials)
    try:
        yield
    finally:
        _acting_as.reset(token)


def current_credentials() -> Credentials:
    """Return the credentials of the account that this context acts as; raise InternalError where there are none."""
    credentials = _acting_as.get()
    if credentials is None:
        raise InternalError("a call was about to be sent without an account's credentials; it was not sent")
    return credentials


@dataclass(frozen=True)
class _Session:
    credentials: Credentials
    refresh_at: float


class MemberCredentials:
    """The member accounts' credentials: one AssumeRole an account, shared by its regions, renewed in time."""

    def __init__(self, assume_role: Callable[[str, float], dict[str, Any]], clock: Clock) -> None:
        """Take the call that assumes an account's member role by a deadline and returns AssumeRole's answer."""
        self._assume_role = assume_role
        self._clock = clock
        self._sessions: dict[str, Future[_Session]] = {}
        self._unanswered = 0
        self._silent_since = self._answered_at = -math.inf
        self._lock = threading.Lock()

    def of(self, account_id: str, deadline: float | None = None) -> Credentials:
        """Return an account's credentials by a Clock.monotonic() moment.

        Raise what AssumeRole raised, and TimedOut where the deadline came first or STS is not asked any more. A
        refusal is remembered: the account's other regions do not ask again.
        """
        while True:
            session, is_ours = self._session(account_id)
            if is_ours:
                self._ask(account_id, session, deadline)
            try:
                error = session.exception(
                    None if deadline is None else max(0.0, deadline - self._clock.monotonic())
                )
            except TimeoutError:
                raise TimedOut("the deadline came before STS answered") from None
            if error is None:
                return session.result().credentials
            if is_ours or not isinstance(error, TimedOut):
                raise error.with_traceback(None)  # or else it keeps every frame that ever raised it
            # The deadline of the thread that asked says nothing of this one's: ask again.

    def forget(self, account_id: str, credentials: Credentials) -> None:
        """Drop credentials that AWS calls expired, unless another thread has renewed them already."""
        with self._lock:
            known = self._sessions.get(account_id)
            if known and known.done() and not known.exception() and known.result().credentials is credentials:
                del self._sessions[account_id]

    def _session(self, account_id: str) -> tuple[Future[_Session], bool]:
        """Return the account's session, and whether it is new and the caller has to ask for it."""
        known = self._sessions.get(account_id)
        if known is not None and self._is_usable(known):
            return known, False
        with self._lock:
            known = self._sessions.get(account_id)
            if known is not None and self._is_usable(known):
                return known, False
            self._refuse_if_silent()
            self._sessions[account_id] = asked = Future[_Session]()
            return asked, True

    def _refuse_if_silent(self) -> None:
        if (
            self._unanswered >= SILENT_IN_A_ROW
            and self._clock.monotonic() - self._silent_since >= SILENT_SECONDS
        ):
            raise TimedOut(
                f"STS did not answer {self._unanswered} times in a row; not asked any more in this run"
            )

    def _ask(self, account_id: str, asked: Future[_Session], deadline: float | None) -> None:
        """Assume the role on this thread; the account's other regions wait for the result."""
        asked_at = self._clock.monotonic()
        until = min(asked_at + ASSUME_ROLE_SECONDS, math.inf if deadline is None else deadline)
        try:
            answer = self._assume_role(account_id, until)["Credentials"]
            credentials = Credentials(
                answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]
            )
        except BaseException as error:  # noqa: BLE001 - raised again by each thread that waits
            self._count(asked_at, answered=not _is_silence(error))
            asked.set_exception(error)
        else:
            self._count(asked_at, answered=True)
            asked.set_result(_Session(credentials, asked_at + SESSION_SECONDS - REFRESH_BEFORE_SECONDS))

    def _count(self, asked_at: float, *, answered: bool) -> None:
        with self._lock:
            if answered:
                self._unanswered, self._answered_at = 0, self._clock.monotonic()
                return
            if not self._unanswered:
                self._silent_since = max(asked_at, self._answered_at)
            self._unanswered += 1

    def _is_usable(self, session: Future[_Session]) -> bool:
        """Return whether to wait for it or to take it: it is under way, refused for good, or not about to expire."""
        if not session.done():
            return True
        error = session.exception()
        if error is not None:
            return isinstance(error, ClientError)
        return self._clock.monotonic() < session.result().refresh_at


def _is_silence(error: BaseException) -> bool:
    """Return whether no attempt was answered; a server's error (Unreachable from a ClientError) is an answer."""
    return isinstance(error, (TimedOut, Unreachable)) and not isinstance(error.__cause__, ClientError)


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
    """Return the policy that narrows a member session: a sweep can't write, even where the role could.

    A run that writes also needs kms:* and layer access as the role grants them: Lambda checks those with the
    caller's permissions (CreateGrant and Decrypt for an encrypted environment, GetLayerVersion for a layer).
    """
    statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": list(READS), "Resource": "*"}]
    kms = ["kms:Decrypt"] + (["kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant"] if writes else [])
    statements.append({"Effect": "Allow", "Action": kms, "Resource": "*"})
    if writes:
        statements.append({"Effect": "Allow", "Action": list(WRITES), "Resource": "*"})
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
