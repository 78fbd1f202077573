"""Frames between the steps of a run."""

import pandas as pd
import pytest

from auto_defender.distributed.frames import joined
from scanner.core.errors import InternalError

OLD = pd.DataFrame({"name": ["a"], "verdict": pd.Categorical(["eligible"])})
NEW = pd.DataFrame({"name": ["b"], "verdict": pd.Categorical(["skipped"]), "new_check": [True]})


@pytest.mark.parametrize("frames", [[OLD, NEW], [NEW, OLD], [OLD, OLD, NEW]])
def test_a_column_that_not_all_frames_have_is_never_lost(frames: list[pd.DataFrame]) -> None:
    with pytest.raises(InternalError, match="different columns: new_check"):
        joined(frames)


def test_frames_are_joined_by_their_columns_names_and_categories_stay() -> None:
    both = joined([OLD, NEW[["verdict", "name"]]])
    assert both.to_dict("list") == {"name": ["a", "b"], "verdict": ["eligible", "skipped"]}
    assert isinstance(both["verdict"].dtype, pd.CategoricalDtype)
