"""Which call goes wrong, and how: drawn from the seed, the call and how often it came, whatever the threads do."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from benchmarks.faults import Fault


@dataclass(frozen=True)
class Planned:
    """One fault. when: "before" (the call is not carried out), "after" (it is, and its answer is spoiled), or what
    the simulator does instead.
    """

    name: str
    when: str
    fault: Fault | None = None


def _error(name: str, status: int, code: str | None = None) -> Planned:
    return Planned(name, "before", Fault("error", status=status, code=code))


_ANY = (
    _error("throttled", 429),
    _error("server error", 500),
    _error("unavailable", 503),
    Planned("reset before", "before", Fault("reset")),
    Planned("reset after", "after", Fault("reset")),
    Planned("truncated", "after", Fault("truncated")),
    Planned("no JSON", "after", Fault("not_json")),
    Planned("without its key", "after", Fault("without_key")),
    Planned("expired session", "expired"),
)
_HANG = Planned("hangs", "after", Fault("hang"))
_OF_FUNCTION = (Planned("owner deploys", "owner"), Planned("deleted", "deleted"))
_WRITE = (
    *_OF_FUNCTION,
    Planned("owner deploys", "owner"),
    Planned("owner deploys", "owner"),
    Planned("server error after", "after", Fault("error", status=500)),
    Planned("server error after", "after", Fault("error", status=503)),
    Planned("reset after", "after", Fault("reset")),
    Planned("ends Failed", "failing"),
    Planned("ends Failed", "failing"),
    Planned("quotes the environment", "quote"),
    _error("denied", 403, "AccessDeniedException"),
    _error("conflict", 409, "ResourceConflictException"),
    _error("key disabled", 400, "KMSDisabledException"),
)
FAULTS: dict[str, tuple[Planned, ...]] = {
    "ListFunctions": (*_ANY, Planned("same marker", "after", Fault("same_marker")), _error("denied", 403)),
    "GetFunctionConfiguration": (*_ANY, *_OF_FUNCTION, _error("denied", 403)),
    "UpdateFunctionConfiguration": (*_ANY, *_WRITE),
    "Tags": (*_ANY, _error("denied", 403)),
    "GetResources": _ANY,
    "AssumeRole": (
        _error("throttled", 429),
        _error("server error", 500),
        _error("denied", 403, "AccessDenied"),
    ),
}
# How often, in a hundred calls of a campaign with fault_rate 1. A retried read meets several.
_PERCENT = {"UpdateFunctionConfiguration": 30, "AssumeRole": 5, "ListFunctions": 10}


class FaultPlan:
    """Draws faults. fault_rate: 0 none, 1 as often as _PERCENT says; hanging: a region that does not answer ("" none)."""

    def __init__(self, seed: int, fault_rate: float, hanging: str = "") -> None:
        self.seed = seed
        self.fault_rate = fault_rate
        self.hanging = hanging
        self.drawn: Counter[str] = Counter()
        self._times: Counter[tuple[str, str]] = Counter()

    def draw(self, operation: str, subject: str, region: str) -> Planned | None:
        """Return the fault of this call, None for none. subject: the function's ARN, or the unit."""
        self._times[operation, subject] += 1
        if region == self.hanging and operation == "ListFunctions":
            return _HANG
        rng = Random(f"{self.seed} {operation} {subject} {self._times[operation, subject]}")
        if operation not in FAULTS or rng.random() * 100 >= self.fault_rate * _PERCENT.get(operation, 4):
            return None
        planned = _HANG if rng.random() < 0.01 else rng.choice(FAULTS[operation])
        self.drawn[f"{operation}: {planned.name}"] += 1
        return planned
