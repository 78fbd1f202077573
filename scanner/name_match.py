"""Function names against names and globs, for a million names at once."""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.errors import Defect
from scanner.optouts import glob_regex

_WILD = re.compile(r"[*?\[]")


def names_match(names: pd.Series, patterns: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Tell each name whether one of the patterns is it or matches it."""
    if "*" in patterns:
        return np.ones(len(names), dtype=bool)
    globs = tuple(pattern for pattern in patterns if _WILD.search(pattern))
    result: npt.NDArray[np.bool_] = names.isin(set(patterns).difference(globs)).to_numpy(copy=True)
    if globs:
        texts = names.to_numpy(dtype=object)
        matches = glob_regex(globs).fullmatch
        for row in _beginning_like(texts, globs):
            if matches(texts[row]):
                result[row] = True
    return result


def _beginning_like(texts: npt.NDArray[np.object_], globs: tuple[str, ...]) -> Iterator[int]:
    """Find the names that begin as a glob does before its first wildcard: one search through all names in one text."""
    starts = [_WILD.split(glob, maxsplit=1)[0] for glob in globs]
    if "" in starts or not len(texts):
        yield from range(len(texts))
        return
    lines = "\n" + "\n".join(texts)
    if lines.count("\n") != len(texts):
        raise Defect("a function's name has a line break in it")
    row, before = -1, 0
    for match in re.finditer("\n(?:" + "|".join(map(re.escape, starts)) + ")", lines):
        row += lines.count("\n", before, match.start() + 1)
        before = match.start() + 1
        yield row
