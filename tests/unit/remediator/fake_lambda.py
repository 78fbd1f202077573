"""Lambda's control plane in memory, as strict as AWS's: revisions are checked, updates settle, answers get lost."""

import copy
import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from remediator.rollout.comparison import Figures
from scanner.aws.errors import LostAnswer
from scanner.core.clock import SYSTEM_CLOCK, Clock

ACCOUNT, REGION = "111122223333", "us-east-1"
PUBLISHER = "999988887777"


def arn_of(name: str, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:lambda:{region}:{account}:function:{name}"


def layer(version: int, name: str = "twistlock-python", region: str = REGION) -> str:
    return f"arn:aws:lambda:{region}:{PUBLISHER}:layer:{name}:{version}"


def refusal(
    code: str, message: str = "", operation: str = "UpdateFunctionConfiguration", status: int = 400
) -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)  # type: ignore[arg-type]


class Killed(BaseException):
    """The process dies here."""


class FakeLambda:
    """Functions by ARN. `before` is asked before each call and `after` behind it, with (method, arn, how often); `waits` is called where
    a call that asks before it is sent waits for its rate.
    """

    def __init__(self, polls_to_settle: int = 0) -> None:
        self.functions: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.polls_to_settle = polls_to_settle
        self.signing: set[str] = set()
        self.settles_as: dict[str, str] = {}
        self.figures: dict[str, tuple[Figures, Figures]] = {}
        self.partition = "aws"
        self.clock: Clock = SYSTEM_CLOCK
        self.stop = threading.Event()
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self.before: Callable[[str, str, int], None] = lambda method, arn, n: None
        self.after: Callable[[str, str, int], None] = lambda method, arn, n: None
        self.waits: Callable[[str], None] = lambda arn: None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._polls: dict[str, int] = {}
        self._updates = itertools.count(1)
        self._lock = threading.RLock()

    def add(self, name: str = "f", account: str = ACCOUNT, region: str = REGION, **changes: Any) -> str:
        arn = arn_of(name, account, region)
        self.functions[arn] = {
            "FunctionName": name,
            "FunctionArn": arn,
            "Runtime": "python3.12",
            "PackageType": "Zip",
            "Architectures": ["x86_64"],
            "MemorySize": 512,
            "Timeout": 30,
            "CodeSize": 1000,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "LastModified": "2026-01-01T00:00:00.000+0000",
            "RevisionId": str(uuid.uuid4()),
            "Layers": [],
            "Environment": {"Variables": {"OWNER": "s3cret-of-the-owner"}},
            **changes,
        }
        self.tags[arn] = {}
        return arn

    def owner_edits(self, arn: str, **changes: Any) -> None:
        """Another deployment: any field, a new revision."""
        with self._lock:
            self.functions[arn] |= {
                "RevisionId": str(uuid.uuid4()),
                "LastModified": self._modified(),
            } | changes

    def call(
        self, account_id: str, region: str, service: str, method: str, *,
        deadline: float | None = None, write: bool = False, check: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:  # fmt: skip
        if service != "lambda":
            return self._other(account_id, region, method, parameters)
        arn = parameters.get("FunctionName") or parameters.get("Resource") or parameters["LayerName"]
        assert method == "get_layer_version" or arn.split(":")[3:5] == [region, account_id]
        if check:
            self.waits(arn)
            check()
        with self._lock:
            self.calls[method] += 1
            self.log.append((method, arn))
            self._counts[method, arn] += 1
            times = self._counts[method, arn]
        self.before(method, arn, times)
        with self._lock:
            answer: dict[str, Any] = getattr(self, f"_{method}")(arn, parameters)
        self.after(method, arn, times)
        return answer

    def _other(self, account: str, region: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        unit = arn_of("", account, region)
        with self._lock:
            self.calls[method] += 1
        self.before(method, unit, self.calls[method])
        if method == "get_metric_data":
            times = parameters["StartTime"], parameters["EndTime"]
            return {
                "MetricDataResults": [self._sum(query, *times) for query in parameters["MetricDataQueries"]]
            }
        assert method == "get_resources"
        (tag,) = parameters["TagFilters"]
        with_tag = [arn for arn, tags in self.tags.items() if tags.get(tag["Key"]) in tag["Values"]]
        return {
            "ResourceTagMappingList": [{"ResourceARN": arn} for arn in with_tag if arn.startswith(unit)],
            "PaginationToken": "",
        }

    def _sum(self, query: dict[str, Any], start: datetime, end: datetime) -> dict[str, Any]:
        """Count the first figures of a function in each hour before its change, and the second once, just now."""
        metric, period = query["MetricStat"]["Metric"], timedelta(seconds=query["MetricStat"]["Period"])
        history = period == timedelta(hours=1)
        assert query["MetricStat"]["Stat"] == "Sum"
        pair = self.figures.get(metric["Dimensions"][0]["Value"])
        fields = {
            "Invocations": "invocations",
            "Errors": "errors",
            "Throttles": "throttles",
            "Duration": "duration_ms",
        }
        times = [start + number * period for number in range((end - start) // period)] if pair else []
        times = times if history else times[-1:]
        values = [getattr(pair[not history], fields[metric["MetricName"]]) for _ in times] if pair else []
        return {"Id": query["Id"], "Timestamps": times, "Values": values, "StatusCode": "Complete"}

    def _existing(self, arn: str) -> dict[str, Any]:
        if arn not in self.functions:
            raise refusal("ResourceNotFoundException", "Function not found", "GetFunctionConfiguration", 404)
        return self.functions[arn]

    def _get_function_configuration(self, arn: str, _: dict[str, Any]) -> dict[str, Any]:
        function = self._existing(arn)
        if function["LastUpdateStatus"] == "InProgress":
            self._polls[arn] -= 1
            if self._polls[arn] <= 0:
                function |= {
                    "LastUpdateStatus": self.settles_as.pop(arn, "Successful"),
                    "RevisionId": str(uuid.uuid4()),  # as AWS does
                }
                if function["LastUpdateStatus"] == "Failed":
                    function["LastUpdateStatusReasonCode"] = "EniLimitExceeded"
        return copy.deepcopy(function)

    def _update_function_configuration(self, arn: str, parameters: dict[str, Any]) -> dict[str, Any]:
        function = self._existing(arn)
        if function["LastUpdateStatus"] == "InProgress":
            raise refusal("ResourceConflictException", "An update is in progress", status=409)
        if parameters["RevisionId"] != function["RevisionId"]:
            raise refusal("PreconditionFailedException", "The RevisionId provided does not match", status=412)
        if "Layers" in parameters:
            assert len(parameters["Layers"]) <= 5
            function["Layers"] = [{"Arn": one, "CodeSize": 1} for one in parameters["Layers"]]
        if "Environment" in parameters:
            function["Environment"] = {"Variables": dict(parameters["Environment"]["Variables"])}
        self._polls[arn] = self.polls_to_settle
        pending = self.polls_to_settle > 0 or arn in self.settles_as
        function |= {
            "RevisionId": str(uuid.uuid4()),
            "LastModified": self._modified(),
            "LastUpdateStatus": "InProgress" if pending else "Successful",
        }
        return copy.deepcopy(function)

    def _modified(self) -> str:
        """Return a time that no other update has, long ago."""
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._updates))
        return f"{at:%Y-%m-%dT%H:%M:%S}.000+0000"

    def _get_layer_version(self, arn: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"LayerVersionArn": f"{arn}:{parameters['VersionNumber']}"}

    def _get_function_code_signing_config(self, arn: str, _: dict[str, Any]) -> dict[str, Any]:
        return {"CodeSigningConfigArn": "arn:csc"} if arn in self.signing else {}

    def _list_tags(self, arn: str, _: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": dict(self.tags[arn])}

    def _tag_resource(self, arn: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.tags[arn] |= parameters["Tags"]
        return {}

    def _untag_resource(self, arn: str, parameters: dict[str, Any]) -> dict[str, Any]:
        for key in parameters["TagKeys"]:
            self.tags[arn].pop(key, None)
        return {}

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
