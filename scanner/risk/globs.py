"""Function names against names and globs, for a million names at once."""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanner.core.errors import InternalError
from scanner.organization.optouts import glob_regex

_WILD = re.compile(r"[*?\[]")
_OPEN = re.compile(r"[*\[]")
# Names are scattered over memory: a block of this size is still in the processor's cache when it is read again.
_BLOCK = 8192


def names_match(names: pd.Series, patterns: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return a flag a name: whether a pattern equals or matches it."""
    if "*" in patterns:
        return np.ones(len(names), dtype=bool)
    globs = tuple(pattern for pattern in patterns if _WILD.search(pattern))
    exact = frozenset(patterns).difference(globs)
    result = np.zeros(len(names), dtype=bool)
    texts = names.to_numpy(dtype=object)
    for first in range(0, len(texts), _BLOCK):
        block, flags = texts[first : first + _BLOCK].tolist(), result[first : first + _BLOCK]
        if exact:
            flags[:] = np.fromiter(map(exact.__contains__, block), dtype=bool, count=len(block))
        if globs:
            flags[list(_rows_matching(block, globs))] = True
    return result


def _rows_matching(texts: list[str], globs: tuple[str, ...]) -> Iterator[int]:
    """Search all names as one text, a line each, for the globs' beginnings, and match whole names only there.

    Each glob is searched for up to its first * or [: a search for all of it could take as long as a glob of many * can
    make it, and [!a] would match a line break.
    """
    lines = "\n" + "\n".join(texts)
    if lines.count("\n") != len(texts):
        raise InternalError("a function's name has a line break in it")
    starts = "|".join(map(_start, globs))
    matches = glob_regex(globs).fullmatch
    row, before = -1, 0
    for line in re.finditer(f"\n(?:{starts})", lines, re.MULTILINE):
        if matches(lines, line.start() + 1, line.end()):
            row += lines.count("\n", before, line.start() + 1)
            before = line.start() + 1
            yield row


def _start(glob: str) -> str:
    """Return the expression for a line that begins like a glob; for the whole line where the glob has no * or [."""
    parts = _OPEN.split(glob, maxsplit=1)
    return re.escape(parts[0]).replace(r"\?", ".") + ("$" if len(parts) == 1 else ".*")
