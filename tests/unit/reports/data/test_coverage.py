"""Coverage: each number against what it says it counts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data import coverage
from reports.data.coverage import (
    VERDICTS,
    assumed_functions,
    by_account,
    by_ou,
    by_region,
    by_runtime,
    measure,
    reason_counts,
    with_shares,
)
from scanner.inventory import ledger
from tests.unit.reports.frames import organization


def frame(verdicts: list[str], reasons: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "account_id": pd.Categorical(["1"] * len(verdicts)),
            "region": pd.Categorical(["r"] * len(verdicts)),
            "function_name": [f"f{i}" for i in range(len(verdicts))],
            "verdict": pd.Categorical(verdicts, categories=VERDICTS),
            "protection": pd.Categorical(["unprotected"] * len(verdicts)),
            "reasons": pd.Categorical(reasons or [""] * len(verdicts)),
        }
    )


def units(*outcomes: str, functions: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "account_id": [str(i) for i in range(len(outcomes))],
            "region": "r",
            "outcome": outcomes,
            "functions": [functions if outcome == "read" else 0 for outcome in outcomes],
            "detail": "",
        }
    )


@given(
    st.lists(st.sampled_from(VERDICTS), max_size=40),
    st.lists(st.sampled_from(["read", "error", "opted_out"])),
)
def test_the_verdicts_add_up_and_the_range_holds_the_point(verdicts: list[str], outcomes: list[str]) -> None:
    measured = measure(frame(verdicts), units(*outcomes, functions=3))
    assert measured.protected + measured.eligible + measured.skipped + measured.excluded == measured.functions
    assert measured.functions == len(verdicts)
    assert measured.units_expected == len(outcomes)
    for share in (measured.of_all, measured.of_coverable):
        if share.pct is None:
            assert share.total == 0
        else:
            assert share.worst_pct is not None
            assert share.best_pct is not None
            assert 0 <= share.worst_pct <= share.pct <= share.best_pct <= 100


def test_each_share_has_its_own_denominator() -> None:
    measured = measure(
        frame(["protected"] * 6 + ["eligible"] * 2 + ["skipped"] * 3 + ["excluded"]), units("read")
    )
    assert measured.of_all.pct == 50.0
    assert measured.of_coverable.pct == 75.0


def test_nothing_read_is_not_fully_covered() -> None:
    measured = measure(frame([]), units("error", "access_denied"))
    assert measured.of_all.pct is None
    assert measured.of_coverable.pct is None
    assert (measured.units_read, measured.units_expected, measured.units_unread) == (0, 2, 2)


def test_unread_units_give_a_range() -> None:
    measured = measure(frame(["protected"] * 5 + ["eligible"] * 5), units("read", "throttled", functions=10))
    assert measured.of_all.assumed_unread == 10
    assert (measured.of_all.worst_pct, measured.of_all.pct, measured.of_all.best_pct) == (25.0, 50.0, 75.0)


@pytest.mark.parametrize("outcome", ["opted_out", "suspended", "region_disabled"])
def test_what_is_set_aside_gives_no_range(outcome: str) -> None:
    measured = measure(frame(["protected", "eligible"]), units("read", outcome, functions=2))
    assert measured.of_all.assumed_unread == 0
    assert measured.units_unread == 0
    assert (measured.units_read, measured.units_expected) == (1, 2)


def test_a_unit_not_read_is_assumed_to_have_the_functions_of_the_run_before() -> None:
    now = units("read", "error", "timed_out", functions=4)
    before = units("read", "read", "error", functions=70)
    assert assumed_functions(now, before).tolist() == [70, 4]
    assert assumed_functions(now).tolist() == [4, 4]


def test_an_account_whose_regions_are_unknown_is_taken_whole() -> None:
    now = units("read", "read", "access_denied", functions=4).assign(
        account_id=["1", "1", "2"], region=["a", "b", "*"]
    )
    before = units("read", "read", functions=30).assign(account_id="2", region=["a", "b"])
    assert assumed_functions(now, before).tolist() == [60]
    assert assumed_functions(now).tolist() == [8]


def test_outcomes_are_the_ledgers() -> None:
    assert set(coverage.UNREAD) == ledger.UNREAD
    assert {*coverage.UNREAD, coverage.READ, *coverage.SET_ASIDE} == set(ledger.OUTCOMES)


def test_a_function_counts_under_each_of_its_reasons() -> None:
    reasons = ["memory", "memory;timeout", "timeout;memory;layers", "opted_out", "ignored"]
    counted = reason_counts(frame(["skipped", "skipped", "skipped", "excluded", "protected"], reasons))
    assert counted["functions"].to_dict() == {"memory": 3, "timeout": 2, "layers": 1, "opted_out": 1}
    assert counted["only"].to_dict() == {"memory": 1, "timeout": 0, "layers": 0, "opted_out": 1}


def test_no_reasons_are_an_empty_table() -> None:
    assert reason_counts(frame(["protected"])).empty
    assert reason_counts(frame([])).empty


def test_every_grouping_adds_up_to_the_whole() -> None:
    run = organization(functions=400)
    accounts = by_account(run.accounts, run.units, run.functions)
    regions = by_region(run.units, run.functions)
    for table in (accounts, by_ou(accounts), regions, by_runtime(run.functions)):
        for verdict in VERDICTS:
            assert table[verdict].sum() == (run.functions["verdict"] == verdict).sum()
        assert table["functions"].sum() == len(run.functions)
    for table in (accounts, regions, by_ou(accounts)):
        assert table["units_expected"].sum() == len(run.units)
        assert table["units_read"].sum() == (run.units["outcome"] == "read").sum()


def test_an_account_row_says_what_became_of_it() -> None:
    run = organization(functions=400)
    rows = by_account(run.accounts, run.units, run.functions).set_index("account_id")
    assert len(rows) == len(run.accounts)
    assert rows.loc["000000000002", "outcome"] == "access_denied"  # one of its two regions was read
    assert rows.loc["000000000002", "units_read"] == 1
    assert rows.loc["000000000001", "outcome"] == "read"
    assert rows.loc["000000000023", "outcome"] == "opted_out"  # out of scope
    assert rows.loc["000000000024", "outcome"] == "suspended"


def test_an_account_of_a_unit_that_was_not_listed_is_not_lost() -> None:
    run = organization(functions=400)
    rows = by_account(run.accounts.iloc[1:], run.units, run.functions).set_index("account_id")
    assert rows.loc["000000000001", "account_name"] == ""
    assert rows["functions"].sum() == 400


def test_a_group_without_functions_has_no_share() -> None:
    table = with_shares(pd.DataFrame({"protected": [0, 1], "eligible": [0, 0], "functions": [0, 4]}))
    assert np.isnan(table["covered_pct"][0])
    assert np.isnan(table["coverable_pct"][0])
    assert table["covered_pct"][1] == 25.0
    assert table["coverable_pct"][1] == 100.0


def test_functions_excluded_for_tags_not_read_alone_widen_the_range_of_what_can_be_covered() -> None:
    verdicts = ["protected"] * 4 + ["eligible"] * 4 + ["excluded"] * 8
    reasons = (
        [""] * 8
        + ["opted_out", "tag_required", "opted_out;tag_required"] * 2
        + ["memory;opted_out", "opted_out"]
    )
    unread = [False] * 3 + [True] * 12 + [False]
    measured = measure(frame(verdicts, reasons).assign(tags_read=[not one for one in unread]), units("read"))
    share = measured.of_coverable
    assert (share.total, share.undecided, share.assumed_unread) == (8, 6, 6)
    assert (share.worst_pct, share.pct, share.best_pct) == (28.57, 50.0, 50.0)
    assert measured.of_all.assumed_unread == 0
    with_units = measure(
        frame(verdicts, reasons).assign(tags_read=[not one for one in unread]),
        units("read", "error", functions=2),
    ).of_coverable
    assert (with_units.assumed_unread, with_units.undecided) == (8, 6)
    assert (with_units.worst_pct, with_units.best_pct) == (25.0, 60.0)
