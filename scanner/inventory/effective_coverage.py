"""Effective coverage: what each function of a functions frame serves (alias_traffic.py), read unit by unit."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from scanner.aws.caller import Aws
from scanner.inventory.alias_reader import AliasTraffic
from scanner.inventory.alias_traffic import SERVED, format_aliases, served_by, serves_latest
from scanner.inventory.ledger import FAULTS, Unit, rows_by_unit
from scanner.inventory.parallel import read_units
from scanner.settings import SweepSettings

READ = "read"
OUTCOMES = (READ, *FAULTS)
_NOT_LISTED = AliasTraffic({}, "")


class _Columns:
    """The columns while units are read; a row without a record is unknown."""

    def __init__(self, rows: int) -> None:
        self.served = np.full(rows, SERVED.index("unknown"), dtype=np.int8)
        self.outcome = np.full(rows, OUTCOMES.index("error"), dtype=np.int8)
        self.latest = np.zeros(rows, dtype=bool)
        self.provisioned = np.full(rows, -1, dtype=np.int32)
        self.aliases = np.full(rows, "", dtype=object)
        self.snap_start = np.full(rows, "", dtype=object)

    def record(self, row: int, traffic: AliasTraffic, fault: str) -> None:
        """Record what was read of a function; fault: the outcome of a function whose qualifiers were not read."""
        self.snap_start[row] = traffic.snap_start
        self.outcome[row] = OUTCOMES.index(fault if traffic.qualifiers is None else READ)
        if traffic.qualifiers is None:
            return
        self.served[row] = SERVED.index(served_by(traffic.qualifiers, traffic.carries))
        self.latest[row] = serves_latest(traffic.qualifiers)
        self.aliases[row] = format_aliases(traffic.qualifiers, traffic.carries)
        self.provisioned[row] = traffic.provisioned

    def by_name(self) -> dict[str, object]:
        return {
            "served": pd.Categorical.from_codes(self.served, list(SERVED)),
            "serves_latest": self.latest,
            "served_outcome": pd.Categorical.from_codes(self.outcome, list(OUTCOMES)),
            "aliases": _category(self.aliases),
            "snap_start": _category(self.snap_start),
            "provisioned_concurrency": self.provisioned,
        }


def add_effective_coverage(
    functions: pd.DataFrame,
    read: Callable[[Unit, dict[str, AliasTraffic], float], None],
    aws: Aws,
    settings: SweepSettings,
    deadline: float | None = None,
) -> pd.DataFrame:
    """Return the frame with what each function serves; no row more.

    read: AliasReader.read_unit, or another that fills what it reads of a unit into a dictionary by function name.
    deadline: a Clock.monotonic() moment. Raises InternalError.

    served, serves_latest: see alias_traffic.py. served_outcome (category): `read`, or the fault that left it unknown.
    aliases (category): what each alias serves, as format_aliases writes it. snap_start (category): SnapStart.ApplyOn.
    provisioned_concurrency (int32): executions kept warm over all qualifiers, -1 where that was not read.
    """
    columns = _Columns(len(functions))
    rows_of = rows_by_unit(functions)
    traffic: dict[Unit, dict[str, AliasTraffic]] = {unit: {} for unit in rows_of}
    names = functions["function_name"].to_numpy(dtype=object)

    def read_unit(unit: Unit, until: float) -> None:
        read(unit, traffic[unit], until)

    for answer in read_units("versions and aliases", list(rows_of), read_unit, aws, settings, deadline):
        # A function that the sweep read and this listing lacks was deleted, or is hidden: an error, and unknown.
        fault = "error" if answer.outcome == READ else answer.outcome
        for row in rows_of[answer.unit].tolist():
            columns.record(row, traffic[answer.unit].get(names[row], _NOT_LISTED), fault)
    return functions.assign(**columns.by_name())


def _category(texts: "np.ndarray[tuple[int], np.dtype[np.object_]]") -> pd.Categorical:
    codes, found = pd.factorize(texts)
    return pd.Categorical.from_codes(codes, pd.Index(found, dtype="str"))
