"""Frames as JSON, between the steps of a run: unlike a pickle, reading one can't run code."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from scanner.core.errors import InternalError


def packed(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a frame as orjson serializes it: per column its dtype, its values, and a category's names."""
    return {name: _packed(frame[name]) for name in frame.columns}


def unpacked(data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame that packed() was given: same columns, dtypes and rows."""
    return pd.DataFrame({name: _unpacked(column) for name, column in data.items()})


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames; categories stay categories. At least one frame.

    Raise InternalError for frames with different columns: a column of one alone would be lost.
    """
    first, *others = frames
    for other in others:
        different = sorted(set(first.columns) ^ set(other.columns))
        if different:
            raise InternalError(f"the batches' results have different columns: {', '.join(different)}")
    return pd.DataFrame({name: _joined([frame[name] for frame in frames]) for name in first.columns})


def _packed(column: "pd.Series[Any]") -> dict[str, Any]:
    kind = str(column.dtype)
    if kind == "category":
        return {
            "dtype": kind,
            "values": column.cat.codes.to_numpy(),
            "categories": column.cat.categories.tolist(),
        }
    if kind in {"str", "object"}:
        return {"dtype": "str", "values": column.tolist()}
    return {"dtype": kind, "values": np.ascontiguousarray(column.to_numpy())}


def _unpacked(column: Mapping[str, Any]) -> Any:
    kind, values = column["dtype"], column["values"]
    if kind == "category":
        names = pd.CategoricalDtype(pd.Index(column["categories"], dtype="str"))
        return pd.Categorical.from_codes(np.array(values, dtype="int32"), dtype=names)
    if kind == "str":
        return pd.array(values, dtype="str")
    # JSON has no NaN; numpy reads its null as one.
    return np.array(values, dtype=kind)


def _joined(columns: "Sequence[pd.Series[Any]]") -> Any:
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return union_categoricals(columns)
    return pd.concat(columns, ignore_index=True)
