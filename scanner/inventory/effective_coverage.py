"""Effective coverage: adds to a functions frame what each function serves (served.py), read unit by unit."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from scanner.aws.caller import Aws
from scanner.core.errors import InternalError
from scanner.core.worker_pool import TaskResult, WorkerPool
from scanner.inventory.alias_reader import AliasTraffic, UnitAliasTraffic, read_alias_traffic
from scanner.inventory.alias_traffic import SERVED, format_aliases, served_by, serves_latest
from scanner.inventory.ledger import Unit, rows_by_unit
from scanner.inventory.measured import FAULTS
from scanner.inventory.sweep import outcome_of
from scanner.inventory.unread import log_unit_error
from scanner.risk.rules import Rules
from scanner.settings import SweepSettings

READ = "read"
OUTCOMES = (READ, *FAULTS)
_NOTHING = AliasTraffic({}, "")


class _Sheet:
    """The columns while they are filled in; what nobody read is unknown."""

    def __init__(self, rows: int) -> None:
        self.served = np.full(rows, SERVED.index("unknown"), dtype=np.int8)
        self.outcome = np.full(rows, OUTCOMES.index("error"), dtype=np.int8)
        self.latest = np.zeros(rows, dtype=bool)
        self.provisioned = np.full(rows, -1, dtype=np.int32)
        self.aliases = np.full(rows, "", dtype=object)
        self.snap_start = np.full(rows, "", dtype=object)

    def note(self, row: int, serving: AliasTraffic, otherwise: str) -> None:
        """Note what was read of a function, or with which outcome the reading of its unit ended without it."""
        self.snap_start[row] = serving.snap_start
        self.outcome[row] = OUTCOMES.index(otherwise if serving.qualifiers is None else READ)
        if serving.qualifiers is None:
            return
        self.served[row] = SERVED.index(served_by(serving.qualifiers, serving.carries))
        self.latest[row] = serves_latest(serving.qualifiers)
        self.aliases[row] = format_aliases(serving.qualifiers, serving.carries)
        self.provisioned[row] = serving.provisioned

    def columns(self) -> dict[str, object]:
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
    aws: Aws,
    rules: Rules,
    settings: SweepSettings,
    deadline: float | None = None,
    read: Callable[[Aws, Unit, Rules, float], UnitAliasTraffic] = read_alias_traffic,
) -> pd.DataFrame:
    """Add what each function serves; no row more. `deadline`: time.monotonic(). `read`: reads a unit's functions.

    served, serves_latest: see served.py. served_outcome (category): `read`, or the fault that left it unknown.
    aliases (category): what each alias serves, as served.told writes it. snap_start (category): SnapStart.ApplyOn.
    provisioned_concurrency (int32): executions kept warm over all qualifiers, -1 where that was not read.
    """
    sheet = _Sheet(len(functions))
    rows_of = rows_by_unit(functions)
    names = functions["function_name"].to_numpy(dtype=object)
    workers: WorkerPool[Unit, UnitAliasTraffic] = WorkerPool(
        lambda unit: read(aws, unit, rules, settings.unit_timeout_sec),
        settings.workers,
        settings.unit_timeout_sec,
    )
    for done in workers.run(list(rows_of), deadline, aws.stop):
        found = _settled(done, aws)
        # A function that the sweep saw and this listing did not is gone, or hidden: an error, and unknown.
        otherwise = "error" if found.outcome == READ else found.outcome
        for row in rows_of[done.task].tolist():
            sheet.note(row, found.functions.get(names[row], _NOTHING), otherwise)
    return functions.assign(**sheet.columns())


def _settled(done: TaskResult[Unit, UnitAliasTraffic], aws: Aws) -> UnitAliasTraffic:
    if isinstance(done.error, InternalError):
        aws.stop.set()
        raise done.error
    found = done.result or UnitAliasTraffic({}, *outcome_of(done.error or TimeoutError("nothing came back")))
    if found.outcome != READ:
        log_unit_error(
            "versions and aliases", done.task, f"{found.outcome}: {found.detail}", outcome=found.outcome
        )
    return found


def _category(texts: "np.ndarray[tuple[int], np.dtype[np.object_]]") -> pd.Categorical:
    codes, found = pd.factorize(texts)
    return pd.Categorical.from_codes(codes, pd.Index(found, dtype="str"))
