"""Categorical columns: one value a category, spread over the rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def by_category(
    column: pd.Series, values: Sequence[object], dtype: npt.DTypeLike, absent: object
) -> npt.NDArray[Any]:
    """Spread one value a category over the rows: a look-up a row instead of a comparison of strings.

    absent: the value of rows without a category. Their code is -1, so it is the last entry of the table.
    """
    rows: npt.NDArray[Any] = np.take(
        np.asarray([*values, absent], dtype=dtype), column.cat.codes.to_numpy(), axis=0, mode="wrap"
    )
    return rows
