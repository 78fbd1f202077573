"""A rollback of what is on a function only in part, or may be: a deployment, a lost answer or a killed run came between."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from auto_defender.job_result import rollback_exit_code
from remediator.execution.apply import ApplyResult
from remediator.state.quarantine import quarantined
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, Killed, layer, lose
from tests.unit.remediator.harness import LATER, OURS, POLICY, RUN, WRAPPER, Harness, one, settings

BACK = "20261125T000000Z-back"

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


def with_a_further_variable(harness: Harness, value: str = "1") -> None:
    environment = {"TW_POLICY": SecretStr(POLICY), "TW_X": SecretStr(value)}
    harness.defender = harness.defender.model_copy(update={"environment": environment})


def protected_and_repaired(harness: Harness, aws: FakeLambda) -> str:
    arn = aws.add()
    harness.apply()
    with_a_further_variable(harness)
    assert one(harness.apply(run_id=LATER))["action"] == "repair"
    return arn


def test_every_change_must_be_gone_and_not_the_newest_alone(harness: Harness, aws: FakeLambda) -> None:
    """The owner's template has what the first change added."""
    arn = protected_and_repaired(harness, aws)
    edit_while_it_settles(aws, Layers=[{"Arn": layer(4)}], Environment={"Variables": OURS})
    back = harness.rollback([], [arn])
    assert (one(back)["outcome"], one(back)["as_before"], code(back)) == ("deferred", "false", 4)
    assert all(entry.undone_by is None for entry in harness.journals.history())


def test_a_rollback_that_was_killed_before_it_sent_is_not_done(harness: Harness, aws: FakeLambda) -> None:
    """A value is rotated in the configuration meanwhile: what the newest change added can't be recognized."""
    protected_and_repaired(harness, aws)

    def die(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise Killed

    aws.before = die
    harness.rollback([RUN, LATER])
    aws.before = lambda method, arn, n: None
    with_a_further_variable(harness, "2")
    assert one(harness.resolve())["outcome"] == "deferred"
    assert all(entry.undone_by is None for entry in harness.journals.history())


def test_two_upgrades_go_together(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": layer(3)}], Environment={"Variables": OURS})
    harness.apply()
    harness.defender = settings(version=5)
    harness.apply(run_id=LATER)
    back = harness.rollback([RUN, LATER])
    assert (one(back)["outcome"], code(back), aws.layers(arn)) == ("rolled_back", 0, [layer(3)])


def test_all_that_a_rollback_removes_must_be_ours(harness: Harness, aws: FakeLambda) -> None:
    arn = protected_and_repaired(harness, aws)
    harness.rollback([], [arn])
    (path,) = [path for path in harness.store.list(f"journals/{BACK}/") if path.endswith("00002.jsonl")]
    forged = (harness.store.read(path) or b"").replace(b"layer:twistlock-python:4", b"layer:other:4")
    assert forged.count(b"layer:other:4")
    intent = json.loads(forged.splitlines()[1])
    assert intent["delta"]["layer"] is None, "the newest change adds a variable alone"
    harness.store.write(path, forged, "")
    journals = harness.journals
    assert all(entry.undone_by is None for entry in journals.history())
    assert "names the layer" in journals.refused[0]


def test_a_value_that_a_repair_replaced_stays_and_is_named(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": layer(4)}], Environment={"Variables": {"TW_POLICY": "the owner's"}})
    assert one(harness.apply())["action"] == "repair"
    dry, back = harness.rollback([RUN], write=False), harness.rollback([RUN])
    row = one(back)
    assert (row["outcome"], row["as_before"], code(back)) == ("rolled_back", "false", 4)
    named = "keeps the value that a run gave, the one before is not known: TW_POLICY"
    assert row["detail"] == f"removes {EXEC_WRAPPER}; {named}"
    assert one(dry)["detail"] == row["detail"]
    assert aws.variables(arn) == {"TW_POLICY": POLICY}
    again = harness.rollback([RUN], run_id="20261126T000000Z-again")
    assert (one(again)["as_before"], code(again)) == ("false", 4)
    assert named in one(again)["detail"]


def test_a_value_that_is_no_longer_the_configured_one_stays_and_is_named(
    harness: Harness, aws: FakeLambda
) -> None:
    """Whether its owner gave it, or a run did before the configuration changed, can't be known."""
    arn = aws.add()
    harness.apply()
    environment = {"TW_POLICY": SecretStr("rotated")}
    harness.defender = harness.defender.model_copy(update={"environment": environment})
    back = harness.rollback([RUN])
    assert (one(back)["outcome"], one(back)["as_before"], code(back)) == ("rolled_back", "false", 4)
    assert "keeps, changed since: TW_POLICY (by its owner, or ours of an earlier" in one(back)["detail"]
    assert aws.variables(arn)["TW_POLICY"] == POLICY
    assert POLICY not in harness.everything_written()


def test_a_wrapper_that_was_replaced_and_restored_is_as_it_was(harness: Harness, aws: FakeLambda) -> None:
    previous = "/opt/twistlock/previous"
    harness.defender = settings(previous={"wrappers": (previous,)})
    variables = {"TW_POLICY": POLICY, EXEC_WRAPPER: previous}
    arn = aws.add(Layers=[{"Arn": layer(3)}], Environment={"Variables": variables})
    harness.apply()
    assert aws.variables(arn)[EXEC_WRAPPER] == WRAPPER
    back = harness.rollback([RUN])
    assert (one(back)["outcome"], one(back)["as_before"], code(back)) == ("rolled_back", "true", 0)
    assert (aws.layers(arn), aws.variables(arn)) == ([layer(3)], variables)


def test_a_killed_rollback_names_what_it_keeps(harness: Harness, aws: FakeLambda) -> None:
    aws.add(Layers=[{"Arn": layer(4)}], Environment={"Variables": {"TW_POLICY": "the owner's"}})
    harness.apply()

    def die(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise Killed

    aws.after = die
    harness.rollback([RUN])
    aws.after = lambda method, arn, n: None
    row = one(harness.resolve())
    assert (row["outcome"], row["as_before"]) == ("rolled_back", "false")
    assert "TW_POLICY" in row["detail"]


def test_what_its_owner_took_away_but_for_a_variable_is_not_as_it_was(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    harness.apply()
    aws.owner_edits(arn, Layers=[], Environment={"Variables": {"TW_POLICY": "the owner's, or ours"}})
    back = harness.rollback([RUN])
    assert (one(back)["outcome"], one(back)["as_before"], code(back)) == ("dropped", "false", 4)
    assert "keeps, changed since: TW_POLICY" in one(back)["detail"]
    assert [entry.function_arn for entry in quarantined(harness.store)] == [arn]
