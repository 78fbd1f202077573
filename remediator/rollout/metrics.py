"""Reads what CloudWatch counted of changed functions, before the change and after it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.journal.history import Changed
from scanner.aws.caller import Aws
from scanner.inventory.cloudwatch import Metric, Window, sums
from scanner.inventory.ledger import Unit
from scanner.inventory.parallel import read_units
from scanner.settings import SweepSettings

# AWS/Lambda, in the order of the fields of Figures.
_METRICS = ("Invocations", "Errors", "Throttles", "Duration")
_HOUR, _FINE = 3_600, 300
# A short stretch is counted in steps of five minutes, so that the hour of the change is not lost; a longer one in hours.
_FINE_UP_TO = timedelta(hours=6)


@dataclass(frozen=True)
class Figures:
    """What CloudWatch counted of a function over a stretch of time; duration_ms is the sum over all invocations.

    Throttled requests are in `throttles` and in no other figure.
    """

    invocations: float
    errors: float
    throttles: float
    duration_ms: float

    @property
    def mean_ms(self) -> float:
        """Return the mean duration; 0 where nothing was invoked."""
        return self.duration_ms / self.invocations if self.invocations > 0 else 0.0


# By function ARN: before the change, after it.
Pairs = dict[str, tuple[Figures, Figures]]


def read_figures(
    changed: Sequence[Changed],
    aws: Aws,
    sweep: SweepSettings,
    *,
    hours: int,
    now: datetime,
    deadline: float | None = None,
) -> Pairs:
    """Read up to `hours` on both sides of each change; a function whose metrics could not be read is left out."""
    units: defaultdict[Unit, list[Changed]] = defaultdict(list)
    for one in changed:
        units[Unit(one.account_id, one.region)].append(one)

    def read(unit: Unit, until: float) -> Pairs:
        return _unit(aws, unit, units[unit], hours, now, until)

    found: Pairs = {}
    for answer in read_units("health", list(units), read, aws, sweep, deadline):
        found |= answer.result or {}
    return found


def _unit(
    aws: Aws, unit: Unit, changed: Sequence[Changed], hours: int, now: datetime, deadline: float
) -> Pairs:
    before = _figures(aws, unit, {one: before_window(one, hours) for one in changed}, deadline)
    after = _figures(aws, unit, {one: after_window(one, hours, now) for one in changed}, deadline)
    return {one.function_arn: (before[one], after[one]) for one in changed}


def _figures(
    aws: Aws, unit: Unit, windows: Mapping[Changed, Window], deadline: float
) -> dict[Changed, Figures]:
    """Read functions of one window in one call; those of a run were changed within minutes and share theirs."""
    sharing: defaultdict[Window, list[Changed]] = defaultdict(list)
    for one, window in windows.items():
        sharing[window].append(one)
    found: dict[Changed, Figures] = {}
    for window, some in sharing.items():
        values = sums(aws, unit, list(_metrics(some)), window, deadline) if window.end > window.start else []
        for number, one in enumerate(some):
            found[one] = Figures(*(values[4 * number : 4 * number + 4] or (0.0, 0.0, 0.0, 0.0)))
    return found


def _metrics(changed: Iterable[Changed]) -> Iterable[Metric]:
    for one in changed:
        for name in _METRICS:
            yield Metric("AWS/Lambda", name, "FunctionName", one.function_name)


def before_window(one: Changed, hours: int) -> Window:
    """Return the hours before a change, up to the full hour before it began."""
    end = _down(one.begun, _HOUR)
    return Window(end - timedelta(hours=hours), end, _HOUR)


def after_window(one: Changed, hours: int, now: datetime) -> Window:
    """Return the time since a change was confirmed, `hours` at most."""
    period = _FINE if now - one.ended <= _FINE_UP_TO else _HOUR
    start = _down(one.ended, period) + timedelta(seconds=period)
    return Window(start, min(_down(now, period), start + timedelta(hours=hours)), period)


def _down(moment: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, tz=moment.tzinfo)
