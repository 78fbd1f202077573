"""Our layer among a function's layers: found by its whole ARN, publisher account and layer name exactly."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

NO_LAYER, OLDER_LAYER, CURRENT_LAYER = 0, 1, 2
# What a placeholder of defender.layers stands for in an ARN; the row's own column must then say the same.
_PLACEHOLDERS = {"account_id": "[0-9]{12}", "region": "[a-z0-9-]+"}
_ELSEWHERE = -2  # the code of no category, and not the -1 of an absent one

# A layer of ours: its state, then the code of what each placeholder stands for, among the categories of its column.
_Ours = tuple[int, ...]


def by_category(
    column: pd.Series, values: Sequence[object], dtype: npt.DTypeLike, absent: object
) -> npt.NDArray[Any]:
    """Spread one value a category over the rows: a look-up a row instead of a comparison of strings.

    absent: the value of rows without a category. Their code is -1, which is where it stands in the table.
    """
    rows: npt.NDArray[Any] = np.asarray([*values, absent], dtype=dtype)[column.cat.codes.to_numpy()]
    return rows


def layer_states(functions: pd.DataFrame, template: str) -> npt.NDArray[np.int8]:
    """Give NO_LAYER, OLDER_LAYER or CURRENT_LAYER a row, for the layer that `template` (defender.layers) names.

    Where a function has several versions of the layer, the first counts: the one that a change would replace.
    """
    own = {name: functions[name].cat for name in _PLACEHOLDERS if "{" + name + "}" in template}
    layers = functions["layers"].cat
    found = _found(
        layers.categories.tolist(),
        template,
        {name: _code_of(column.categories) for name, column in own.items()},
    )
    result = np.zeros(len(functions), dtype=np.int8)
    for rank in reversed(range(max(map(len, found.values()), default=0))):
        table = np.full((len(layers.categories) + 1, 1 + len(own)), _ELSEWHERE, dtype=np.int32)
        table[:, 0] = NO_LAYER
        at_rank = {code: some[rank] for code, some in found.items() if rank < len(some)}
        table[list(at_rank)] = list(at_rank.values())
        rows = table[layers.codes.to_numpy()]
        here = rows[:, 0] != NO_LAYER
        for place, column in enumerate(own.values(), start=1):
            here &= rows[:, place] == column.codes.to_numpy()
        result[here] = rows[here, 0]
    return result


def _code_of(categories: pd.Index) -> dict[str, int]:
    return {text: code for code, text in enumerate(categories)}


def _found(
    texts: Iterable[str], template: str, code_of: Mapping[str, Mapping[str, int]]
) -> dict[int, list[_Ours]]:
    """Find our layer in each category (layer ARNs joined by a space) that holds it; each ARN is looked at once."""
    ours = _reader(template, code_of)
    # A literal part of the ARN, the one with the name if it can be: most categories are not ours.
    first, *others = re.split(r"\{\w+\}", template.rpartition(":")[0])
    literal = max(others or [first], key=len)
    found = {
        code: [mine for mine in map(ours, text.split(" ")) if mine]
        for code, text in enumerate(texts)
        if literal in text
    }
    return {code: mine for code, mine in found.items() if mine}


def _reader(template: str, code_of: Mapping[str, Mapping[str, int]]) -> Callable[[str], _Ours | None]:
    """Make the function that tells of an ARN whether it is our layer, and which."""
    identity, _, wanted = template.rpartition(":")
    text = re.escape(identity)
    for name in code_of:
        placeholder = re.escape("{" + name + "}")
        text = text.replace(placeholder, f"(?P<{name}>{_PLACEHOLDERS[name]})", 1).replace(
            placeholder, f"(?P={name})"
        )
    pattern = re.compile(rf"{text}:(?P<version>[0-9]{{1,9}})")

    @cache
    def read(arn: str) -> _Ours | None:
        match = pattern.fullmatch(arn)
        if match is None:
            return None
        state = CURRENT_LAYER if int(match["version"]) >= int(wanted) else OLDER_LAYER
        return state, *(codes.get(match[name], _ELSEWHERE) for name, codes in code_of.items())

    return read
