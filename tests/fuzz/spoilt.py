"""Documents that are nearly right: one value replaced, one key lost or misspelt, some bytes changed."""

import copy
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.sampled_from(
        [
            "1e999",
            ".nan",
            ".inf",
            "0o8",
            "1:60:00",
            "2026-02-30",
            "=",
            "<<",
            "~",
            "\x00",
            "\ud800",
            "9" * 5000,
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every key and item of a document."""
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    found = []
    for key, value in items:
        found += [(*path, key), *places(value, (*path, key))]
    return found


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document of which one thing is another value, is gone, or stands under another name."""
    spoiled = copy.deepcopy(document)
    *parents, last = draw(st.sampled_from(places(document)))
    there = spoiled
    for key in parents:
        there = there[key]
    how = draw(st.sampled_from(["value", "value", "gone", "renamed"]))
    if how == "value" or isinstance(there, list):
        there[last] = draw(VALUES)
    else:
        value = there.pop(last)
        if how == "renamed":
            there[draw(TEXTS)] = value
    return spoiled


@st.composite
def garbled(draw: st.DrawFn, text: bytes) -> bytes:
    """Draw a text with some bytes cut out, put in, or changed."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    return text[:start] + draw(st.binary(max_size=40)) + text[end:]
