"""CSV: RFC 4180, UTF-8, one line per row, no cell that a spreadsheet reads as a formula; docs/schema.md has the columns."""

import csv
import gzip
import io
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.render.text import visible

# Above this many bytes of text a CSV is written as NAME.csv.gz.
GZIP_ABOVE = 64 * 1024 * 1024
_CHUNK = 50_000
# In these, -1 means "not known" and is written as an empty cell.
_EMPTY_BELOW_ZERO = (
    "memory_mb", "timeout_sec", "code_size_bytes", "functions_start", "protected_start", "provisioned_concurrency",
)  # fmt: skip
# OWASP "CSV Injection": these start a formula, also after the separator of a semicolon locale, also full-width.
_STARTS = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(f"(?:^|(?<=;))(?={_STARTS})")
_SUSPECT = re.compile(f";{_STARTS}")
# Athena's OpenCSVSerde needs an escape character and removes it from cells: stacksets/athena.yaml has this one.
ATHENA_ESCAPE = "`"


def neutral(text: str) -> str:
    r"""Return a cell's text: one line, no part of which a spreadsheet reads as a formula.

    Invisible characters are escapes (\n, \u202e), because Athena ends a row at a line break even within quotes; so is
    Athena's escape character. An apostrophe precedes what would start a formula.
    """
    escaped = visible(text).replace(ATHENA_ESCAPE, f"\\u{ord(ATHENA_ESCAPE):04x}")
    return _FORMULA.sub("'", escaped)


def _neutral_all(texts: list[str]) -> list[str]:
    """Return many cells' texts; one test of all of them together finds nearly always that none needs a change."""
    joined = ";" + ";".join(texts)
    plain = joined.isascii() and joined.isprintable() and ATHENA_ESCAPE not in joined
    return texts if plain and not _SUSPECT.search(joined) else [neutral(text) for text in texts]


def write_csv(frame: pd.DataFrame, columns: tuple[str, ...], folder: Path, name: str) -> Path:
    """Write `name`.csv, or `name`.csv.gz if it is large, into `folder`; return its path."""
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        for text in csv_text(frame, columns):
            file.write(text)
    return _gzipped(path) if path.stat().st_size > GZIP_ABOVE else path


def csv_text(frame: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[str]:
    """Yield the file's text in chunks, the header first."""
    yield _rows([columns])
    cells = [_Column(frame[column], column) for column in columns]
    for start in range(0, len(frame), _CHUNK):
        yield _rows(zip(*(column.cells(start, start + _CHUNK) for column in cells), strict=True))


class _Column:
    """One column's cells, ready for csv.writer. Categories are neutralised once each, not once a cell."""

    def __init__(self, values: "pd.Series[Any]", name: str) -> None:
        self._categories: Any = None
        if isinstance(values.dtype, pd.CategoricalDtype):
            texts = [neutral(str(category)) for category in values.cat.categories]
            self._categories = np.array([*texts, ""], dtype=object)  # code -1, absent, is the last
            values = values.cat.codes
        self._values = values
        self._empty = -1 if name in _EMPTY_BELOW_ZERO else None

    def cells(self, start: int, stop: int) -> "list[Any]":
        part = self._values.iloc[start:stop]
        if self._categories is not None:
            return list(self._categories[part.to_numpy()])
        if part.dtype == bool:
            return ["true" if cell else "false" for cell in part.tolist()]
        if pd.api.types.is_float_dtype(part.dtype):
            return ["" if math.isnan(cell) else f"{cell:.1f}" for cell in part.tolist()]
        if pd.api.types.is_integer_dtype(part.dtype):
            return ["" if cell == self._empty else cell for cell in part.tolist()]
        return _neutral_all([cell if isinstance(cell, str) else "" for cell in part.tolist()])


def _rows(rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _gzipped(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    # No file name and no time in the header: the same rows are the same bytes.
    with (
        path.open("rb") as source,
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=5, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 1 << 20)
    path.unlink()
    return target
