"""The simulator's core as the harness calls it: updates settle when they are read, hooks are asked by boto3's names."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from remediator.rollout.comparison import Figures
from scanner.aws.errors import LostAnswer
from scanner.core.clock import SYSTEM_CLOCK, Clock
from simulator.caller import Caller
from simulator.calls import Call
from simulator.clock import ManualClock
from simulator.core import Core
from simulator.observability import Datapoints, MetricQuery
from simulator.state import function_arn

ACCOUNT, REGION = "111122223333", "us-east-1"
PUBLISHER = "999988887777"


def arn_of(name: str, account: str = ACCOUNT, region: str = REGION) -> str:
    return function_arn(account, region, name)


def layer(version: int, name: str = "twistlock-python", region: str = REGION) -> str:
    return f"arn:aws:lambda:{region}:{PUBLISHER}:layer:{name}:{version}"


def refusal(
    code: str, message: str = "", operation: str = "UpdateFunctionConfiguration", status: int = 400
) -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)  # type: ignore[arg-type]


class Killed(BaseException):
    """The process dies here."""


class Tags(MutableMapping[str, Mapping[str, str]]):
    """The tags of functions by ARN."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getitem__(self, arn: str) -> Any:
        return self._core.functions[arn].tags

    def __setitem__(self, arn: str, tags: Mapping[str, str]) -> None:
        self._core.functions[arn].tags = tags

    def __delitem__(self, arn: str) -> None:
        self[arn] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._core.functions)

    def __len__(self) -> int:
        return len(self._core.functions)


class FakeLambda(Caller):
    """A core without throttling, where an update settles after so many reads of its function.

    `before` is asked before each call and `after` behind it, with (method, arn, how often); `waits` is called where a call
    that asks before it is sent waits for its rate; `edit_answer` gets each answer before its caller does.
    """

    def __init__(self, polls_to_settle: int = 0) -> None:
        long_ago = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        super().__init__(Core(long_ago, home=PUBLISHER, rate=None), "AutoDefender-test", lost=LostAnswer)
        self.polls_to_settle = polls_to_settle
        self.polls: dict[str, int] = {}
        self.tags = Tags(self.core)
        self.figures: dict[str, tuple[Figures, Figures]] = {}
        self.partition = "aws"
        self.clock: Clock = SYSTEM_CLOCK
        self.stop = threading.Event()
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self.before: Callable[[str, str, int], None] = lambda method, arn, n: None
        self.after: Callable[[str, str, int], None] = lambda method, arn, n: None
        self.edit_answer: Callable[[str, dict[str, Any]], None] = lambda method, answer: None
        self.waits: Callable[[str], None] = lambda arn: None
        self._counts: Counter[tuple[str, str]] = Counter()
        self.core.before = self._ask_before
        self.core.after = self._ask_after
        self.core.settle_seconds = self._settle_seconds
        self.core.cloudwatch.metric_data = self._sums

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """Every function's configuration by ARN; what is changed in one is changed at once."""
        return {arn: function.configuration for arn, function in self.core.functions.items()}  # type: ignore[misc]

    def add(self, name: str = "f", account: str = ACCOUNT, region: str = REGION, **changes: Any) -> str:
        for family in ("python", "nodejs"):
            for version in range(1, 10):
                self.core.publish_layer(layer(version, f"twistlock-{family}", region))
        variables = {"Variables": {"OWNER": "s3cret-of-the-owner"}}
        return self.core.place(
            account, region, name, **{"Layers": [], "Environment": variables, **changes}
        ).arn

    def owner_edits(self, arn: str, **changes: Any) -> None:
        """Another deployment: any field, a new revision."""
        self.core.deploy(arn, **changes)

    def delete(self, arn: str) -> None:
        """Its owner deletes a function."""
        region, account = arn.split(":")[3:5]
        self.core.as_owner(account, region, "DeleteFunction", FunctionName=arn)

    def fail_next(self, arn: str) -> None:
        """Let the next update of a function end as Failed."""
        self.core.fails_next[arn] = "EniLimitExceeded"

    def call(
        self, account_id: str, region: str, service: str, method: str, *,
        check: Callable[[], None] | None = None, **parameters: Any,
    ) -> dict[str, Any]:  # fmt: skip
        def after_the_wait() -> None:
            if check:
                self.waits(str(parameters.get("FunctionName") or parameters.get("Resource")))
                check()

        return super().call(account_id, region, service, method, check=after_the_wait, **parameters)

    def _ask_before(self, call: Call) -> None:
        self.core.clock.sleep(1)  # no two updates have the same LastModified
        method, arn, _ = self._named(call)
        with self.core.lock:
            self.calls[method] += 1
            self.log.append((method, arn))
            self._counts[method, arn] += 1
        self.before(*self._named(call))
        if method == "get_function_configuration":
            self._poll(arn)

    def _ask_after(self, call: Call, answer: dict[str, Any]) -> None:
        named = self._named(call)
        self.edit_answer(named[0], answer)
        self.after(*named)

    def _named(self, call: Call) -> tuple[str, str, int]:
        method = xform_name(call.operation)
        arn = call.function or str(call.parameters.get("LayerName") or arn_of("", call.account, call.region))
        return method, arn, self._counts[method, arn]

    def _settle_seconds(self, arn: str) -> float:
        self.polls[arn] = self.polls_to_settle
        return float("inf") if self.polls_to_settle else 0.0

    def _poll(self, arn: str) -> None:
        with self.core.lock:
            function = self.core.function(arn)
            if function and function.configuration["LastUpdateStatus"] == "InProgress":
                self.polls[arn] -= 1
                if self.polls[arn] <= 0:
                    function.settles_at = 0.0

    def _sums(self, query: MetricQuery) -> Datapoints:
        """Count the first figures of a function in each hour before its change, and the second once, just now."""
        period = timedelta(seconds=query.period)
        history = period == timedelta(hours=1)
        assert query.statistic == "Sum"
        pair = self.figures.get(query.arn.rpartition(":")[2])
        if not pair:
            return []
        fields = {
            "Invocations": "invocations",
            "Errors": "errors",
            "Throttles": "throttles",
            "Duration": "duration_ms",
        }
        times = [query.start + number * period for number in range((query.end - query.start) // period)]
        value = getattr(pair[not history], fields[query.metric])
        return [(at, value) for at in (times if history else times[-1:])]

    def layers(self, arn: str) -> list[str]:
        return [one["Arn"] for one in self.functions[arn].get("Layers", [])]

    def variables(self, arn: str) -> dict[str, str]:
        return dict(self.functions[arn].get("Environment", {}).get("Variables", {}))


def lose(
    method: str, *, done: bool, times: int = 1
) -> tuple[Callable[[str, str, int], None], Callable[[str, str, int], None]]:
    """Make hooks (before, after) that lose answers of a method, with the call done or not."""

    def hook(called: str, arn: str, n: int) -> None:
        if called == method and n <= times:
            raise LostAnswer("connection reset")

    def quiet(called: str, arn: str, n: int) -> None:
        return

    return (quiet, hook) if done else (hook, quiet)
