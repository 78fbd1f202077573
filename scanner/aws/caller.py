"""The one way a member account is called: signed as it, below its rates, retried where that is safe."""

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import boto3
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_when_event_set
from tenacity.wait import wait_random_exponential

from scanner.aws.clients import Clients
from scanner.aws.connections import ending_within
from scanner.aws.credentials import MemberCredentials, acting_as, session_policy
from scanner.aws.errors import (
    EXPIRED,
    BrokenAnswer,
    TimedOut,
    Unreachable,
    describe,
    error_code,
    final_error,
    is_throttle,
    may_retry,
)
from scanner.aws.rate_limits import Buckets, CallCounts
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import AutoDefenderError, BadInput, InternalError
from scanner.settings import OrganizationSettings, SweepSettings

log = logging.getLogger(__name__)

# What these operations always carry. botocore turns a body cut short into a success that lacks it.
ALWAYS_CARRIED = {
    "assume_role": "Credentials",
    "describe_stack_set": "StackSet",
    "get_caller_identity": "Account",
    "get_function_configuration": "FunctionArn",
    "get_metric_data": "MetricDataResults",
    "get_region_opt_status": "RegionOptStatus",
    "get_resources": "ResourceTagMappingList",
    "list_accounts": "Accounts",
    "list_aliases": "Aliases",
    "list_accounts_for_parent": "Accounts",
    "list_functions": "Functions",
    "list_organizational_units_for_parent": "OrganizationalUnits",
    "list_provisioned_concurrency_configs": "ProvisionedConcurrencyConfigs",
    "list_regions": "Regions",
    "list_roots": "Roots",
    "list_stack_instances": "Summaries",
    "list_tags": "Tags",
    "update_function_configuration": "FunctionArn",
}
MAX_ATTEMPTS = 6
MAX_BACKOFF_SECONDS = 20.0


class Aws:
    """Calls AWS as any account of the organization."""

    def __init__(
        self,
        session: boto3.Session,
        organization: OrganizationSettings,
        sweep: SweepSettings,
        run_id: str,
        writes: bool = False,
        stop: threading.Event | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Find out who runs this.

        `writes`: calls that write are made, in member sessions of their own; all others go through sessions that
        can't write. `stop` ends waits and retries when set.
        Raises BadInput without usable credentials.
        """
        self.home_region = home_region(session, organization)
        self.run_id = run_id
        self.clock = clock
        self.calls = CallCounts()
        self.stop = stop or threading.Event()
        self.clients = Clients(session, f"auto-defender/{run_id}")
        self._organization = organization
        self._buckets = Buckets(sweep.calls_per_second, clock)
        self._readers = self._sessions(writes=False)
        self._writers = self._sessions(writes=True) if writes else None
        self._central = _central_credentials(session)
        self.central_account_id = ""  # for the call that finds it out
        self.central_account_id, self.arn = self._identity()
        self.partition = self.arn.split(":")[1]

    def _sessions(self, *, writes: bool) -> MemberCredentials:
        policy = session_policy(writes)
        return MemberCredentials(
            lambda account_id, deadline: self._assume_role(account_id, policy, deadline), self.clock
        )

    def _identity(self) -> tuple[str, str]:
        """Return the central account, and the ARN of who runs this."""
        try:
            answer = self.call("", self.home_region, "sts", "get_caller_identity")
        except BadInput:  # a proxy, say: it says what to correct
            raise
        except (ClientError, BotoCoreError, AutoDefenderError) as error:
            raise BadInput(f"the AWS credentials do not work: {describe(error)}") from None
        return str(answer["Account"]), str(answer["Arn"])

    def _assume_role(self, account_id: str, policy: str, deadline: float) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "RoleArn": f"arn:{self.partition}:iam::{account_id}:role/{self._organization.role_name}",
            "RoleSessionName": f"AutoDefender-{self.run_id}"[:64],
            "Policy": policy,
        }
        if self._organization.external_id:
            parameters["ExternalId"] = self._organization.external_id
        where = (self.central_account_id, self.home_region, "sts", "assume_role")
        try:
            return self.call(*where, deadline=deadline, **parameters)
        except BrokenAnswer as error:
            # Not a broken answer to the call that needs the session: that one was not sent.
            raise Unreachable(describe(error)) from error

    def call(
        self,
        account_id: str,
        region: str,
        service: str,
        method: str,
        *,
        deadline: float | None = None,
        write: bool = False,
        check: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Call a method of a boto3 client as an account, and return the answer.

        `deadline` is a Clock.monotonic() moment. Throttling is retried always, faults of the server or the connection
        only where nothing was written. `check` is called right before each attempt, after all waits for the rate, the
        session and a retry; nothing is sent once it raises. Raises ClientError where AWS refused for good, Throttled, TimedOut,
        Unreachable, BrokenAnswer, and LostAnswer where a write's answer was lost.
        """
        operation = getattr(self.clients.get(service, region), method)
        label = f"{service}.{method}"
        members = self._members(write)
        is_member = account_id != self.central_account_id

        def attempt() -> dict[str, Any]:
            self._wait(self._buckets.reserve(account_id, region, service), deadline)
            credentials = members.of(account_id, deadline) if is_member else self._central
            if check:
                check()
            self.calls.add(label, "calls")
            try:
                with acting_as(credentials), ending_within(self._left(deadline)):
                    return _whole(operation(**parameters), method)
            except ClientError as error:
                if is_member and error_code(error) in EXPIRED:
                    members.forget(account_id, credentials)
                raise

        try:
            return attempt()
        except Exception as error:  # noqa: BLE001 - final_error says what each error means
            return self._again(error, attempt, label, write, deadline)

    def _again(
        self,
        first: Exception,
        attempt: Callable[[], dict[str, Any]],
        label: str,
        write: bool,
        deadline: float | None,
    ) -> dict[str, Any]:
        """Retry what has failed once: tenacity is only asked then, for it is a fifth of the cost of a good call."""
        failed = iter((first,))

        def again() -> dict[str, Any]:
            for error in failed:
                raise error
            return attempt()

        retrying = Retrying(
            retry=retry_if_exception(lambda error: may_retry(error, write)),
            wait=_wait_full_jitter,
            stop=stop_after_attempt(MAX_ATTEMPTS)
            | stop_when_event_set(self.stop)
            | self._out_of_time(deadline),
            sleep=lambda seconds: self._wait(seconds, deadline),
            before_sleep=lambda state: self._count_retry(label, state),
            reraise=True,
        )
        try:
            answer: dict[str, Any] = retrying(again)
        except Exception as error:
            raise final_error(error, write) from error
        return answer

    def _members(self, write: bool) -> MemberCredentials:
        """Return the sessions that a call goes through; a run that only reads has none that could write."""
        if not write:
            return self._readers
        if self._writers is None:
            raise InternalError("a write was about to be sent in a run that only reads; it was not sent")
        return self._writers

    def _wait(self, seconds: float, deadline: float | None) -> None:
        """Wait, but not past the deadline, and not once the run is stopped."""
        if seconds > self._left(deadline):
            raise TimedOut("the deadline came before AWS could be asked")
        if self.stop.is_set() or (seconds > 0 and self.clock.wait(self.stop, seconds)):
            raise TimedOut("the run was stopped")

    def _out_of_time(self, deadline: float | None) -> Any:
        """Stop where the deadline comes before the next attempt: the last attempt's error says more than a timeout here."""
        return lambda state: state.upcoming_sleep >= self._left(deadline)

    def _left(self, deadline: float | None) -> float:
        return math.inf if deadline is None else deadline - self.clock.monotonic()

    def _count_retry(self, label: str, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.calls.add(label, "retries")
        if isinstance(error, ClientError) and is_throttle(error):
            self.calls.add(label, "throttles")
        log.debug("retry %s after %s", label, describe(error) if isinstance(error, Exception) else "?")


def home_region(session: boto3.Session, organization: OrganizationSettings) -> str:
    """Return the region that the central account is called in: the session's, or else the first that is swept."""
    if session.region_name:
        return session.region_name
    if organization.regions != "enabled":
        return organization.regions[0]
    raise BadInput("no home region; set AWS_REGION, or list organization.regions")


def _central_credentials(session: boto3.Session) -> Credentials:
    try:
        central = session.get_credentials()
    except BotoCoreError as error:
        raise BadInput(f"the AWS credentials do not work: {describe(error)}") from None
    if central is None:
        raise BadInput(
            "no AWS credentials found; set a profile, a role or AWS_ACCESS_KEY_ID for the central account"
        )
    return central


def _whole(answer: dict[str, Any], method: str) -> dict[str, Any]:
    key = ALWAYS_CARRIED.get(method)
    if key is not None and answer.get(key) is None:
        raise BrokenAnswer(f"{method}: the answer lacks {key}")
    return answer


_full_jitter = wait_random_exponential(multiplier=0.2, max=MAX_BACKOFF_SECONDS)


def _wait_full_jitter(state: RetryCallState) -> float:
    """Wait a random time up to the exponential bound, and at least as long as AWS asked for (Retry-After)."""
    error = state.outcome.exception() if state.outcome else None
    asked = 0.0
    if isinstance(error, ClientError):
        header = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
        asked = float(header) if header.isdigit() else 0.0
    return max(asked, float(_full_jitter(state)))
