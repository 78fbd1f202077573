"""The runs of one ISO week, read from the store and compared."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd

from reports.data.columns import ACCOUNTS
from reports.data.coverage import READ, UNREAD
from reports.data.read_back import read_csv, read_summary
from scanner.core.errors import BadInput
from scanner.inventory.ledger import ANY_REGION
from storage.protocol import Store

log = logging.getLogger(__name__)

# Of the hourly job, `auto-defender run`, whoever starts it.
HOURLY_MODES = ("dry_run", "apply")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Week:
    """An ISO week: Monday 00:00 to Monday 00:00, UTC."""

    name: str

    @property
    def monday(self) -> date:
        """Return its first day."""
        year, number = self.name.split("-W")
        return date.fromisocalendar(int(year), int(number), 1)

    @property
    def sunday(self) -> date:
        """Return its last day."""
        return self.monday + timedelta(days=6)

    @property
    def begin(self) -> datetime:
        """Return its start."""
        return datetime(self.monday.year, self.monday.month, self.monday.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Return its end, exclusive."""
        return self.begin + timedelta(days=7)

    def before(self, weeks: int) -> "Week":
        """Return the week that many weeks earlier."""
        year, number, _ = (self.monday - timedelta(weeks=weeks)).isocalendar()
        return Week(f"{year}-W{number:02}")


@dataclass(frozen=True)
class Run:
    """One run of the week: its folder in the store and its summary.json."""

    folder: str
    summary: Mapping[str, Any]

    @property
    def started(self) -> datetime:
        """Return its start time."""
        return datetime.fromisoformat(str(self.summary["started"]))

    @property
    def swept(self) -> bool:
        """Return whether it may be one of the hourly sweeps: of `run`, and of the whole organization.

        A `scan` is not, and neither are a sweep that was cut off, and a rollback and an approved plan, which have none.
        """
        whole = self.summary.get("whole_scope", True)  # runs of earlier versions do not say
        return bool(self.summary["mode"] in HOURLY_MODES and self.summary["units_expected"] > 0 and whole)

    @property
    def trigger(self) -> str | None:
        """Return what started it, `schedule` or `command`; None for a run of an earlier version."""
        return self.summary.get("trigger")

    @property
    def incomplete(self) -> bool:
        """Return whether units, or the tags that a rule needs, were not read."""
        tags = self.summary.get("tags_unread", {})  # runs of earlier versions have none
        return bool(self.summary["units_unread"] or tags.get("functions"))


@dataclass(frozen=True)
class Gap:
    """Consecutive hours in which no sweep started."""

    begin: datetime
    hours: int

    @property
    def end(self) -> datetime:
        """Return the end of the last of them, exclusive."""
        return self.begin + self.hours * _HOUR


@dataclass(frozen=True)
class WeekChanges:
    """The differences between the week's first and last sweep.

    protected: functions covered at the end and not at the start. lost: covered at the start, not covered at the end.
    deleted: covered at the start, absent at the end from a unit that was read. unknown: covered at the start, in a unit
    that was not read at the end. unreachable: units read at the start that could not be read at the end.
    Frames: account_id, region, and for functions function_name.
    """

    protected: pd.DataFrame
    lost: pd.DataFrame
    deleted: pd.DataFrame
    unknown: pd.DataFrame
    unreachable: pd.DataFrame


def runs_of(store: Store, week: Week) -> tuple[list[Run], list[str]]:
    """Return the runs that started in a week, oldest first, and the folders of runs with a broken summary."""
    days = [f"runs/{week.monday + timedelta(days=day):%Y/%m/%d}/" for day in range(7)]
    folders = [f"{day}{run_id}" for day in days for run_id in store.folders(day)]
    runs, broken = [], []
    for folder in folders:
        try:
            summary = read_summary(store, folder)
        except ValueError as error:
            log.warning("a run of week %s is left out: %s", week.name, error)
            broken.append(folder)
            continue
        if summary is not None:
            runs.append(Run(folder, summary))
    return sorted(runs, key=lambda run: run.started), broken


def sweeps_of(runs: Iterable[Run]) -> list[Run]:
    """Return the hourly sweeps among a week's runs.

    Where a schedule started any of them, one that somebody started by hand is none. Without, all count: the schedule may
    be cron, which runs the command line.
    """
    swept = [run for run in runs if run.swept]
    by_hand = {"command"} if any(run.trigger == "schedule" for run in swept) else set()
    return [run for run in swept if run.trigger not in by_hand]


def gaps(sweeps: Iterable[Run], week: Week, now: datetime) -> list[Gap]:
    """Return the gaps of the week, as far as it has passed."""
    swept = {int((run.started - week.begin) / _HOUR) for run in sweeps}
    passed = max(0, int((min(now, week.end) - week.begin) / _HOUR))
    found: list[Gap] = []
    for hour in sorted(set(range(passed)) - swept):
        begin = week.begin + hour * _HOUR
        if found and found[-1].end == begin:
            found[-1] = Gap(found[-1].begin, found[-1].hours + 1)
        else:
            found.append(Gap(begin, 1))
    return found


def week_changes(store: Store, first: Run, last: Run) -> WeekChanges:
    """Compare the functions and units of two sweeps."""
    before, after = (_csv(store, run, "functions", ["function_arn", "verdict"]) for run in (first, last))
    was = before.loc[before["verdict"] == "protected", "function_arn"]
    now = after.loc[after["verdict"] == "protected", "function_arn"]
    uncovered = was[~was.isin(now)]
    present = uncovered.isin(after["function_arn"])
    absent = _parts(uncovered[~present])
    key = ["account_id", "region"]
    units_before, units_after = (_csv(store, run, "units", [*key, "outcome"]) for run in (first, last))
    read = units_after[units_after["outcome"] == READ]
    unit_read = pd.MultiIndex.from_frame(absent[key]).isin(pd.MultiIndex.from_frame(read[key]))
    return WeekChanges(
        protected=_parts(now[~now.isin(was)]),
        lost=_parts(uncovered[present]),
        deleted=absent[unit_read],
        unknown=absent[~unit_read],
        unreachable=_unreachable(
            units_before[units_before["outcome"] == READ], units_after[units_after["outcome"].isin(UNREAD)]
        ),
    )


def _unreachable(read: pd.DataFrame, unread: pd.DataFrame) -> pd.DataFrame:
    """Return the units that were read and no longer are, with their outcome."""
    key = ["account_id", "region"]
    # The unit "*" is an account whose regions could not be listed: nothing of it was read.
    accounts_unread = unread[unread["region"] == ANY_REGION].set_index("account_id")["outcome"]
    units = read[key].merge(unread, on=key, how="left")
    of_account = units["account_id"].map(accounts_unread).astype(units["outcome"].dtype)
    units["outcome"] = units["outcome"].fillna(of_account)
    return units.dropna(subset=["outcome"])


def _parts(arns: "pd.Series[str]") -> pd.DataFrame:
    """Return the parts of function ARNs: account_id, region, function_name."""
    parts = [arn.split(":", 6) for arn in arns]
    rows = [(account_id, region, name) for _, _, _, region, account_id, _, name in parts]
    return pd.DataFrame(rows, columns=["account_id", "region", "function_name"], dtype="str")


def accounts_of(store: Store, run: Run) -> pd.DataFrame:
    """Read a run's accounts.csv."""
    return _csv(store, run, "accounts", list(ACCOUNTS))


def _csv(store: Store, run: Run, name: str, columns: list[str]) -> pd.DataFrame:
    """Read a file that the report requires; raise BadInput, with what to do, if it is missing or broken."""
    how = "put it back, or move this run's folder out of runs/"
    try:
        frame = read_csv(store, run.folder, name, columns)
    except ValueError as error:
        raise BadInput(f"{error}; {how}") from error
    if frame is None:
        raise BadInput(
            f"{store.url(run.folder)}: {name}.csv is missing, although summary.json is there; {how}"
        )
    return frame
