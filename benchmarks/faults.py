"""The faults that the loopback server can inject, each for one unit, and how each looks on the wire."""

import time
from calendar import timegm
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal[
    "error",  # an HTTP status with AWS's error body: 500, 503, 429 (with Retry-After), 403 …
    "reset",  # half of the body, then a TCP reset
    "truncated",  # half of the body, with a length that matches
    "not_json",  # an HTML page with status 200, as a proxy sends
    "without_key",  # a JSON object that lacks what the operation always carries
    "same_marker",  # a NextMarker that never moves
    "trickle",  # one byte a second
    "hang",  # no answer at all
    "expired",  # the first session of the account has expired; a renewed one works
    "skew",  # the server's clock is ten minutes ahead, and it rejects requests that are five minutes old
    "wrong_account",  # the answer of another account
    "region_disabled",  # the account has not enabled the region
]
SKEW_SECONDS = 600
SKEW_ALLOWED = 300
CODES = {
    400: "InvalidParameterValueException",
    403: "AccessDeniedException",
    429: "TooManyRequestsException",
    500: "ServiceException",
    503: "ServiceUnavailable",
}


@dataclass
class Fault:
    """One fault of a unit.

    service: whose calls fail; after: the number of calls that succeed first; times: how many then fail (None: all);
    status and code: of an ``error``; retry_after: seconds, sent as a header.
    """

    kind: Kind
    service: str = "lambda"
    after: int = 0
    times: int | None = None
    status: int = 500
    code: str | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no such fault: {self.kind}")

    def hits(self, service: str) -> bool:
        """Return whether this call fails, and count it."""
        if service != self.service or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


FaultPlan = dict[tuple[str, str], list[Fault]]  # by (account, region); "*" for any


def read_plan(document: dict[str, list[dict[str, Any]]]) -> FaultPlan:
    """A plan from JSON: {"ACCOUNT/REGION": [{"kind": …}, …]}."""
    plan: FaultPlan = {}
    for unit, faults in document.items():
        account, region = unit.split("/")
        plan[(account, region)] = [Fault(**fault) for fault in faults]
    return plan


def find_fault(plan: FaultPlan, account: str, region: str, service: str) -> Fault | None:
    """Return the fault of this call, if any."""
    for unit in ((account, region), (account, "*"), ("*", region), ("*", "*")):
        for fault in plan.get(unit, ()):
            if fault.hits(service):
                return fault
    return None


def disabled_regions(plan: FaultPlan, account: str) -> set[str]:
    """Return the regions that this account has not enabled in the plan."""
    return {
        region
        for (owner, region), faults in plan.items()
        if owner in (account, "*") and any(fault.kind == "region_disabled" for fault in faults)
    }


def clock_is_off(amz_date: str) -> bool:
    """Return whether a server with clock skew rejects a request signed at this time (20261124T034232Z)."""
    signed = timegm(time.strptime(amz_date, "%Y%m%dT%H%M%SZ"))
    return abs(time.time() + SKEW_SECONDS - signed) > SKEW_ALLOWED
