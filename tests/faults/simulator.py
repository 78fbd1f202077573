"""The organization behind HTTP: the simulator's core, the faults of a plan, and the record of our writes."""

import copy
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from benchmarks.answers import CENTRAL_ACCOUNT
from benchmarks.spoiled import spoiled
from simulator import calls
from simulator.calls import AwsError, Call
from simulator.core import OWNER, Core
from simulator.http import Front, parsed
from simulator.wire import Answer, Request
from tests.faults import random_organization
from tests.faults.fault_plan import FaultPlan, Planned

_TAGS = {"ListTags", "TagResource", "UntagResource"}


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


class Simulator(Front):
    """Answers every call of a run; `writes` is what the run's files are compared with."""

    def __init__(
        self, seed: int, accounts: int, functions: int, faults: FaultPlan, settles_in: float = 0.02
    ) -> None:
        """Make an organization of so many member accounts, with so many functions in each account and region."""
        super().__init__(Core(home=CENTRAL_ACCOUNT, rate=300.0, seed=seed))
        self.rng = Random(seed)
        self.faults = faults
        self.settles_in = settles_in
        self.accounts = random_organization.accounts_of(accounts)
        self.denied = set(self.rng.sample(self.accounts[:-1], 1)) if accounts > 2 else set()
        self.writes: list[Write] = []
        self.owned: Counter[str] = Counter()  # how often its owner has deployed a function
        self.before_write: Callable[[Write], None] = lambda write: None
        self.kill: Kill | None = None
        self._updated: set[str] = set()
        self.core.settle_seconds = self._settle_seconds
        self.core.on_write = self._written
        self._fill(functions)

    def _fill(self, functions: int) -> None:
        organization = self.core.organization
        organization.regions = random_organization.REGIONS
        for account in self.accounts:
            organization.join(account).role_denied = account in self.denied
            for region in random_organization.REGIONS:
                for number in range(functions):
                    made = random_organization.function(self.rng, number, account, region)
                    function = self.core.place(account, region, made["FunctionName"], **made)
                    if made["FunctionName"].startswith("tagged-"):
                        function.tags = dict(random_organization.OPTOUT_TAG)
        for layer in random_organization.our_layers():
            self.core.publish_layer(layer)

    def functions(self) -> dict[str, dict[str, Any]]:
        """Return the configuration of every function there is, by ARN."""
        return {arn: dict(function.configuration) for arn, function in self.core.functions.items()}

    @property
    def session_names(self) -> set[str]:
        """Return the name of every role session so far."""
        return {session.name for session in self.core.sessions.values()}

    def owner_deploys(self, arn: str, rng: Random) -> None:
        """Change a function behind our back, as its own pipeline does."""
        function = copy.deepcopy(dict(self.core.functions[arn].configuration))
        changed = random_organization.deploy(rng, function)
        self.owned[arn] += 1
        self.core.deploy(arn, **changed)

    def answer(self, request: Request) -> Answer:
        """Answer a call, with the plan's fault."""
        call = parsed(request, "")
        operation = "Tags" if call.operation in _TAGS else call.operation
        if self.kill and operation in _OF_A_CHANGE and self.kill.at_last():
            return Answer(b"", cut=0)
        try:
            call = self.read(request)
        except AwsError as error:
            return Answer.error(request, error.status, error.code, error.message)
        planned = self.faults.draw(operation, _subject(call), call.region)
        return self.respond(request, call) if planned is None else self._spoiled(request, call, planned)

    def _spoiled(self, request: Request, call: Call, planned: Planned) -> Answer:
        if planned.when == "expired" and call.account != CENTRAL_ACCOUNT:
            session = self.core.sessions[request.key]
            self.core.sessions[request.key] = replace(session, expires=self.core.clock.now())
            return Answer.error(request, 403, "ExpiredTokenException", "The security token is expired")
        if planned.when == "quote":
            text = json.dumps(call.parameters.get("Environment", {}).get("Variables", {}))
            message = f"the environment variables exceeded the 4KB limit. String measured: {text}"
            return Answer.error(request, 400, "InvalidParameterValueException", message)
        if planned.when == "before":
            right = Answer(b"{}")
        else:
            self._meanwhile(call.function, planned.when)
            right = self.respond(request, call)
            if planned.when == "failing" and right.status != 200:
                self.core.fails_next.pop(call.function, None)
        return spoiled(planned.fault, request, right) if planned.fault else right

    def _meanwhile(self, arn: str, when: str) -> None:
        """Do what the plan has for a function just before a call."""
        if not arn or self.core.function(arn) is None:
            return
        if when == "deleted":
            region, account = arn.split(":")[3:5]
            self.core.as_owner(account, region, "DeleteFunction", FunctionName=arn)
        elif when == "owner":
            self.owner_deploys(arn, self.rng)
        elif when == "failing":
            self.core.fails_next[arn] = "EniLimitExceeded"

    def _settle_seconds(self, arn: str) -> float:
        """Let the first update of some functions take its time."""
        late = arn.rpartition(":")[2].startswith("late-") and arn not in self._updated
        self._updated.add(arn)
        return self.settles_in * (40 if late else 1)

    def _written(self, write: calls.Write) -> None:
        call = write.call
        if call.operation != "UpdateFunctionConfiguration" or call.session == OWNER:
            return
        run_id = call.user_agent.partition("auto-defender/")[2].split(" ")[0]
        asked = {key: value for key, value in call.parameters.items() if key != "FunctionName"}
        before, after = dict(write.before or {}), dict(write.after or {})
        ours = Write(run_id, write.arn, before, after, asked, dict(write.tags_before))
        self.before_write(ours)
        self.writes.append(ours)


def _subject(call: Call) -> str:
    """Return what a call is about: a function's ARN, an account, or a unit."""
    role = str(call.parameters.get("RoleArn", ""))
    return call.function or (role.split(":")[4] if role else f"{call.account}/{call.region}")
