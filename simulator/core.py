"""AWS as one object in memory: accounts, their functions, who may do what, and a record of every accepted write."""

import random
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from botocore import xform_name

from simulator.calls import AwsError, Call, Configuration, Write
from simulator.clock import Clock, SystemClock
from simulator.lambda_api import LambdaApi
from simulator.observability import CloudWatchApi, TaggingApi
from simulator.organization import (
    AccountApi,
    Ec2Api,
    Organization,
    OrganizationsApi,
    Session,
    StsApi,
    check_assumable,
)
from simulator.state import Function, LayerVersion, function_arn

HOME = "999988887777"
OWNER = "owner"  # the session of what the simulated owners do
# Lambda quotas: 15 control plane requests a second in an account and region.
RATE = 15.0
# Most updates take about as long.
SETTLES_IN_SECONDS = 2.0
_GLOBAL = frozenset(("sts", "organizations", "account"))


@dataclass(frozen=True)
class Denial:
    """A policy that denies; action, account, region and resource (a function's ARN) are globs. reason: AWS's words."""

    action: str
    account: str = "*"
    region: str = "*"
    resource: str = "*"
    reason: str = "with an explicit deny in a service control policy"

    def covers(self, call: Call) -> bool:
        """Return whether it denies a call."""
        pairs = [(call.action, self.action), (call.account, self.account), (call.region, self.region)]
        return all(fnmatchcase(*pair) for pair in [*pairs, (call.resource, self.resource)])


@dataclass
class Unit:
    """The token bucket of an account in a region, and its counts. Times are the clock's monotonic()."""

    tokens: float
    filled: float
    calls: int = 0
    throttled: int = 0
    first: float = 0.0
    last: float = 0.0


class Core:
    """Answers calls, each with the hooks around it.

    before: ahead of everything else, without the lock: an owner's deployment, a delay (clock.sleep), an AwsError, AnswerLost;
    after: behind a call that was done, with its answer, which it may change: AnswerLost;
    on_write: behind each accepted write, with the lock held.

    rate: Lambda calls a second in an account and region, also the burst; None for no limit. settles_in: seconds until an
    update is Successful; settle_seconds can say so by function. fails_next: functions whose next update ends as Failed, with
    LastUpdateStatusReasonCode.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        home: str = HOME,
        rate: float | None = RATE,
        settles_in: float = SETTLES_IN_SECONDS,
        seed: int = 0,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.lock = threading.RLock()
        self.organization = Organization(home)
        self.layers: dict[str, LayerVersion] = {}
        self.sessions: dict[str, Session] = {}
        self.denials: list[Denial] = []
        self.rate = rate
        self.units: dict[tuple[str, str], Unit] = {}
        self.settle_seconds: Callable[[str], float] = lambda arn: settles_in
        self.fails_next: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.writes: list[Write] = []
        self.before: Callable[[Call], None] = lambda call: None
        self.after: Callable[[Call, dict[str, Any]], None] = lambda call, answer: None
        self.on_write: Callable[[Write], None] = lambda write: None
        self.cloudwatch = CloudWatchApi(self)
        self._services: dict[str, Any] = {
            "lambda": LambdaApi(self),
            "sts": StsApi(self),
            "organizations": OrganizationsApi(self),
            "account": AccountApi(self),
            "ec2": Ec2Api(self),
            "resourcegroupstaggingapi": TaggingApi(self),
            "cloudwatch": self.cloudwatch,
        }
        self._random = random.Random(seed)
        self._in_unit: defaultdict[tuple[str, str], dict[str, Function]] = defaultdict(dict)

    # Calls

    def answer(self, call: Call) -> dict[str, Any]:
        """Carry a call out and return its answer. Raises AwsError where AWS refuses, and what a hook raises."""
        with self.lock:
            self.calls[call.operation] += 1
        self.before(call)
        with self.lock:
            self._admit(call)
            self._authorize(call)
            answer: dict[str, Any] = self._operation(call)(call)
        self.after(call, answer)
        return answer

    def knows(self, service: str, operation: str) -> bool:
        """Return whether an operation is simulated."""
        return hasattr(self._services.get(service), xform_name(operation))

    def _operation(self, call: Call) -> Callable[[Call], dict[str, Any]]:
        if not self.knows(call.service, call.operation):
            raise AwsError("UnknownOperationException", f"not simulated: {call.action}", 404)
        method: Callable[[Call], dict[str, Any]] = getattr(
            self._services[call.service], xform_name(call.operation)
        )
        return method

    def _admit(self, call: Call) -> None:
        """Take a token of the account in the region."""
        if call.service != "lambda":
            return
        now, rate = self.clock.monotonic(), self.rate
        unit = self.units.setdefault((call.account, call.region), Unit(rate or 0.0, now, first=now))
        unit.calls, unit.last = unit.calls + 1, now
        if rate is None:
            return
        unit.tokens = min(rate, unit.tokens + (now - unit.filled) * rate)
        unit.filled = now
        if unit.tokens < 1:
            unit.throttled += 1
            raise AwsError("TooManyRequestsException", "Rate exceeded", 429)
        unit.tokens -= 1

    def _authorize(self, call: Call) -> None:
        if call.service == "sts":
            return
        member = self.organization.member(call.account)
        if member is None or (call.service not in _GLOBAL and call.region in member.disabled_regions):
            raise unknown_token(call.service)
        if call.function:
            _check_place(call)
        for denial in self.denials:
            if denial.covers(call):
                text = f"User: {call.caller} is not authorized to perform: {call.action} on resource: {call.resource}"
                raise AwsError("AccessDeniedException", f"{text} {denial.reason}", 403)

    def assume(self, call: Call, role: str) -> None:
        """Raise AwsError where the caller's session in an account could not have begun."""
        check_assumable(self.organization, call, call.account, role)

    def deny(self, denial: Denial) -> Denial:
        """Deny calls from now on; `denials.remove` ends it."""
        with self.lock:
            self.denials.append(denial)
        return denial

    # Owners, who ask nobody

    def place(self, account: str, region: str, name: str, **fields: Any) -> Function:
        """Put a function there as it was found, however unlikely; its account joins, its layers exist."""
        with self.lock:
            if account not in self.organization.accounts:
                self.organization.join(account)
            arn = function_arn(account, region, name)
            made: dict[str, Any] = {
                "FunctionName": name,
                "FunctionArn": arn,
                "Runtime": "python3.12",
                "Handler": "app.handler",
                "PackageType": "Zip",
                "Architectures": ["x86_64"],
                "MemorySize": 512,
                "Timeout": 30,
                "CodeSize": 1000,
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "LastModified": self.modified(),
                "RevisionId": self.revision(),
                **fields,
            }
            function = Function(made)
            self._publish_all(made)
            self.add(function)
            return function

    def deploy(self, arn: str, **changes: Any) -> None:
        """Change any field of a function at once, as its owner's pipeline has."""
        region, account = arn.split(":")[3:5]
        with self.lock:
            function = self._in_unit[account, region][arn]
            self._publish_all(changes)
            self.change(
                Call(account, region, "lambda", "Deploy", {"FunctionName": arn}, OWNER), function, changes
            )

    def as_owner(self, account: str, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of Lambda as the account itself: limits hold; hooks, denials and throttling do not."""
        call = Call(account, region, "lambda", operation, parameters, OWNER)
        with self.lock:
            return self._operation(call)(call)

    def publish_layer(self, arn: str, **more: Any) -> LayerVersion:
        """Make a layer version exist; see LayerVersion."""
        with self.lock:
            self.layers[arn] = LayerVersion(arn, **more)
            return self.layers[arn]

    def _publish_all(self, configuration: Configuration) -> None:
        for layer in configuration.get("Layers") or ():
            self.layers.setdefault(
                layer["Arn"], LayerVersion(layer["Arn"], code_size=layer.get("CodeSize", 1))
            )

    # State, as operations and owners change it

    def functions_of(self, account: str, region: str) -> list[Function]:
        """Return an account's functions in a region, in the order of their names, settled."""
        here = self._in_unit[account, region]
        return [self.settled(here[arn]) for arn in sorted(here)]

    def function(self, arn: str) -> Function | None:
        """Return the function with an unqualified ARN, settled."""
        region, account = arn.split(":")[3:5]
        function = self._in_unit[account, region].get(arn)
        return self.settled(function) if function else None

    @property
    def functions(self) -> dict[str, Function]:
        """Return every function there is, by ARN, settled."""
        with self.lock:
            return {arn: self.settled(one) for here in self._in_unit.values() for arn, one in here.items()}

    def add(self, function: Function) -> None:
        """Keep a function from now on."""
        region, account = function.arn.split(":")[3:5]
        self._in_unit[account, region][function.arn] = function

    def revision(self) -> str:
        """Return a new RevisionId."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def renew(self, function: Function) -> None:
        """Give a function a new RevisionId."""
        function.configuration = {**function.configuration, "RevisionId": self.revision()}

    def modified(self) -> str:
        """Return a LastModified of now."""
        now = self.clock.now()
        return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}+0000"

    def settled(self, function: Function) -> Function:
        """End an update, or a creation, whose time has come; AWS renews the RevisionId then."""
        if function.settles_at is None or self.clock.monotonic() < function.settles_at:
            return function
        function.settles_at = None
        reason = self.fails_next.pop(function.arn, "")
        ended = {"LastUpdateStatus": "Failed" if reason else "Successful", "RevisionId": self.revision()}
        if reason:
            ended |= {"LastUpdateStatusReasonCode": reason, "LastUpdateStatusReason": f"It failed: {reason}"}
        stale = {"LastUpdateStatusReasonCode", "LastUpdateStatusReason"}
        if function.configuration.get("State") == "Pending":
            ended["State"] = "Active"
            stale |= {"StateReason", "StateReasonCode"}
        kept = {key: value for key, value in function.configuration.items() if key not in stale}
        function.configuration = {**kept, **ended}
        return function

    def change(
        self, call: Call, function: Function, changes: Configuration, *, settles: bool = False
    ) -> None:
        """Change a function's configuration; `settles`: it takes its time, or else it is done at once."""
        seconds = self.settle_seconds(function.arn) if settles else 0.0
        waits = settles and (seconds > 0 or function.arn in self.fails_next)
        fresh = {
            "RevisionId": self.revision(),
            "LastModified": self.modified(),
            "LastUpdateStatus": "InProgress" if waits else "Successful",
        }
        with self.recorded(call, function):
            function.configuration = {**function.configuration, **fresh, **changes}
            function.settles_at = self.clock.monotonic() + seconds if waits else None

    def delete(self, call: Call, function: Function) -> None:
        """Delete a function with its versions, aliases and tags."""
        before, tags = function.shown(), dict(function.tags)
        region, account = function.arn.split(":")[3:5]
        del self._in_unit[account, region][function.arn]
        self._record(call, function.arn, (before, tags), (None, {}))

    @contextmanager
    def recorded(self, call: Call, function: Function) -> Iterator[None]:
        """Record what the block changes of a function as one write."""
        before = (function.shown() if "RevisionId" in function.configuration else None), dict(function.tags)
        yield
        self._record(call, function.arn, before, (function.shown(), dict(function.tags)))

    def _record(
        self,
        call: Call,
        arn: str,
        before: tuple[Configuration | None, Mapping[str, str]],
        after: tuple[Configuration | None, Mapping[str, str]],
    ) -> None:
        number = len(self.writes)
        write = Write(number, self.clock.now(), call, arn, before[0], after[0], before[1], after[1])
        self.writes.append(write)
        self.on_write(write)


def _check_place(call: Call) -> None:
    """Raise AwsError for a function of another account or region: no resource policy of ours is simulated."""
    region, account = call.function.split(":")[3:5]
    if region != call.region:
        text = f"Functions from '{region}' are not reachable in this region ('{call.region}')"
        raise AwsError("ResourceNotFoundException", text, 404)
    if account != call.account:
        text = f"User: {call.caller} is not authorized to perform: {call.action} on resource: {call.function} because "
        text += f"no resource-based policy allows the {call.action} action"
        raise AwsError("AccessDeniedException", text, 403)


def unknown_token(service: str) -> AwsError:
    """Return the refusal of a key that AWS does not have; a region that is not enabled says the same."""
    code = "InvalidClientTokenId" if service == "sts" else "UnrecognizedClientException"
    return AwsError(code, "The security token included in the request is invalid.", 403)
