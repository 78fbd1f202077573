"""Which wave each function goes with: by its account, its OU or its tag."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from remediator.settings import WaveSettings
from scanner.aws.caller import Aws
from scanner.inventory.tags import TagFlags, read_tag_flags
from scanner.settings import SweepSettings

# Instead of a wave's number: the unit's tags could not be read, so the function may belong to any wave with a tag.
UNKNOWN = -1


def read_tags(
    functions: pd.DataFrame,
    waves: Sequence[WaveSettings],
    aws: Aws,
    sweep: SweepSettings,
    deadline: float | None = None,
) -> TagFlags:
    """Read which functions carry the waves' tags: a call a unit and tag, none where no wave has a tag."""
    tags = list(dict.fromkeys(wave.tag for wave in waves if wave.tag is not None))
    return read_tag_flags(functions, tags, aws, sweep, deadline)


def wave_numbers(
    functions: pd.DataFrame, accounts: pd.DataFrame, waves: Sequence[WaveSettings], tagged: TagFlags
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
