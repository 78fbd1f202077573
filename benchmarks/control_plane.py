"""Lambda's control plane on loopback: the simulator's core with AWS's rates, in a process of its own.

A function is created when first asked for. A name's prefix makes a function misbehave once: `lost-done-` and
`lost-undone-` (the connection is reset after or before its update is done), `error-done-` (status 500 after it is
done), `deployed-` (another deployment comes between read and update), `failing-` (its update settles as Failed).
"""

import json
import sys
from collections import Counter

from simulator.calls import AnswerLost, AwsError, Call
from simulator.core import HOME, RATE, SETTLES_IN_SECONDS, Core
from simulator.http import Front, serving
from simulator.wire import Answer, Request

LAYER = "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"
FIGURES = "/__figures__"


class ControlPlane(Front):
    """All accounts and regions. updates: how often each function's update was asked for."""

    def __init__(
        self, rate: float = RATE, settles_in: float = SETTLES_IN_SECONDS, latency: float = 0.0
    ) -> None:
        super().__init__(Core(home=HOME, rate=rate, settles_in=settles_in), latency)
        self.updates: Counter[str] = Counter()
        self.core.before = self._before
        self.core.after = self._after

    def control(self, request: Request) -> Answer:
        """What was seen, by unit: calls, throttled, and the seconds from the first call to the last."""
        assert request.path == FIGURES
        figures = {
            f"{account}/{region}": [unit.calls, unit.throttled, unit.last - unit.first]
            for (account, region), unit in self.core.units.items()
        }
        return Answer(json.dumps(figures).encode())

    def _before(self, call: Call) -> None:
        if call.operation == "AssumeRole":
            self.core.organization.join(call.parameters["RoleArn"].split(":")[4])
        if call.function and self.core.function(call.function) is None:
            self._create(call)
        if call.operation == "UpdateFunctionConfiguration":
            self.updates[call.function] += 1
            self._spoil(call.function, self._fault(call))

    def _create(self, call: Call) -> None:
        self.core.publish_layer(LAYER.format(region=call.region))
        variables = {"Variables": {"STAGE": "production"}}
        name = call.function.rpartition(":")[2]
        self.core.place(call.account, call.region, name, RevisionId="0", Environment=variables)

    def _spoil(self, arn: str, fault: str) -> None:
        if fault == "lost-undone":
            raise AnswerLost
        if fault == "deployed":
            self.core.deploy(arn, Environment={"Variables": {"STAGE": "deployed"}})
        if fault == "failing":
            self.core.fails_next[arn] = "EniLimitExceeded"

    def _after(self, call: Call, _: object) -> None:
        if call.operation != "UpdateFunctionConfiguration":
            return
        fault = self._fault(call)
        if fault == "lost-done":
            raise AnswerLost
        if fault == "error-done":
            raise AwsError("ServiceException", "internal", 500)

    def _fault(self, call: Call) -> str:
        """Return the prefix of a function's name while its first update is under way, "" later."""
        name = call.function.rpartition(":")[2]
        return name.rpartition("-")[0] if self.updates[call.function] == 1 else ""


if __name__ == "__main__":
    with serving(ControlPlane(*map(float, sys.argv[1:]))) as url:
        print(url, flush=True)
        sys.stdin.read()
