"""Our layer among a function's layers: found by its whole ARN, publisher account and layer name exactly."""

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

NO_LAYER, OLDER_LAYER, CURRENT_LAYER = 0, 1, 2
# What a placeholder of defender.layers stands for in an ARN; the row's own column must then say the same.
_PLACEHOLDERS = {"account_id": "[0-9]{12}", "region": "[a-z0-9-]+"}
_ELSEWHERE = -2  # the code of no category, and not the -1 of an absent one


def by_category(
    column: pd.Series, values: list[object], dtype: npt.DTypeLike, absent: object
) -> npt.NDArray[np.generic]:
    """Spread one value a category over the rows: a look-up a row instead of a comparison of strings.

    absent: the value of rows without a category. Their code is -1, which is where it stands in the table.
    """
    return np.asarray([*values, absent], dtype=dtype)[column.cat.codes.to_numpy()]


def layer_states(functions: pd.DataFrame, template: str) -> npt.NDArray[np.int8]:
    """Give NO_LAYER, OLDER_LAYER or CURRENT_LAYER a row, for the layer that `template` (defender.layers) names.

    Where a function has several versions of the layer, the first counts: the one that a change would replace.
    """
    identity, _, version = template.rpartition(":")
    pattern = _pattern(identity)
    layers = functions["layers"]
    found = [list(pattern.finditer(text)) for text in layers.cat.categories]
    result = np.zeros(len(layers), dtype=np.int8)
    for rank in reversed(range(max(map(len, found), default=0))):
        matches = [some[rank] if rank < len(some) else None for some in found]
        states = by_category(layers, [_state(match, int(version)) for match in matches], np.int8, NO_LAYER)
        here = states != NO_LAYER
        for placeholder in pattern.groupindex.keys() & _PLACEHOLDERS.keys():
            here &= _agrees(functions, placeholder, matches)
        result[here] = states[here]
    return result


def _pattern(identity: str) -> re.Pattern[str]:
    """Make an expression that finds the layer in ARNs joined by spaces: each ARN whole, its version captured."""
    text = re.escape(identity)
    for name, meaning in _PLACEHOLDERS.items():
        placeholder = re.escape("{" + name + "}")
        text = text.replace(placeholder, f"(?P<{name}>{meaning})", 1).replace(placeholder, f"(?P={name})")
    return re.compile(rf"(?<![^ ]){text}:(?P<version>[0-9]{{1,9}})(?![^ ])")


def _state(match: re.Match[str] | None, wanted: int) -> int:
    if match is None:
        return NO_LAYER
    return CURRENT_LAYER if int(match["version"]) >= wanted else OLDER_LAYER


def _agrees(
    functions: pd.DataFrame, column: str, matches: list[re.Match[str] | None]
) -> npt.NDArray[np.bool_]:
    """Tell a row whether what stands for the placeholder in its layer's ARN is the row's own."""
    own = functions[column].cat
    codes = {text: code for code, text in enumerate(own.categories)}
    meant: list[object] = [codes.get(match[column], _ELSEWHERE) if match else _ELSEWHERE for match in matches]
    agrees: npt.NDArray[np.bool_] = (
        by_category(functions["layers"], meant, np.int32, _ELSEWHERE) == own.codes.to_numpy()
    )
    return agrees
