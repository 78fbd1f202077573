"""CSV: RFC 4180, UTF-8, one line per row, no cell that a spreadsheet reads as a formula; docs/schema.md has the columns."""

import csv
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.render.text import visible

# Above this many bytes of text a CSV is written as NAME.csv.gz.
GZIP_ABOVE = 64 * 1024 * 1024
_CHUNK = 10_000
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


def csv_file(
    frame: pd.DataFrame, columns: tuple[str, ...], name: str, gzip_above: int
) -> tuple[str, Iterator[bytes]]:
    """Return a file's name, `name`.csv or, above so many bytes of text, `name`.csv.gz, and its content in chunks.

    A large file's rows are rendered twice, because no whole file is kept in memory: the first time up to the limit.
    """
    if _is_larger(_encoded(frame, columns), gzip_above):
        return f"{name}.csv.gz", _gzipped(_encoded(frame, columns))
    return f"{name}.csv", _encoded(frame, columns)


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


def _encoded(frame: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[bytes]:
    return (text.encode("utf-8") for text in csv_text(frame, columns))


def _is_larger(chunks: Iterable[bytes], limit: int) -> bool:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            return True
    return False


def _gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks as one gzip file. Its header has no name and no time: the same rows are the same bytes."""
    packer = zlib.compressobj(level=5, wbits=zlib.MAX_WBITS | 16)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
