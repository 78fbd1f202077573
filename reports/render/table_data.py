"""A table packed for the page's script: dictionary-encoded columns, gzip, base64 (so no name can end the script)."""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from reports.render.text import visible

# A column in which nearly every cell differs is smaller without a dictionary.
_DICTIONARY_BELOW = 0.5


@dataclass(frozen=True)
class Column:
    """One column. number: sorted as a number. pick: how it can be filtered (see table.js)."""

    name: str
    title: str
    values: "pd.Series[Any]"
    number: bool = False
    pick: Literal["value", "part"] | None = None


def pack(columns: Sequence[Column]) -> str:
    """Return the columns as base64 of gzipped JSON: {rows, columns: [{name, title, number, pick, values, codes}]}.

    values are sorted, so that codes sort like their values; a column without codes has one value per row.
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
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return head | {"values": [values[i] for i in order], "codes": rank[codes].tolist()}
