"""Reads what CloudWatch counted of changed functions: hour by hour before the change, and since."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from remediator.journal.history import Changed
from scanner.aws.caller import Aws
from scanner.inventory.cloudwatch import Metric, Window, sums
from scanner.inventory.ledger import Unit
from scanner.inventory.parallel import read_units
from scanner.settings import SweepSettings

# AWS/Lambda, in the order of Traffic's columns; Duration's sum is in milliseconds, over all invocations. Throttled
# requests are in Throttles and in no other metric.
METRICS = ("Invocations", "Errors", "Throttles", "Duration")
HOUR, STEP = 3_600, 300
# Four of each weekday. CloudWatch keeps sums of an hour for 455 days, those of five minutes for 63; it bills a metric,
# whatever the time range.
HISTORY = timedelta(days=28)
# The time right before a change, read together with the time since.
RECENT = timedelta(hours=3)

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """What CloudWatch counted of a function: a row a period, a column a metric.

    history: full hours, up to the hour in which the change began. recent: steps up to the change, for RECENT. since: steps
    from `start` on.
    """

    history: Counts
    history_end: datetime
    recent: Counts
    since: Counts
    start: datetime


def read_traffic(
    changed: Sequence[Changed],
    aws: Aws,
    sweep: SweepSettings,
    *,
    hours: int,
    now: datetime,
    deadline: float | None = None,
) -> dict[str, Traffic]:
    """Read, by function ARN, HISTORY before each change and up to `hours` since.

    A function whose metrics could not be read is left out.
    """
    units: defaultdict[Unit, list[Changed]] = defaultdict(list)
    for one in changed:
        units[Unit(one.account_id, one.region)].append(one)

    def read(unit: Unit, until: float) -> dict[str, Traffic]:
        return _unit(aws, unit, units[unit], hours, now, until)

    found: dict[str, Traffic] = {}
    for answer in read_units("health", list(units), read, aws, sweep, deadline):
        found |= answer.result or {}
    return found


def _unit(
    aws: Aws, unit: Unit, changed: Sequence[Changed], hours: int, now: datetime, deadline: float
) -> dict[str, Traffic]:
    before = {one: before_window(one) for one in changed}
    around = {one: around_window(one, hours, now) for one in changed}
    history, steps = (_counts(aws, unit, windows, deadline) for windows in (before, around))
    return {
        one.function_arn: traffic_of(one, history[one], before[one], steps[one], around[one])
        for one in changed
    }


def traffic_of(one: Changed, history: Counts, before: Window, steps: Counts, around: Window) -> Traffic:
    """Split what was counted around a change; the steps in which it was made belong to neither side."""
    begun = (_down(one.begun, STEP) - around.start) // timedelta(seconds=STEP)
    start = _down(one.ended, STEP) + timedelta(seconds=STEP)
    since = (start - around.start) // timedelta(seconds=STEP)
    return Traffic(history, before.end, steps[:begun], steps[since:], start)


def _counts(
    aws: Aws, unit: Unit, windows: Mapping[Changed, Window], deadline: float
) -> dict[Changed, Counts]:
    """Read functions of one window together; those of a run were changed within minutes and share theirs."""
    sharing: defaultdict[Window, list[Changed]] = defaultdict(list)
    for one, window in windows.items():
        sharing[window].append(one)
    found: dict[Changed, Counts] = {}
    for window, some in sharing.items():
        values = sums(aws, unit, list(_metrics(some)), window, deadline)
        found |= zip(some, np.split(values, len(some), axis=1), strict=True)
    return found


def _metrics(changed: Iterable[Changed]) -> Iterable[Metric]:
    for one in changed:
        for name in METRICS:
            yield Metric("AWS/Lambda", name, "FunctionName", one.function_name)


def before_window(one: Changed) -> Window:
    """Return HISTORY before a change, up to the full hour before it began."""
    end = _down(one.begun, HOUR)
    return Window(end - HISTORY, end, HOUR)


def around_window(one: Changed, hours: int, now: datetime) -> Window:
    """Return the time from RECENT before a change began until `hours` after it was confirmed, or until now."""
    start = _down(one.begun, STEP) - RECENT
    return Window(start, _down(min(now, one.ended + timedelta(hours=hours)), STEP), STEP)


def _down(moment: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, tz=moment.tzinfo)
