"""Which wave each function goes with: by its account, its OU or its tag."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from remediator.settings import WaveSettings
from scanner.aws.caller import Aws
from scanner.core.errors import InternalError
from scanner.core.worker_pool import WorkerPool
from scanner.inventory.ledger import Unit, rows_by_unit
from scanner.inventory.tags import functions_with
from scanner.inventory.unread import log_unit_error
from scanner.settings import SweepSettings, Tag

# Instead of a wave's number: the unit's tags could not be read, so the function may belong to any wave with a tag.
UNKNOWN = -1

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WaveTags:
    """A flag a function: whether its tags were read, and by tag, whether it carries it."""

    read: Flags
    carried: Mapping[Tag, Flags]


def read_tags(
    functions: pd.DataFrame,
    waves: Sequence[WaveSettings],
    aws: Aws,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> WaveTags:
    """Return which functions carry the waves' tags: one listing a unit and tag, none where no wave has a tag."""
    tags = list(dict.fromkeys(wave.tag for wave in waves if wave.tag is not None))
    read = np.full(len(functions), not tags, dtype=bool)
    carried = {tag: np.zeros(len(functions), dtype=bool) for tag in tags}
    rows_of = rows_by_unit(functions) if tags else {}

    def names(unit: Unit) -> list[set[str]]:
        return [functions_with(aws, unit, tag, time.monotonic() + sweep.unit_timeout_sec) for tag in tags]

    workers: WorkerPool[Unit, list[set[str]]] = WorkerPool(names, sweep.workers, sweep.unit_timeout_sec)
    for done in workers.run(list(rows_of), deadline, aws.stop):
        if isinstance(done.error, InternalError):
            raise done.error
        if done.result is None:
            log_unit_error("tags", done.task, done.error)
            continue
        rows = rows_of[done.task]
        read[rows] = True
        for tag, carriers in zip(tags, done.result, strict=True):
            carried[tag][rows] = functions["function_name"].iloc[rows].isin(carriers).to_numpy()
    return WaveTags(read, carried)


def wave_numbers(
    functions: pd.DataFrame, accounts: pd.DataFrame, waves: Sequence[WaveSettings], tagged: WaveTags
) -> npt.NDArray[np.intp]:
    """Return each function the number of the first wave that names it; len(waves) for none, UNKNOWN.

    accounts: the accounts frame, of which account_id and ou_ids are read.
    """
    numbers = np.full(len(functions), len(waves), dtype=np.intp)
    for number in reversed(range(len(waves))):
        wave = waves[number]
        if wave.tag is not None:
            numbers[~tagged.read] = UNKNOWN
            numbers[tagged.carried[wave.tag]] = number
        numbers[functions["account_id"].isin(accounts_of(wave, accounts)).to_numpy()] = number
    return numbers


def accounts_of(wave: WaveSettings, accounts: pd.DataFrame) -> frozenset[str]:
    """Return the accounts that a wave names, by id or by an OU above them."""
    ous = set(wave.ous)
    below = [not ous.isdisjoint(ids.split()) for ids in accounts["ou_ids"]]
    return frozenset(wave.accounts) | frozenset(accounts["account_id"][below])
