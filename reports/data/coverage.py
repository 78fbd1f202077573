"""The arithmetic of coverage; docs/coverage.md defines each number and its denominator."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scanner.inventory.alias_traffic import effective_protection
from scanner.inventory.ledger import ANY_REGION

VERDICTS = ("protected", "eligible", "skipped", "excluded")
READ = "read"
# Units that should have been read and were not: their functions are unknown.
UNREAD = ("error", "timed_out", "throttled", "access_denied")
# Reasons that may only be due to tags that could not be read: each rule by tag fails closed.
_BY_TAGS = ("opted_out", "tag_required", "opted_out;tag_required")
# Units that were not to be read, or have no functions; shown separately.
SET_ASIDE = ("opted_out", "suspended", "region_disabled")


@dataclass(frozen=True)
class Share:
    """A share: `covered` of `total` functions read, and its range with what was not read.

    pct: covered / total; None where total is 0 (no functions is not "all covered").
    assumed_unread: functions assumed in units not read, plus those undecided.
    undecided: functions known to be uncovered, of which it is unknown whether they belong to the total.
    unknown: functions of the total of which it is unknown whether they are covered; not among `covered`.
    worst_pct: all of assumed_unread belongs to the total and is uncovered. best_pct: functions in unread units and
    unknown ones are covered, and undecided ones do not belong to the total.
    """

    covered: int
    total: int
    assumed_unread: int
    undecided: int = 0
    unknown: int = 0

    @property
    def pct(self) -> float | None:
        """Return the share of what was read, in percent."""
        return _pct(self.covered, self.total)

    @property
    def worst_pct(self) -> float | None:
        """Return the share if nothing that was not read is covered, in percent."""
        return _pct(self.covered, self.total + self.assumed_unread)

    @property
    def best_pct(self) -> float | None:
        """Return the share if everything that was not read is covered, in percent."""
        in_units = self.assumed_unread - self.undecided
        return _pct(self.covered + in_units + self.unknown, self.total + in_units)

    def as_dict(self) -> dict[str, Any]:
        """Return the form in summary.json."""
        return asdict(self) | {"pct": self.pct, "worst_pct": self.worst_pct, "best_pct": self.best_pct}


@dataclass(frozen=True)
class Coverage:
    """The headline numbers of one run.

    of_all: protected / functions read. of_coverable: protected / (protected + eligible).
    """

    functions: int
    protected: int
    eligible: int
    skipped: int
    excluded: int
    units_expected: int
    units_read: int
    units_unread: int
    of_all: Share
    of_coverable: Share


@dataclass(frozen=True)
class Effective:
    """Protection where traffic goes, of the functions read (scanner/inventory/alias_traffic.py).

    on_latest: protected on $LATEST, which a change reaches. where_traffic_goes: protected wherever traffic goes; what is
    unknown counts as not protected. left_behind: protected on $LATEST, and unprotected where traffic goes.
    """

    on_latest: Share
    where_traffic_goes: Share
    left_behind: int
    unknown: int
    by_served: dict[str, int]
    by_outcome: dict[str, int]
    snap_start: int
    provisioned_concurrency: int

    def as_dict(self) -> dict[str, Any]:
        """Return the form in summary.json."""
        shares = {name: getattr(self, name).as_dict() for name in ("on_latest", "where_traffic_goes")}
        return vars(self) | shares


def measure(
    functions: pd.DataFrame, units: pd.DataFrame, previous_units: pd.DataFrame | None = None
) -> Coverage:
    """Measure one run. previous_units: an earlier run's units, for the number of functions in units not read now."""
    counts = verdict_counts(functions)
    unread = units["outcome"].isin(UNREAD)
    assumed = int(assumed_functions(units, previous_units).sum())
    protected, eligible = counts["protected"], counts["eligible"]
    undecided = int((tags_unread(functions) & functions["reasons"].isin(_BY_TAGS)).sum())
    return Coverage(
        functions=len(functions),
        **counts,
        units_expected=len(units),
        units_read=int((units["outcome"] == READ).sum()),
        units_unread=int(unread.sum()),
        of_all=Share(protected, len(functions), assumed),
        of_coverable=Share(protected, protected + eligible, assumed + undecided, undecided),
    )


def tags_unread(functions: pd.DataFrame) -> "pd.Series[bool]":
    """Return, per function, whether a rule needed its tags and they could not be read."""
    if "tags_read" not in functions:
        return pd.Series(data=False, index=functions.index)
    return ~functions["tags_read"].astype(bool)


def measure_effective(functions: pd.DataFrame, coverage: Coverage) -> Effective | None:
    """Measure effective coverage from a run's functions and its coverage; None where the run did not read aliases."""
    if "served" not in functions:
        return None
    effective = pd.Series(effective_protection(functions), index=functions.index)
    covered, unknown = (int((effective == state).sum()) for state in ("protected", "unknown"))
    on_latest = functions["protection"] == "protected"
    return Effective(
        on_latest=replace(coverage.of_all, covered=int(on_latest.sum())),
        where_traffic_goes=replace(coverage.of_all, covered=covered, unknown=unknown),
        left_behind=int((on_latest & (effective == "unprotected")).sum()),
        unknown=unknown,
        by_served=counts_of(functions["served"]),
        by_outcome=counts_of(functions["served_outcome"]),
        snap_start=int((functions["snap_start"] == "PublishedVersions").sum()),
        provisioned_concurrency=int((functions["provisioned_concurrency"] > 0).sum()),
    )


def assumed_functions(units: pd.DataFrame, previous_units: pd.DataFrame | None = None) -> "pd.Series[int]":
    """Return the assumed number of functions of each unit not read (index of `units`, those units only).

    It is the number that the earlier run read there, else the mean of this run's units read, rounded up. The unit "*"
    is all regions of an account: the earlier run's number for that account, else the mean of the accounts read.
    """
    unread = units.loc[units["outcome"].isin(UNREAD), ["account_id", "region"]].astype(str)
    known = {} if previous_units is None else _read_functions(previous_units)
    now = _read_functions(units)
    mean_of_unit = _mean([count for (_, region), count in now.items() if region != ANY_REGION])
    mean_of_account = _mean([count for (_, region), count in now.items() if region == ANY_REGION])
    counts = [
        known.get(unit, mean_of_account if unit[1] == ANY_REGION else mean_of_unit)
        for unit in unread.itertuples(index=False, name=None)
    ]
    return pd.Series(counts, index=unread.index, dtype="int64")


def verdict_counts(functions: pd.DataFrame) -> dict[str, int]:
    """Count the functions by verdict; every verdict has a key, also with 0."""
    counts = functions["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def counts_of(values: "pd.Series[Any]") -> dict[str, int]:
    """Count a column's values, most first; values that no row has are left out."""
    counts = values.value_counts()
    return {str(value): int(count) for value, count in counts.items() if count}


def reason_counts(functions: pd.DataFrame) -> pd.DataFrame:
    """Count each reason: index reason; `functions` that have it, `only` those that have no other.

    A function with two reasons counts under both, so that the column adds up to more than the functions.
    """
    uncovered = functions.loc[functions["verdict"].isin(("skipped", "excluded")), "reasons"]
    joined = uncovered.value_counts()
    frame = pd.DataFrame({"reasons": joined.index.astype(str), "count": joined.to_numpy()})
    frame = frame[(frame["count"] > 0) & (frame["reasons"] != "")]
    frame["reason"] = frame["reasons"].str.split(";")
    frame["alone"] = np.where(frame["reason"].str.len() == 1, frame["count"], 0)
    single = frame.explode("reason")
    totals = single.groupby("reason").agg(functions=("count", "sum"), only=("alone", "sum"))
    return totals.sort_values(["functions", "only"], ascending=False, kind="stable")


def by_account(accounts: pd.DataFrame, units: pd.DataFrame, functions: pd.DataFrame) -> pd.DataFrame:
    """Return one row per account of the organization: the table of accounts.csv."""
    by_units = _units_by(units, units["account_id"].astype(str))
    by_functions = _verdicts_by(functions, functions["account_id"])
    frame = accounts[["account_id", "account_name", "ou_path"]].astype(str).set_index("account_id")
    frame = frame.join(by_units, how="outer").join(by_functions).fillna({"account_name": "", "ou_path": ""})
    numbers = ["units_expected", "units_read", "functions", *VERDICTS]
    frame[numbers] = frame[numbers].fillna(0).astype("int64")
    frame = frame.rename_axis("account_id").reset_index()
    return frame[["account_id", "account_name", "ou_path", "outcome", *numbers]]


def by_region(units: pd.DataFrame, functions: pd.DataFrame) -> pd.DataFrame:
    """Return one row per region: index region; units_expected, units_read, functions and the verdicts."""
    frame = _units_by(units, units["region"].astype(str)).drop(columns="outcome")
    return _filled(frame.join(_verdicts_by(functions, functions["region"]), how="outer"))


def by_runtime(functions: pd.DataFrame) -> pd.DataFrame:
    """Return one row per runtime: index runtime ('' is a container image or unreadable); functions and the verdicts."""
    return _filled(_verdicts_by(functions, functions["runtime"]))


def by_ou(accounts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per OU path, from by_account(): the sums of the accounts directly in it."""
    numbers = ["units_expected", "units_read", "functions", *VERDICTS]
    frame = accounts.groupby("ou_path")[numbers].sum()
    frame.insert(0, "accounts", accounts.groupby("ou_path").size())
    return frame


def with_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Add covered_pct (of all functions read) and coverable_pct (of what can be covered); NaN where there is none."""
    coverable = frame["protected"] + frame["eligible"]
    return frame.assign(
        covered_pct=_percent(frame["protected"], frame["functions"]),
        coverable_pct=_percent(frame["protected"], coverable),
    )


def account_outcome(outcomes: set[str]) -> str:
    """Return an account's outcome from its units': the worst failure; else read, if any; else why none was to be read."""
    for outcome in (*UNREAD, READ, *SET_ASIDE):
        if outcome in outcomes:
            return outcome
    raise ValueError(f"unknown unit outcomes: {sorted(outcomes)}")


def _units_by(units: pd.DataFrame, keys: "pd.Series[str]") -> pd.DataFrame:
    grouped = units["outcome"].astype(str).groupby(keys)
    return pd.DataFrame(
        {
            "outcome": grouped.agg(lambda outcomes: account_outcome(set(outcomes))),
            "units_expected": grouped.size(),
            "units_read": (units["outcome"] == READ).groupby(keys).sum(),
        }
    )


def _verdicts_by(functions: pd.DataFrame, keys: "pd.Series[Any]") -> pd.DataFrame:
    """Count verdicts by key, on category codes: fast for a million rows."""
    names = pd.Categorical(keys)
    verdict = pd.Categorical(functions["verdict"], categories=VERDICTS)
    table = np.zeros((len(names.categories), len(VERDICTS)), dtype="int64")
    np.add.at(table, (names.codes, verdict.codes), 1)
    frame = pd.DataFrame(table, index=pd.Index(names.categories.astype(str)), columns=list(VERDICTS))
    frame.insert(0, "functions", table.sum(axis=1))
    return frame[frame["functions"] > 0]


def _filled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.fillna(0).astype("int64").sort_values("functions", ascending=False, kind="stable")


def _read_functions(units: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Return the functions of each unit that was read, and under region "*" those of each account."""
    read = units.loc[units["outcome"] == READ, ["account_id", "region", "functions"]]
    counts: dict[tuple[str, str], int] = {}
    for account_id, region, functions in zip(*(read[column] for column in read.columns), strict=True):
        counts[str(account_id), str(region)] = int(functions)
        whole = str(account_id), ANY_REGION
        counts[whole] = counts.get(whole, 0) + int(functions)
    return counts


def _mean(counts: list[int]) -> int:
    return math.ceil(sum(counts) / len(counts)) if counts else 0


def _pct(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _percent(part: "pd.Series[Any]", whole: "pd.Series[Any]") -> "pd.Series[float]":
    return (100 * part / whole.where(whole > 0)).astype("float64")
