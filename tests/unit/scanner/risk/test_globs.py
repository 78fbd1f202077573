"""Names against globs: matching many at once equals fnmatch on each."""

import fnmatch

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scanner.core.errors import InternalError
from scanner.risk.globs import names_match

letters = st.sampled_from("abA-_.é+(\\^$|*?[]!")
texts = st.text(letters, max_size=5)


@given(st.lists(texts, max_size=12), st.lists(texts, max_size=4).map(tuple))
@example(["ab", "abc", "b", ""], ("ab*", "b"))
@example(["a", "", "a"], ("", "a?*"))
@example(["[a]", "a"], ("[a]", "[!a]"))
@example(["", "a", "", "b"], ("**",))
def test_many_names_at_once_match_as_each_one_would(names: list[str], patterns: tuple[str, ...]) -> None:
    plain = [p for p in patterns if not set(p) & set("*?[")]
    expected = [
        any(fnmatch.fnmatchcase(name, p) for p in set(patterns) - set(plain)) or name in plain
        for name in names
    ]
    assert names_match(pd.Series(names, dtype="str"), patterns).tolist() == expected


def test_no_pattern_and_no_name_match_nothing() -> None:
    assert names_match(pd.Series(["a"], dtype="str"), ()).tolist() == [False]
    assert names_match(pd.Series([], dtype="str"), ("a*", "b", "**")).tolist() == []


def test_a_line_break_in_a_name_shifts_no_row() -> None:
    with pytest.raises(InternalError, match=r"^a function's name has a line break in it$"):
        names_match(pd.Series(["a\nb", "c"], dtype="str"), ("a*",))
