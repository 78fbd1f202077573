"""What `rollback` selects by account, by wave and at all: each function whose change is in effect."""

from pathlib import Path
from typing import Any

import pytest

from remediator.journal.selection import Selection, select
from remediator.settings import RolloutSettings
from remediator.state.quarantine import quarantined
from scanner.core.errors import BadInput
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, Killed, layer, refusal
from tests.unit.remediator.harness import RUN, Harness, one, settings

OTHER, LATER = "444455556666", "20261124T044232Z-later"

pytestmark = pytest.mark.usefixtures("short_waits")


def in_waves(harness: Harness, **waves: str) -> None:
    """Protect what was added; waves: function name -> wave."""
    assessed = harness.assessed
    names = list(waves)
    harness.assessed = lambda: assessed().assign(  # type: ignore[method-assign]
        wave=lambda frame: frame["function_name"].astype("str").map(waves).fillna(""), wave_waits=False
    )
    assert set(names) <= set(harness.assessed()["function_name"])
    harness.apply()


def rows(harness: Harness, selection: Selection, **more: Any) -> dict[str, str]:
    changes = harness.rollback([], selection=selection, **more).changes
    return dict(zip(changes["function_name"], changes["outcome"], strict=True))


def in_quarantine(harness: Harness) -> set[str]:
    return {entry.function_arn.rpartition(":")[2] for entry in quarantined(harness.store)}


def test_an_account_s_functions_are_rolled_back_and_no_other_account_s(
    harness: Harness, aws: FakeLambda
) -> None:
    mine, theirs = aws.add("mine"), aws.add("theirs", account=OTHER)
    harness.apply()
    assert rows(harness, Selection(accounts=[ACCOUNT]), write=False) == {"mine": "planned"}
    assert rows(harness, Selection(accounts=[ACCOUNT])) == {"mine": "rolled_back"}
    assert (aws.layers(mine), aws.layers(theirs)) == ([], [layer(4)])
    assert in_quarantine(harness) == {"mine"}


def test_all_that_runs_added_goes_not_only_the_last_change(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    before = aws.layers(arn), aws.variables(arn)
    harness.apply()
    harness.defender = settings(version=5)
    harness.apply(run_id=LATER)
    assert rows(harness, Selection(everything=True)) == {"f": "rolled_back"}
    assert (aws.layers(arn), aws.variables(arn)) == before


def test_a_wave_s_functions_are_rolled_back(harness: Harness, aws: FakeLambda) -> None:
    for name in ("first", "second", "none"):
        aws.add(name)
    in_waves(harness, first="pilot", second="rest")
    assert rows(harness, Selection(waves=["pilot"])) == {"first": "rolled_back"}
    assert rows(harness, Selection(waves=["pilot", "rest"]), run_id="20261126T000000Z-again") == {
        "second": "rolled_back"
    }


def test_selectors_are_combined(harness: Harness, aws: FakeLambda) -> None:
    for name in ("by-wave", "by-name", "left"):
        aws.add(name)
    by_account = aws.add("by-account", account=OTHER)
    in_waves(harness, **{"by-wave": "pilot"})
    named = next(arn for arn in aws.functions if arn.endswith("by-name"))
    selection = Selection(functions=[named], accounts=[OTHER], waves=["pilot"])
    assert rows(harness, selection) == dict.fromkeys(("by-wave", "by-name", "by-account"), "rolled_back")
    assert aws.layers(by_account) == []


def test_what_was_rolled_back_already_is_not_selected_again(harness: Harness, aws: FakeLambda) -> None:
    back, kept = aws.add("back"), aws.add("kept")
    harness.apply()
    harness.rollback([], [back])
    selection = Selection(accounts=[ACCOUNT])
    assert rows(harness, selection, run_id="20261126T000000Z-again") == {"kept": "rolled_back"}
    assert rows(harness, selection, run_id="20261127T000000Z-again") == {}
    assert aws.layers(kept) == []


def test_what_its_owner_deployed_after_a_rollback_goes_only_by_name(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    harness.apply()
    harness.defender = settings(version=5)
    harness.apply(run_id=LATER)
    harness.rollback([LATER])
    aws.owner_edits(arn, Layers=[{"Arn": layer(5)}])
    for number, selection in enumerate((Selection(everything=True), Selection(accounts=[ACCOUNT]))):
        assert rows(harness, selection, run_id=f"2026112{6 + number}T000000Z-all") == {"f": "dropped"}
        assert aws.layers(arn) == [layer(5)]
    named = Selection(functions=[arn], everything=True)
    assert rows(harness, named, run_id="20261128T000000Z-named") == {"f": "rolled_back"}
    assert aws.layers(arn) == []


def test_a_change_of_which_nobody_knows_how_it_ended_is_selected(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()

    def kill(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise Killed

    aws.after = kill
    harness.apply()
    aws.after = lambda method, on, n: None
    assert (aws.layers(arn), harness.entries()[0].outcome) == ([layer(4)], None)
    assert rows(harness, Selection(everything=True)) == {"f": "rolled_back"}
    assert aws.layers(arn) == []


def test_what_a_run_did_not_make_is_not_selected(harness: Harness, aws: FakeLambda) -> None:
    aws.add()

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("KMSAccessDeniedException", "no")

    aws.before = refuse
    assert one(harness.apply())["outcome"] == "failed"
    for selection in (Selection(everything=True), Selection(accounts=[ACCOUNT]), Selection(runs=[RUN])):
        assert select(harness.journals, selection) == []


def test_without_a_change_all_is_nothing(harness: Harness) -> None:
    assert select(harness.journals, Selection(everything=True)) == []


@pytest.mark.parametrize(
    ("selection", "why"),
    [
        (Selection(accounts=["1234"]), "'1234' is no account id; expected its 12 digits"),
        (Selection(accounts=["111122223333\n"]), "is no account id"),
        (Selection(accounts=["\uff11" * 12]), "is no account id"),
        (Selection(accounts=["../../state"]), "is no account id"),
        (
            Selection(functions=["arn:aws:lambda:us-east-1:111122223333:function:f:live"]),
            "is no function ARN",
        ),
        (Selection(functions=["arn:aws:lambda:us-east-1:111122223333:function:../f"]), "is no function ARN"),
        (Selection(functions=["f; rm -rf /"]), "is no function ARN"),
        (Selection(runs=["../../state"]), "run"),
        (Selection(accounts=[OTHER]), f"no run has changed a function of the account {OTHER}: check its id"),
        (
            Selection(waves=["pilto"]),
            "no wave is called 'pilto'; configured or in a journal: pilot, planned-one",
        ),
    ],
)
def test_a_typo_is_one_line(aws: FakeLambda, tmp_path: Path, selection: Selection, why: str) -> None:
    harness = Harness(aws, tmp_path)
    aws.add()
    in_waves(harness, f="pilot")
    with pytest.raises(BadInput, match=why):
        select(harness.journals, selection, ["planned-one"])


def test_a_configured_wave_that_has_not_begun_is_no_typo(aws: FakeLambda, tmp_path: Path) -> None:
    rollout = RolloutSettings.model_validate({"waves": [{"name": "rest", "accounts": [ACCOUNT]}]})
    harness = Harness(aws, tmp_path, waves=rollout.waves)
    assert rows(harness, Selection(waves=["rest"]), write=False) == {}
