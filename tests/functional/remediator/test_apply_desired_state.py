"""What is configured is what protected functions carry: another value, version, wrapper or layer reaches each of them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from remediator.plan.held_back import hold_back
from remediator.state.functions import records
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, layer, lose
from tests.unit.remediator.harness import OURS, RUN, WRAPPER, Harness, one, settings, wait_briefly

DATADOG = layer(1, "datadog")
OLD, OLD_WRAPPER = layer(9, "old-name"), "/opt/old/wrapper"
ROTATED = "the-rotated-s3cret-policy"
SECOND, THIRD = "20261124T044232Z-2b3c4d", "20261124T054232Z-3c4d5e"


@pytest.fixture
def aws() -> FakeLambda:
    return FakeLambda()


@pytest.fixture
def harness(aws: FakeLambda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    wait_briefly(monkeypatch)
    return Harness(aws, tmp_path)


def rotate(harness: Harness, value: str = ROTATED) -> None:
    harness.defender = harness.defender.model_copy(update={"environment": {"TW_POLICY": SecretStr(value)}})


def protections(harness: Harness) -> list[str]:
    return [str(text) for text in harness.assessed()["protection"]]


def test_a_rotated_value_reaches_every_protected_function(harness: Harness, aws: FakeLambda) -> None:
    arns = [aws.add(f"f{n}") for n in range(3)]
    harness.apply()
    assert protections(harness) == ["protected"] * 3
    rotate(harness)
    assert protections(harness) == ["partial"] * 3
    changes = harness.apply(run_id=SECOND).changes
    assert changes[["action", "outcome"]].to_numpy().tolist() == [["repair", "changed"]] * 3
    for arn in arns:
        assert aws.variables(arn) == {**OURS, "TW_POLICY": ROTATED, "OWNER": "s3cret-of-the-owner"}
        assert aws.layers(arn) == [layer(4)]
    assert protections(harness) == ["protected"] * 3
    assert harness.plan(THIRD).changes == ()


def test_a_rotated_value_is_planned_by_name_and_written_nowhere(harness: Harness, aws: FakeLambda) -> None:
    aws.add()
    harness.apply()
    rotate(harness)
    plan = harness.plan(SECOND)
    assert plan.changes[0].variables_changed == ("TW_POLICY",)
    harness.apply(plan, SECOND)
    written = harness.everything_written() + plan.to_json().decode() + harness.assessed().to_csv()
    assert ROTATED not in written
    assert OURS["TW_POLICY"] not in written


def test_a_new_variable_reaches_every_protected_function(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    harness.defender = settings().model_copy(
        update={"environment": {**settings().environment, "TW_CONSOLE": SecretStr("console")}}
    )
    assert one(harness.apply(run_id=SECOND))["action"] == "repair"
    assert aws.variables(arn) == {**OURS, "TW_CONSOLE": "console", "OWNER": "s3cret-of-the-owner"}


def test_going_back_to_an_older_version_is_a_downgrade_in_place(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    harness.defender = settings(version=5)
    harness.apply()
    aws.owner_edits(arn, Layers=[{"Arn": layer(5)}, {"Arn": DATADOG}])
    harness.defender = settings(version=4)
    assert protections(harness) == ["ahead"]
    row = one(harness.apply(run_id=SECOND))
    assert (row["action"], row["outcome"]) == ("downgrade", "changed")
    assert aws.layers(arn) == [layer(4), DATADOG]
    assert one(harness.rollback([SECOND]))["outcome"] == "rolled_back"
    assert aws.layers(arn) == [layer(5), DATADOG]
    assert aws.tags[arn] == {"SecurityProtected": "True"}


def test_with_at_least_a_newer_version_is_left(harness: Harness, aws: FakeLambda) -> None:
    harness.defender = settings(version=5)
    aws.add()
    harness.apply()
    harness.defender = settings(version=4, version_policy="at_least")
    assert protections(harness) == ["protected"]
    assert harness.plan(SECOND).changes == ()


def test_what_was_used_before_is_replaced_in_one_update_and_comes_back_with_a_rollback(
    harness: Harness, aws: FakeLambda
) -> None:
    before = {**OURS, EXEC_WRAPPER: OLD_WRAPPER, "TW_POLICY": "earlier", "A1": "x"}
    arn = aws.add(
        Layers=[{"Arn": DATADOG}, {"Arn": OLD}, {"Arn": layer(1, "x")}], Environment={"Variables": before}
    )
    harness.defender = settings(previous={"layers": [OLD.rpartition(":")[0]], "wrappers": [OLD_WRAPPER]})
    assert protections(harness) == ["outdated"]
    row = one(harness.apply())
    assert (row["action"], row["outcome"]) == ("upgrade", "changed")
    assert aws.calls["update_function_configuration"] == 1
    assert aws.layers(arn) == [DATADOG, layer(4), layer(1, "x")]
    assert aws.variables(arn) == {**OURS, "A1": "x"}
    assert protections(harness) == ["protected"]
    assert one(harness.rollback([RUN]))["outcome"] == "rolled_back"
    assert aws.layers(arn) == [DATADOG, OLD, layer(1, "x")]
    assert aws.variables(arn) == {**OURS, EXEC_WRAPPER: OLD_WRAPPER, "A1": "x"}


def test_a_second_defender_goes(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(
        Layers=[{"Arn": OLD}, {"Arn": DATADOG}, {"Arn": layer(4)}], Environment={"Variables": dict(OURS)}
    )
    harness.defender = settings(previous={"layers": [f"{OLD.rpartition(':')[0]}:*"]})
    assert one(harness.apply())["action"] == "upgrade"
    assert aws.layers(arn) == [DATADOG, layer(4)]
    assert protections(harness) == ["protected"]
    harness.rollback([RUN])
    assert aws.layers(arn) == [OLD, DATADOG, layer(4)]


def test_another_wrapper_path_reaches_every_protected_function(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    harness.defender = settings().model_copy(update={"wrapper": "/opt/new/wrapper"})
    assert harness.assessed()["reasons"].tolist() == ["wrapper_conflict"]
    harness.defender = settings(previous={"wrappers": [WRAPPER]}).model_copy(
        update={"wrapper": "/opt/new/wrapper"}
    )
    assert one(harness.apply(run_id=SECOND))["outcome"] == "changed"
    assert aws.variables(arn)[EXEC_WRAPPER] == "/opt/new/wrapper"
    harness.rollback([SECOND])
    assert aws.variables(arn)[EXEC_WRAPPER] == WRAPPER


def test_a_variable_that_the_owner_has_without_our_layer_is_left(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Environment={"Variables": {"TW_POLICY": "the owner's"}})
    assert harness.assessed()["reasons"].tolist() == ["variable_conflict"]
    plan = harness.plan()
    assert plan.changes == ()
    assert aws.variables(arn) == {"TW_POLICY": "the owner's"}


def test_the_values_of_the_read_before_the_update_decide(harness: Harness, aws: FakeLambda) -> None:
    arn, other = aws.add("f"), aws.add("other")
    harness.apply()
    rotate(harness)
    plan = harness.plan(SECOND)
    aws.owner_edits(arn, Environment={"Variables": {**OURS, "TW_POLICY": ROTATED}})
    aws.owner_edits(other, Environment={"Variables": {EXEC_WRAPPER: WRAPPER, "NEW": "x"}})
    changes = harness.apply(plan, SECOND).changes.set_index("function_arn")
    assert changes.loc[arn, "outcome"] == "dropped"
    assert "its verdict is protected" in changes.loc[arn, "detail"]
    assert aws.variables(other) == {EXEC_WRAPPER: WRAPPER, "NEW": "x", "TW_POLICY": ROTATED}
    assert harness.entries(SECOND)[0].intent.delta.variables_added == ("TW_POLICY",)


@pytest.mark.parametrize(("done", "outcome"), [(True, "changed"), (False, "deferred")])
def test_a_lost_answer_to_a_rotation_is_found_out_by_the_value(
    harness: Harness, aws: FakeLambda, done: bool, outcome: str
) -> None:
    arn = aws.add()
    harness.apply()
    rotate(harness)
    plan = harness.plan(SECOND)
    aws.before, aws.after = lose("update_function_configuration", done=done, times=2)
    assert one(harness.apply(plan, SECOND))["outcome"] == outcome
    assert aws.variables(arn)["TW_POLICY"] == (ROTATED if done else OURS["TW_POLICY"])
    assert aws.calls["update_function_configuration"] == 2


def test_a_rotation_that_aws_cannot_carry_out_is_undone_with_the_value_that_was_there(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    harness.apply()
    rotate(harness)
    aws.fail_next(arn)
    row = one(harness.apply(run_id=SECOND))
    assert row["outcome"] == "failed"
    assert "it was removed again" in row["detail"]
    assert aws.variables(arn) == {**OURS, "OWNER": "s3cret-of-the-owner"}
    assert OURS["TW_POLICY"] not in harness.everything_written()


def test_a_rotation_alone_cannot_be_rolled_back_and_all_changes_together_can(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    harness.apply()
    rotate(harness)
    harness.apply(run_id=SECOND)
    row = one(harness.rollback([SECOND]))
    assert row["outcome"] == "dropped"
    assert "only values were replaced (TW_POLICY)" in row["detail"]
    assert one(harness.rollback([], [arn], run_id="20261126T000000Z-all"))["outcome"] == "rolled_back"
    assert aws.layers(arn) == []
    assert aws.variables(arn) == {"OWNER": "s3cret-of-the-owner"}


def held_back(harness: Harness) -> Any:
    return hold_back(
        harness.assessed(), known=records(harness.store), partition="aws", config_digest="digest",
        own_function=None, now=datetime.now(UTC),
    )  # fmt: skip


def test_rotations_are_no_losses_of_the_defender(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    for number in range(4):
        rotate(harness, f"rotation {number}")
        assert held_back(harness).lost == {}
        harness.apply(run_id=f"20261124T0{number + 4}4232Z-rotate")
    aws.owner_edits(arn, Layers=[])
    lost = held_back(harness).lost[arn]
    assert (lost.times, lost.given_up) == (1, False)
    assert lost.times == 1
