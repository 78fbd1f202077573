"""The organization behind HTTP: AWS's answers, the faults of a plan, and its own record of every write it accepted."""

import asyncio
import copy
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import unquote

from benchmarks import organization_answers as organizations
from benchmarks.answers import CENTRAL_ACCOUNT, Organization, to_json
from benchmarks.control_plane import ControlPlane, _refusal, _shown
from benchmarks.spoiled import spoiled
from simulator.wire import Answer, Connection, Request
from tests.faults import random_organization
from tests.faults.fault_plan import FaultPlan, Planned

PAGE = 20


class Gone(Exception):
    """There is no such function."""


@dataclass(frozen=True)
class Write:
    """An accepted UpdateFunctionConfiguration: its run, and the function before and after."""

    run_id: str
    arn: str
    before: dict[str, Any]
    after: dict[str, Any]
    asked: dict[str, Any]
    tags: dict[str, str]


_OF_A_CHANGE = {"GetFunctionConfiguration", "UpdateFunctionConfiguration", "Tags"}


@dataclass
class Kill:
    """Kills a process with 9 when so many calls of changes have come in; `carried_out`: the last of them is, too."""

    process: int
    calls: int
    carried_out: bool
    done: bool = False

    def at_last(self) -> bool:
        """Count a call; return whether it is lost with the process."""
        self.calls -= 1
        if self.calls > 0 or self.done:
            return self.done
        self.done = True
        os.kill(self.process, signal.SIGKILL)
        return not self.carried_out


class Plane(ControlPlane):
    """Lambda's control plane over functions that exist, and no others."""

    def __init__(self, settles_in: float) -> None:
        super().__init__(rate=300.0, settles_in=settles_in)
        self.failing: set[str] = set()
        self.owned: Counter[str] = Counter()  # how often its owner has deployed a function

    def function(self, account: str, region: str, name: str) -> dict[str, Any]:
        functions = self.unit(account, region).functions
        if name not in functions:
            raise Gone
        return self._settled(functions[name])

    def _settled(self, function: dict[str, Any]) -> dict[str, Any]:
        if function["LastUpdateStatus"] == "InProgress" and time.monotonic() >= function["settles_at"]:
            failed = function["FunctionArn"] in self.failing
            self.failing.discard(function["FunctionArn"])
            function["LastUpdateStatus"] = "Failed" if failed else "Successful"
            function["LastUpdateStatusReasonCode"] = "EniLimitExceeded" if failed else ""
            function["RevisionId"] = _renewed(function)
        return function

    def take(self, function: dict[str, Any], asked: dict[str, Any]) -> None:
        """Carry an update out."""
        slow = (
            40
            if function["FunctionName"].startswith("late-") and self.updates[function["FunctionArn"]] == 0
            else 1
        )
        self.updates[function["FunctionArn"]] += 1
        function["RevisionId"] = _renewed(function)
        if "Layers" in asked:
            function["Layers"] = [{"Arn": layer, "CodeSize": 1} for layer in asked["Layers"]]
        if "Environment" in asked:
            function["Environment"] = asked["Environment"]
        function["LastModified"] = f"2026-11-24T00:00:00.000+0000-{function['RevisionId']}"
        function["LastUpdateStatus"] = "InProgress"
        function["settles_at"] = time.monotonic() + self.settles_in * slow

    def owner_deploys(self, function: dict[str, Any], rng: Random) -> None:
        """Change a function behind our back, as its own pipeline does."""
        random_organization.deploy(rng, function)
        self.owned[function["FunctionArn"]] += 1
        function["LastUpdateStatus"] = "Successful"
        function["RevisionId"] = _renewed(function)
        function["LastModified"] = f"2026-11-24T00:00:00.000+0000-{function['RevisionId']}"


def _renewed(function: dict[str, Any]) -> str:
    return f"{Random(function['RevisionId']).getrandbits(64):x}"


class Simulator:
    """Answers every call of a run; `writes` is what the run's files are compared with."""

    latency = 0.0

    def __init__(
        self, seed: int, accounts: int, functions: int, faults: FaultPlan, settles_in: float = 0.02
    ) -> None:
        """Make an organization of so many member accounts, with so many functions in each account and region."""
        self.rng = Random(seed)
        self.faults = faults
        self.plane = Plane(settles_in)
        self.accounts = random_organization.accounts_of(accounts)
        self.denied = set(self.rng.sample(self.accounts[:-1], 1)) if accounts > 2 else set()
        self.writes: list[Write] = []
        self.written = Counter[str]()  # every other write, by operation
        self.before_write: Callable[[Write], None] = lambda write: None
        self.kill: Kill | None = None
        self._organization = Organization(accounts, functions)
        self._sessions: Counter[str] = Counter()
        self._expired: set[str] = set()
        self.session_names: set[str] = set()
        for account in self.accounts:
            for region in random_organization.REGIONS:
                of_unit = self.plane.unit(account, region).functions
                for number in range(functions):
                    made = random_organization.function(self.rng, number, account, region)
                    of_unit[made["FunctionName"]] = made | {"settles_at": 0.0}
                    if made["FunctionName"].startswith("tagged-"):
                        self.plane.tags[made["FunctionArn"]] = dict(random_organization.OPTOUT_TAG)

    def functions(self) -> dict[str, dict[str, Any]]:
        """Return every function there is, by ARN."""
        return {f["FunctionArn"]: f for unit in self.plane.units.values() for f in unit.functions.values()}

    def connected(self) -> None:
        """Count nothing."""

    def control(self, request: Request) -> Answer:
        """Nothing here is controlled over HTTP."""
        raise AssertionError(request.path)

    def answer(self, request: Request) -> Answer:
        """Answer a call, with the plan's fault."""
        operation, subject = _named(request)
        if self.kill and operation in _OF_A_CHANGE and self.kill.at_last():
            return Answer(b"", cut=0)
        if request.key in self._expired:
            return Answer.error(request, 403, "ExpiredTokenException", "The security token is expired")
        planned = self.faults.draw(operation, subject, request.region)
        if planned is None:
            return self._right(request, operation, subject, None)
        if planned.when == "expired":
            if request.account != CENTRAL_ACCOUNT:
                self._expired.add(request.key)
                return Answer.error(request, 403, "ExpiredTokenException", "The security token is expired")
            return self._right(request, operation, subject, None)
        right = (
            Answer(b"{}") if planned.when == "before" else self._right(request, operation, subject, planned)
        )
        return spoiled(planned.fault, request, right) if planned.fault else right

    def _right(self, request: Request, operation: str, subject: str, planned: Planned | None) -> Answer:
        if request.service == "lambda":
            return self._lambda(request, operation, planned)
        body: bytes | None
        if request.service == "organizations":
            body = organizations.organizations_answer(self._organization, operation, request.body)
        elif operation == "AssumeRole":
            if subject in self.denied:
                return Answer.error(
                    request, 403, "AccessDenied", "is not authorized to perform: sts:AssumeRole"
                )
            self._sessions[subject] += 1
            self.session_names.add(request.form("RoleSessionName"))
            body = organizations.assumed_role(subject, self._sessions[subject], 3600)
        elif operation == "GetResources":
            body = self._tagged(request)
        else:
            body = organizations.caller_identity(request.account)
        if body is None:
            return Answer.error(request, 404, "UnknownOperationException", operation)
        return Answer(body, content_type=request.content_type())

    def _tagged(self, request: Request) -> bytes:
        mine = self.plane.unit(request.account, request.region).functions.values()
        arns = [
            f["FunctionArn"]
            for f in mine
            if random_organization.OPTOUT_TAG.items() <= self._tags(f["FunctionArn"]).items()
        ]
        return to_json(
            {"ResourceTagMappingList": [{"ResourceARN": arn} for arn in arns], "PaginationToken": ""}
        )

    def _tags(self, arn: str) -> dict[str, str]:
        return self.plane.tags.setdefault(arn, {})

    def _lambda(self, request: Request, operation: str, planned: Planned | None) -> Answer:
        unit = self.plane.unit(request.account, request.region)
        if not unit.admits():
            return Answer.error(request, 429, "TooManyRequestsException", "Rate exceeded")
        if operation == "ListFunctions":
            return self._listed(request)
        arn = unquote(request.path).split("/")[3]
        if arn.split(":")[3:5] != [request.region, request.account]:
            return Answer.error(request, 403, "AccessDeniedException", "another account's function")
        name = arn.rsplit(":", 1)[1]
        try:
            if planned and planned.when == "deleted":
                unit.functions.pop(name, None)
            function = self.plane.function(request.account, request.region, name)
            if planned and planned.when == "owner":
                self.plane.owner_deploys(function, self.rng)
        except Gone:
            return Answer.error(request, 404, "ResourceNotFoundException", "Function not found")
        if operation == "GetFunctionConfiguration":
            return Answer(to_json(_shown(function)))
        if operation == "Tags":
            return self._answer_tags(request, arn)
        return self._updated(request, function, planned)

    def _listed(self, request: Request) -> Answer:
        functions = sorted(self.plane.unit(request.account, request.region).functions.items())
        first = int(request.query_value("Marker") or 0)
        hidden = {"State", "LastUpdateStatus", "LastUpdateStatusReasonCode", "settles_at"}
        page = [{k: v for k, v in f.items() if k not in hidden} for _, f in functions[first : first + PAGE]]
        more = {"NextMarker": str(first + PAGE)} if first + PAGE < len(functions) else {}
        return Answer(to_json({"Functions": page, **more}))

    def _answer_tags(self, request: Request, arn: str) -> Answer:
        tags = self._tags(arn)
        if request.method == "GET":
            return Answer(to_json({"Tags": tags}))
        self.written[request.method] += 1
        if request.method == "POST":
            tags |= json.loads(request.body)["Tags"]
        else:
            tags.pop(request.query_value("tagKeys"), None)
        return Answer(b"", status=204)

    def _updated(self, request: Request, function: dict[str, Any], planned: Planned | None) -> Answer:
        asked = json.loads(request.body)
        if planned and planned.when == "quote":
            text = json.dumps(asked.get("Environment", {}).get("Variables", {}))
            message = f"the environment variables exceeded the 4KB limit. String measured: {text}"
            return Answer.error(request, 400, "InvalidParameterValueException", message)
        refusal = _refusal(function, asked)
        if refusal:
            status, document = refusal
            assert isinstance(document, dict)
            return Answer.error(request, status, document["__type"], "refused")
        before, tags = copy.deepcopy(_shown(function)), dict(self._tags(function["FunctionArn"]))
        self.plane.take(function, copy.deepcopy(asked))
        if planned and planned.when == "failing":
            self.plane.failing.add(function["FunctionArn"])
        run_id = request.header("user-agent").partition("auto-defender/")[2].split(" ")[0]
        write = Write(run_id, function["FunctionArn"], before, copy.deepcopy(_shown(function)), asked, tags)
        self.before_write(write)
        self.writes.append(write)
        return Answer(to_json(_shown(function)))


def _named(request: Request) -> tuple[str, str]:
    """Name a call's operation, and what it is about: a function's ARN, an account, or a unit."""
    unit = f"{request.account}/{request.region}"
    path = unquote(request.path)
    if request.service == "lambda":
        if path.startswith("/2017-03-31/tags/"):
            return "Tags", path.split("/")[3]
        if not path.endswith("/configuration"):
            return "ListFunctions", unit
        verb = "Get" if request.method == "GET" else "Update"
        return f"{verb}FunctionConfiguration", path.split("/")[3]
    if request.service in ("organizations", "tagging"):
        return request.header("x-amz-target").rpartition(".")[2], unit
    role = request.form("RoleArn")
    return request.form("Action"), role.split(":")[4] if role else unit


@contextmanager
def serving(simulator: Simulator) -> Iterator[int]:
    """Serve on a free port of loopback, in a thread of this process; give the port."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(
        loop.create_server(lambda: Connection(simulator), "127.0.0.1", 0, backlog=512)
    )
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        listening.close()
        loop.close()
