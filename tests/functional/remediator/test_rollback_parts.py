"""A rollback of what is on a function only in part, or may be: a deployment, a lost answer or a killed run came between."""

from typing import Any

import pytest

from auto_defender.job_result import rollback_exit_code
from remediator.execution.apply import ApplyResult
from tests.unit.remediator.fake_lambda import FakeLambda, Killed, layer, lose
from tests.unit.remediator.harness import RUN, WRAPPER, Harness, one, settings

LATER, AGAIN = "20261124T044232Z-later", "20261126T000000Z-again"

pytestmark = pytest.mark.usefixtures("short_waits")


def code(back: ApplyResult) -> int:
    return rollback_exit_code(back.changes, back.stopped_by)


def edit_while_it_settles(aws: FakeLambda, **edit: Any) -> None:
    """Let the owner deploy between the next update and the first read after it."""
    aws.polls_to_settle = 2
    sent = [0]

    def hook(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            sent[0] = 1
        elif method == "get_function_configuration" and sent[0] == 1:
            sent[0] = 2
            aws.owner_edits(arn, **edit)

    aws.before = hook


def partly_replaced(harness: Harness, aws: FakeLambda, how: str) -> str:
    """Protect a function whose owner deploys the environment alone meanwhile, so that our layer stays."""
    arn = aws.add()
    edit = {"Environment": {"Variables": {"OWNER": "new"}}}
    if how == "lost answer":
        aws.before, aws.after = lose("update_function_configuration", done=True)
        lost = aws.after

        def hook(method: str, on: str, n: int) -> None:
            if method == "update_function_configuration":
                aws.owner_edits(on, **edit)
            lost(method, on, n)

        aws.after = hook
    elif how == "killed":
        edit_and_die(aws, edit)
    else:
        edit_while_it_settles(aws, **edit)
    harness.apply()
    aws.before = aws.after = lambda method, on, n: None
    if how == "killed":
        harness.resolve()
    assert (aws.layers(arn), aws.variables(arn)) == ([layer(4)], {"OWNER": "new"})
    return arn


def edit_and_die(aws: FakeLambda, edit: dict[str, Any]) -> None:
    def hook(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            aws.owner_edits(on, **edit)
            raise Killed

    aws.after = hook


@pytest.mark.parametrize("how", ["settling", "lost answer", "killed"])
@pytest.mark.parametrize("repaired", [False, True])
def test_a_change_of_which_a_part_is_left_is_rolled_back(
    harness: Harness, aws: FakeLambda, how: str, repaired: bool
) -> None:
    arn = partly_replaced(harness, aws, how)
    (entry,) = harness.entries()
    assert entry.outcome is not None
    assert (entry.outcome.outcome, entry.outcome.left, entry.in_effect) == ("deferred", True, True)
    assert "a part of it is on the function" in entry.outcome.detail
    if repaired:
        assert one(harness.apply(run_id=LATER))["action"] == "repair"
    back = harness.rollback([], [arn]) if repaired else harness.rollback([RUN])
    assert (one(back)["outcome"], one(back)["as_before"], code(back)) == ("rolled_back", "true", 0)
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"OWNER": "new"})


def test_a_change_that_was_replaced_whole_is_not_in_effect(harness: Harness, aws: FakeLambda) -> None:
    aws.add()
    edit_while_it_settles(aws, Layers=[], Environment={"Variables": {}})
    harness.apply()
    (entry,) = harness.entries()
    assert not entry.in_effect


def test_a_named_function_loses_what_a_change_that_no_journal_calls_made_left(
    harness: Harness, aws: FakeLambda
) -> None:
    """AWS carries the protection out after the last read; a later run replaces its wrapper, and only that is known."""
    arn = aws.add()
    aws.before, aws.after = lose("update_function_configuration", done=False)
    harness.apply()
    aws.owner_edits(arn, Layers=[{"Arn": layer(4)}], Environment={"Variables": {"TW_POLICY": "old"}})
    assert one(harness.apply(run_id=LATER))["outcome"] == "changed"
    back = harness.rollback([], [arn])
    assert (one(back)["outcome"], aws.layers(arn)) == ("rolled_back", [])


def test_a_change_that_was_never_made_is_no_obstacle_where_the_function_is_named(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    harness.defender = settings(version=3)
    aws.before, aws.after = lose("update_function_configuration", done=False)
    harness.apply()
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": WRAPPER}
    aws.owner_edits(arn, Layers=[{"Arn": layer(4)}], Environment={"Variables": variables})
    harness.defender = settings(version=5)
    assert one(harness.apply(run_id=LATER))["outcome"] == "changed"
    back = harness.rollback([], [arn])
    assert (one(back)["outcome"], aws.layers(arn)) == ("rolled_back", [layer(4)])
