"""Our layer among a function's layers: found by its whole ARN, publisher account and layer name exactly."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

NO_LAYER, OLDER_LAYER, CURRENT_LAYER = 0, 1, 2
# The pattern of each placeholder of defender.layers in an ARN; its value must equal the row's own column.
_PLACEHOLDERS = {"account_id": "[0-9]{12}", "region": "[a-z0-9-]+"}
_NO_CATEGORY = -2  # the code of no category of a column; -1 is that of a row without one

# Read from an ARN: the layer's state, then for each placeholder the code of its value among its column's categories.
_Parsed = tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """Layer ARNs that may be ours: which category (ascending) names which of the distinct ARNs."""

    categories: npt.NDArray[np.intp]
    numbers: npt.NDArray[np.intp]
    distinct: Sequence[str]


def candidates(texts: Sequence[str], templates: Iterable[str]) -> Candidates:
    """Search the categories (layer ARNs joined by a space) once for a constant part of each template.

    Most ARNs are not ours, and thousands of categories name the same few that are.
    """
    literals = "|".join(map(re.escape, sorted(set(map(_literal, templates)))))
    found_in = re.compile(f"(?:{literals})[^ ]*").finditer
    categories, numbers, known = [], [], dict[str, int]()
    for code, text in enumerate(texts):
        for match in found_in(text):
            arn = text[text.rfind(" ", 0, match.start()) + 1 : match.end()]
            categories.append(code)
            numbers.append(known.setdefault(arn, len(known)))
    return Candidates(np.array(categories, dtype=np.intp), np.array(numbers, dtype=np.intp), list(known))


def _literal(template: str) -> str:
    """Return the longest part after a placeholder, which has the layer's name; the first where that is empty."""
    first, *others = re.split(r"\{\w+\}", template.rpartition(":")[0])
    return max(others, key=len, default="") or first


def layer_states(functions: pd.DataFrame, template: str, among: Candidates) -> npt.NDArray[np.int8]:
    """Return NO_LAYER, OLDER_LAYER or CURRENT_LAYER a row, for the layer that `template` (defender.layers) names.

    Where a function has several versions of the layer, the first counts: the one that a change would replace.
    """
    own = {name: functions[name].cat for name in _PLACEHOLDERS if "{" + name + "}" in template}
    layers = functions["layers"].cat
    categories, found = _found(among, template, {name: _code_of(c) for name, c in own.items()})
    # The number of our layers before this one in its category, usually 0.
    rank = np.arange(len(categories)) - np.searchsorted(categories, categories)
    result = np.zeros(len(functions), dtype=np.int8)
    for place in reversed(range(rank.max(initial=-1) + 1)):
        table = np.full((len(layers.categories) + 1, 1 + len(own)), NO_LAYER, dtype=np.int32)
        table[categories[rank == place]] = found[rank == place]
        rows = np.take(table, layers.codes.to_numpy(), axis=0, mode="wrap")
        here = rows[:, 0] != NO_LAYER
        for number, column in enumerate(own.values(), start=1):
            here &= rows[:, number] == column.codes.to_numpy()
        np.copyto(result, rows[:, 0], where=here, casting="unsafe")
    return result


def _code_of(column: Any) -> dict[str, int]:
    return {text: code for code, text in enumerate(column.categories)}


def _found(
    among: Candidates, template: str, code_of: Mapping[str, Mapping[str, int]]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return the candidates that are the template's layer: each one's category, ascending, and what was read of it."""
    read = _reader(template, code_of)
    distinct = np.array([read(arn) for arn in among.distinct], dtype=np.int32).reshape(-1, 1 + len(code_of))
    found = distinct[among.numbers]
    ours = found[:, 0] != NO_LAYER
    return among.categories[ours], found[ours]


def _reader(template: str, code_of: Mapping[str, Mapping[str, int]]) -> Callable[[str], _Parsed]:
    """Return the function that parses an ARN: the state of the template's layer, and its placeholders' values."""
    identity, _, wanted = template.rpartition(":")
    text = re.escape(identity)
    for name in code_of:
        placeholder = re.escape("{" + name + "}")
        text = text.replace(placeholder, f"(?P<{name}>{_PLACEHOLDERS[name]})", 1).replace(
            placeholder, f"(?P={name})"
        )
    pattern = re.compile(rf"{text}:(?P<version>[0-9]{{1,9}})")

    def read(arn: str) -> _Parsed:
        match = pattern.fullmatch(arn)
        if match is None:
            return NO_LAYER, *(_NO_CATEGORY for _ in code_of)
        state = CURRENT_LAYER if int(match["version"]) >= int(wanted) else OLDER_LAYER
        return state, *(codes.get(match[name], _NO_CATEGORY) for name, codes in code_of.items())

    return read
