"""A boto3 session without a wire: the product's own caller on top, the simulator's core below.

What the product does to call AWS is real: the session of each account, the rates, the retries, what an error means. Its
sockets and signatures are not; they have their own tests.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from botocore.credentials import Credentials
from botocore.exceptions import ConnectionClosedError, ParamValidationError
from botocore.validate import ParamValidator

from scanner.aws.credentials import current_credentials
from simulator.caller import client_error, operations
from simulator.calls import AwsError, Call
from simulator.core import Core
from simulator.organization import access_key, secret_key, session_token
from tests.months.machine import Machine

_URL = "https://simulated"
# The user agent of a call that its machine had begun to send before it stood still.
IN_FLIGHT = "in flight"
# What may go wrong on the way, in a hundred calls of a run with a bad network, and what of it is an answer lost.
_FAULTS = (
    ("throttled", "TooManyRequestsException", 429),
    ("server error", "ServiceException", 500),
    ("unavailable", "ServiceUnavailableException", 503),
    ("reset before", "", 0),
    ("reset after", "", 0),
    ("reset after", "", 0),
)


@dataclass
class Network:
    """What goes wrong between a run and AWS. percent: of its calls; by seed, call, subject and how often it came."""

    seed: str
    percent: float = 0.0
    drawn: Counter[str] = field(default_factory=Counter)
    _times: Counter[str] = field(default_factory=Counter)

    def draw(self, call: Call) -> tuple[str, str, int] | None:
        """Return what happens to a call, None for nothing."""
        if not self.percent or call.service not in {"lambda", "resourcegroupstaggingapi", "cloudwatch"}:
            return None
        what = f"{call.operation} {call.resource}"
        self._times[what] += 1
        rng = Random(f"{self.seed} {what} {self._times[what]}")
        if rng.random() * 100 >= self.percent * (4 if call.operation.startswith("Update") else 1):
            return None
        fault = rng.choice(_FAULTS)
        self.drawn[fault[0]] += 1
        return fault


class SimulatedSession:
    """Stands in for boto3.Session: its clients call the core as the account that the caller acts as."""

    profile_name = "default"
    events = SimpleNamespace(register=lambda *_: None)

    def __init__(self, core: Core, machine: Machine, network: Network, region: str) -> None:
        self.core = core
        self.machine = machine
        self.network = network
        self.region_name = region
        self.calls = 0
        home = access_key(core.organization.management)
        self._home = Credentials(home, secret_key(home), session_token(home))

    def get_credentials(self) -> Credentials:
        return self._home

    def get_available_partitions(self) -> list[str]:
        return ["aws"]

    def get_available_regions(self, service: str, partition_name: str) -> list[str]:
        del service, partition_name
        return list(self.core.organization.regions)

    def client(self, service: str, region_name: str = "", **_: Any) -> "SimulatedClient":
        return SimulatedClient(self, service, region_name)

    def send(self, service: str, region: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Make a call as the account whose credentials this context has."""
        model = operations(service)[method]
        if model.input_shape is not None:
            problems = ParamValidator().validate(parameters, model.input_shape)
            if problems.has_errors():
                raise ParamValidationError(report=problems.generate_report())
        account, name = self._signed_by(current_credentials())
        frozen = self.machine.is_away() or self.machine.was_about_to_call()
        freezes = self.machine.freezes
        self.machine.step()
        agent = IN_FLIGHT if frozen or self.machine.freezes > freezes else ""
        call = Call(account, region, service, model.name, parameters, name, agent)
        self.calls += 1
        answer = self._answer(call)
        self.machine.step()
        return answer

    def _signed_by(self, credentials: Credentials) -> tuple[str, str]:
        if credentials.access_key == self._home.access_key:
            return self.core.organization.management, ""
        session = self.core.sessions[credentials.access_key]
        if self.core.clock.now() >= session.expires:
            raise client_error(AwsError("ExpiredTokenException", "The security token is expired", 403), "")
        return session.account, session.name

    def _answer(self, call: Call) -> dict[str, Any]:
        name, code, status = self.network.draw(call) or ("", "", 0)
        if code:
            raise client_error(AwsError(code, name, status), call.operation)
        if name == "reset before":
            raise ConnectionClosedError(endpoint_url=_URL)
        try:
            answer = self.core.answer(call)
        except AwsError as error:
            raise client_error(error, call.operation) from None
        if name == "reset after":
            raise ConnectionClosedError(endpoint_url=_URL)
        return answer


class SimulatedClient:
    """Stands in for a client of a service in a region."""

    meta = SimpleNamespace(events=SimpleNamespace(register_last=lambda *_: None))

    def __init__(self, session: SimulatedSession, service: str, region: str) -> None:
        self._session = session
        self._service = service
        self._region = region

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        session, service, region = self._session, self._service, self._region

        def call(**parameters: Any) -> dict[str, Any]:
            return session.send(service, region, method, parameters)

        return call
