"""A table as data for the page's script: columns, each value once, gzip, base64 (so no name can end the script)."""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from reports.render.text import visible

# A column in which nearly every cell differs is smaller as it is.
_DICTIONARY_BELOW = 0.5


@dataclass(frozen=True)
class Column:
    """One column: its title, its values, whether it is a number, and how it can be picked from (see table.js)."""

    name: str
    title: str
    values: "pd.Series[Any]"
    number: bool = False
    pick: Literal["value", "part"] | None = None


def pack(columns: Sequence[Column]) -> str:
    """Give the columns as base64 of gzip of JSON: {rows, columns: [{name, title, number, pick, values, codes}]}.

    values are sorted, so that codes sort like what they stand for; a column without codes has one value a row.
    """
    document = {"rows": len(columns[0].values), "columns": [_packed(column) for column in columns]}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0)).decode("ascii")


def _packed(column: Column) -> dict[str, Any]:
    head = {"name": column.name, "title": column.title, "number": column.number, "pick": column.pick}
    codes, uniques = pd.factorize(column.values, use_na_sentinel=False)
    values = [value.item() if hasattr(value, "item") else value for value in uniques]
    if not column.number:
        values = [visible(str(value)) for value in values]
    if len(values) > _DICTIONARY_BELOW * len(codes):
        return head | {"values": [values[code] for code in codes.tolist()], "codes": None}
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return head | {"values": [values[i] for i in order], "codes": place[codes].tolist()}
