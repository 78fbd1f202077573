"""An opt-out with `remove: true`: a run takes off what was added, under the same plan, guards and write protocol."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest

from auto_defender.observation import Observation
from remediator.execution.preflight import preflight
from remediator.journal.history import changed_since
from remediator.journal.selection import Selection, select
from remediator.plan.held_back import HeldBack, hold_back
from remediator.plan.plan_file import read_plan
from remediator.state.functions import records
from remediator.state.store import STOP
from scanner.organization.optouts import OptOut, OptOuts
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import ACCOUNT, PUBLISHER, FakeLambda, Killed, layer, lose, refusal
from tests.unit.remediator.harness import OURS, POLICY, RUN, WRAPPER, Harness, journal_of, one

REMOVAL, BACK, AGAIN = "20261124T044232Z-remove", "20261124T054232Z-back", "20261124T064232Z-again"
DATADOG = layer(7, "datadog")
OWNERS = {"OWNER": "s3cret-of-the-owner"}

pytestmark = pytest.mark.usefixtures("short_waits")


def optout(**changes: Any) -> OptOut:
    entry = {"account": ACCOUNT, "functions": ["f*"], "reason": "CHG-4711", "owner": "o@example.com"}
    return OptOut.model_validate({**entry, "remove": True, **changes})


def opted_out(harness: Harness, **changes: Any) -> None:
    harness.optouts = OptOuts((optout(**changes),))


def protected(harness: Harness, aws: FakeLambda, name: str = "f") -> str:
    """Protect a function that has another layer, then let it opt out."""
    arn = aws.add(name, Layers=[{"Arn": DATADOG}])
    harness.apply()
    opted_out(harness)
    return arn


def carried(aws: FakeLambda, arn: str) -> tuple[list[str], dict[str, str]]:
    return aws.layers(arn), aws.variables(arn)


def held(harness: Harness, **more: Any) -> HeldBack:
    return hold_back(
        harness.assessed(),
        known=records(harness.store),
        partition="aws",
        config_digest="digest",
        own_function=None,
        now=datetime.now(UTC),
        **more,
    )


def assessed(harness: Harness) -> dict[str, Any]:
    (row,) = harness.assessed().to_dict("records")
    return {str(key): value for key, value in row.items()}


def test_what_was_added_is_taken_off_and_the_function_stays_excluded(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    row = one(harness.apply(run_id=REMOVAL))
    assert (row["action"], row["outcome"], row["attempts"]) == ("remove", "changed", 1)
    assert carried(aws, arn) == ([DATADOG], OWNERS)
    assert aws.tags[arn] == {}
    found = assessed(harness)
    assert (found["protection"], found["verdict"], found["reasons"]) == (
        "unprotected", "excluded", "opted_out",
    )  # fmt: skip
    assert harness.plan(AGAIN).changes == ()
    assert POLICY not in harness.everything_written()


def test_the_plan_names_what_goes_and_can_be_approved(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    plan = harness.plan(REMOVAL)
    (change,) = plan.changes
    assert (change.action, change.layer, change.wave) == ("remove", "", "")
    assert change.before.layers == (DATADOG, layer(4))
    assert (change.after.layers, change.after.wrapper, change.after.variables) == ((DATADOG,), "", ())
    assert "1 remove" in plan.summary()
    now = datetime(2026, 11, 24, 4, tzinfo=UTC)
    assert read_plan(plan.to_json(), "plan.json", now=now, config_digest="digest") == plan
    row = one(harness.apply(plan, REMOVAL, approved=True))
    assert row["outcome"] == "changed"


def test_a_dry_run_shows_it(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    updates = aws.calls["update_function_configuration"]
    changes = preflight(harness.plan(REMOVAL), aws, harness.rules, harness.rollout)
    (row,) = changes.to_dict("records")
    assert (row["action"], row["outcome"]) == ("remove", "planned")
    assert row["detail"] == f"removes {layer(4)}, {EXEC_WRAPPER}, TW_POLICY"
    assert aws.calls["update_function_configuration"] == updates
    assert layer(4) in aws.layers(arn)


def test_the_intent_is_there_before_the_update(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    seen: list[str] = []

    def before(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            seen.append(journal_of(harness.store.root, REMOVAL))

    aws.before = before
    harness.apply(run_id=REMOVAL)
    (line,) = [json.loads(text.splitlines()[-1]) for text in seen]
    assert (line["event"], line["action"], line["delta"]["layer"]) == ("intent", "remove", layer(4))
    assert (line["delta"]["variables_added"], line["delta"]["wrapper"]) == (
        [EXEC_WRAPPER, "TW_POLICY"],
        WRAPPER,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"remove": False},
        {"functions": ["g*"]},
        {"account": "999988887777"},
        {"regions": ["eu-west-1"]},
        {"expires": date(2026, 11, 23)},
    ],
)
def test_only_what_an_entry_in_force_names_is_planned(
    harness: Harness, aws: FakeLambda, changes: dict[str, Any]
) -> None:
    protected(harness, aws)
    opted_out(harness, **changes)
    assert harness.plan(REMOVAL).changes == ()


def test_what_carries_nothing_of_ours_is_not_planned(harness: Harness, aws: FakeLambda) -> None:
    aws.add(Layers=[{"Arn": DATADOG}])
    opted_out(harness)
    assert harness.plan(REMOVAL).changes == ()


def test_the_wrapper_of_a_defender_that_its_owner_attached_stays(harness: Harness, aws: FakeLambda) -> None:
    own = layer(4).replace(PUBLISHER, "123456781234")
    arn = aws.add(Layers=[{"Arn": own}], Environment={"Variables": OWNERS | OURS})
    opted_out(harness)
    plan = harness.plan(REMOVAL)
    assert (plan.changes, plan.held_back) == ((), {"wrapper_conflict": 1})
    assert carried(aws, arn) == ([own], OWNERS | OURS)


def test_a_variable_that_was_there_before_any_run_stays(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Environment={"Variables": OWNERS | {"TW_POLICY": POLICY}})
    harness.apply()
    opted_out(harness)
    plan = harness.plan(REMOVAL)
    (planned,) = preflight(plan, aws, harness.rules, harness.rollout)["detail"]
    assert planned == f"removes {layer(4)}, {EXEC_WRAPPER}; keeps, not given by a run: TW_POLICY"
    row = one(harness.apply(plan, REMOVAL))
    assert (row["outcome"], row["detail"]) == ("changed", "keeps, not given by a run: TW_POLICY")
    assert carried(aws, arn) == ([], OWNERS | {"TW_POLICY": POLICY})
    assert harness.plan(AGAIN).changes == ()


def test_a_variable_of_a_change_that_was_rolled_back_is_no_run_s(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    harness.rollback([], [arn])
    aws.owner_edits(arn, Environment={"Variables": OWNERS | {"TW_POLICY": POLICY}})
    harness.apply(run_id=AGAIN)
    opted_out(harness)
    assert one(harness.apply(run_id="20261126T000000Z-remove"))["outcome"] == "changed"
    assert carried(aws, arn) == ([], OWNERS | {"TW_POLICY": POLICY})


def test_our_layer_replaced_by_the_owner_s_after_the_plan_leaves_the_wrapper(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    plan = harness.plan(REMOVAL)
    aws.owner_edits(arn, Layers=[{"Arn": DATADOG}])
    assert one(harness.apply(plan, REMOVAL))["outcome"] == "dropped"
    assert carried(aws, arn) == ([DATADOG], OWNERS | OURS)


def test_what_is_only_partly_there_and_a_manual_attachment_go_too(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(
        Layers=[{"Arn": layer(3)}], Environment={"Variables": OWNERS | {"TW_POLICY": "the owner's"}}
    )
    opted_out(harness, functions=None)
    assert one(harness.apply(run_id=REMOVAL))["outcome"] == "changed"
    assert carried(aws, arn) == ([], OWNERS | {"TW_POLICY": "the owner's"})


def test_it_waits_for_no_wave_and_counts_in_the_limits(harness: Harness, aws: FakeLambda) -> None:
    for name in ("f1", "f2"):
        aws.add(name, Layers=[{"Arn": layer(4)}], Environment={"Variables": dict(OURS)})
    aws.add("waits")
    opted_out(harness)
    frame = harness.assessed
    harness.assessed = lambda: frame().assign(wave="second", wave_waits=True)  # type: ignore[method-assign]
    plan = harness.plan(REMOVAL)
    assert [(change.function_name, change.wave) for change in plan.changes] == [("f1", ""), ("f2", "")]
    assert plan.held_back == {"wave": 1}
    harness.rollout = harness.rollout.model_copy(update={"max_changes_per_account": 1})
    assert harness.plan(REMOVAL).held_back == {"wave": 1, "max_changes_per_account": 1}


def test_the_fresh_read_decides(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    plan = harness.plan(REMOVAL)
    aws.owner_edits(arn, Layers=[], Environment={"Variables": {}})
    row = one(harness.apply(plan, REMOVAL))
    assert (row["outcome"], row["attempts"]) == ("dropped", 0)
    assert "carries nothing of ours" in row["detail"]


def test_an_entry_that_no_longer_says_remove_drops_it(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    plan = harness.plan(REMOVAL)
    opted_out(harness, remove=False)
    assert one(harness.apply(plan, REMOVAL))["outcome"] == "dropped"
    assert layer(4) in aws.layers(arn)


def test_an_environment_that_can_not_be_read_stops_it(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.owner_edits(arn, Environment={"Error": {"ErrorCode": "AccessDenied", "Message": "no"}})
    row = one(harness.apply(run_id=REMOVAL))
    assert row["outcome"] == "dropped"
    assert "its environment can't be read" in row["detail"]
    assert layer(4) in aws.layers(arn)


def test_a_deployment_in_between_is_kept(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    done = aws.calls["update_function_configuration"]

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == done + 1:
            aws.owner_edits(on, Environment={"Variables": OURS | {"NEW": "x"}})

    aws.before = deploy
    assert one(harness.apply(run_id=REMOVAL))["attempts"] == 2
    assert carried(aws, arn) == ([DATADOG], {"NEW": "x"})


def test_a_lost_answer_is_found_out_and_nothing_is_sent_again(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.before, aws.after = lose("update_function_configuration", done=True, times=2)
    assert one(harness.apply(run_id=REMOVAL))["outcome"] == "changed"
    assert aws.calls["update_function_configuration"] == 2
    assert carried(aws, arn) == ([DATADOG], OWNERS)


def test_a_lost_answer_and_variables_that_can_not_be_read_leave_it_open(
    harness: Harness, aws: FakeLambda
) -> None:
    protected(harness, aws)
    updated: list[str] = []

    def hide(method: str, answer: dict[str, Any]) -> None:
        if method == "update_function_configuration":
            updated.append(method)
        elif method == "get_function_configuration" and updated:
            answer["Environment"] = {"Error": {"ErrorCode": "AccessDenied", "Message": "no"}}

    aws.before, aws.after = lose("update_function_configuration", done=True, times=2)
    aws.edit_answer = hide
    row = one(harness.apply(run_id=REMOVAL))
    assert (row["outcome"], row["detail"]) == (
        "deferred", "its variables can't be read; the next run finds out",
    )  # fmt: skip
    aws.edit_answer = lambda method, answer: None
    assert one(harness.resolve())["outcome"] == "changed"


def test_an_update_that_aws_could_not_carry_out_is_a_failure_and_sends_nothing_more(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    aws.fail_next(arn)
    row = one(harness.apply(run_id=REMOVAL))
    assert (row["outcome"], row["attempts"]) == ("failed", 1)
    assert aws.calls["update_function_configuration"] == 2


def test_the_kill_switch_stops_it(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    harness.store.write(STOP, b"incident 4711", "text/plain")
    applied = harness.apply(run_id=REMOVAL)
    assert applied.stopped_by is not None
    assert (one(applied)["outcome"], aws.calls["update_function_configuration"]) == ("deferred", 1)
    assert layer(4) in aws.layers(arn)


def test_it_waits_for_the_quiet_time_of_its_owner_s_deployment(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    harness.rollout = harness.rollout.model_copy(update={"quiet_minutes": 10})
    aws.functions[arn]["LastModified"] = datetime.now(UTC).isoformat()
    row = one(harness.apply(run_id=REMOVAL))
    assert (row["outcome"], row["attempts"]) == ("deferred", 0)
    assert "rollout.quiet_minutes" in row["detail"]


def test_a_variable_whose_value_the_owner_changed_stays_and_is_named(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    aws.owner_edits(arn, Environment={"Variables": OWNERS | OURS | {"TW_POLICY": "the owner's"}})
    keeps = "keeps, not with the configured value: TW_POLICY"
    (planned,) = preflight(harness.plan(REMOVAL), aws, harness.rules, harness.rollout)["detail"]
    assert planned == f"removes {layer(4)}, {EXEC_WRAPPER}; {keeps}"
    row = one(harness.apply(run_id=REMOVAL))
    assert (row["outcome"], row["detail"]) == ("changed", keeps)
    assert carried(aws, arn) == ([DATADOG], OWNERS | {"TW_POLICY": "the owner's"})
    assert "the owner's" not in harness.everything_written()


def test_it_counts_in_no_wave_and_as_no_protection(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    before = records(harness.store)[arn]
    harness.apply(run_id=REMOVAL)
    after = records(harness.store)[arn]
    assert (after.ended, after.release, after.wave) == (before.ended, before.release, before.wave)
    assert after.protections is None


def test_what_this_run_has_removed_or_rolled_back_it_does_not_plan_again(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    swept = Observation(pd.DataFrame(), pd.DataFrame(), harness.assessed())
    removed = swept.after(harness.apply(run_id=REMOVAL).changes).functions
    back = harness.rollback([], [arn], run_id=BACK).changes.assign(outcome="rolled_back")
    rolled_back = swept.after_rollback(back, {arn: "unprotected"}).functions
    partly = swept.after_rollback(back, {arn: "outdated"}).functions
    assert [bool(frame["remove"].any()) for frame in (swept.functions, removed, rolled_back, partly)] == [
        True, False, False, True,
    ]  # fmt: skip


def test_a_killed_one_is_finished_by_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)

    def kill(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise Killed

    aws.after = kill
    harness.apply(run_id=REMOVAL)
    aws.after = lambda method, on, n: None
    row = one(harness.resolve())
    assert (row["action"], row["outcome"]) == ("remove", "changed")
    assert (carried(aws, arn), aws.tags[arn]) == (([DATADOG], OWNERS), {})


def test_the_journal_shows_the_change_as_undone(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    assert len(changed_since(harness.journals, datetime(2026, 11, 24, tzinfo=UTC))) == 1
    harness.apply(run_id=REMOVAL)
    (entry,) = harness.entries(RUN)
    assert (entry.undone_by, entry.in_effect) == (REMOVAL, False)
    assert changed_since(harness.journals, datetime(2026, 11, 24, tzinfo=UTC)) == []
    for selection in (Selection(everything=True), Selection(runs=[REMOVAL])):
        assert select(harness.journals, selection) == []
    row = one(harness.rollback([], [arn], run_id=BACK))
    assert (row["as_before"], row["detail"]) == ("true", f"already rolled back by run {REMOVAL}")


def test_protected_again_later_is_in_effect_again(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    harness.apply(run_id=REMOVAL)
    harness.optouts = OptOuts()
    assert held(harness).lost == {}, "nobody's pipeline removed it"
    harness.apply(run_id=AGAIN)
    (entry,) = harness.entries(AGAIN)
    assert entry.in_effect
    assert one(harness.rollback([AGAIN], run_id="20261124T074232Z-back"))["outcome"] == "rolled_back"
    assert carried(aws, arn) == ([DATADOG], OWNERS)


def test_one_that_aws_refuses_for_good_is_not_tried_every_hour(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("KMSAccessDeniedException", "no")

    aws.before = refuse
    assert one(harness.apply(run_id=REMOVAL))["outcome"] == "failed"
    assert held(harness).guards == {arn: "failed_before"}
    harness.optouts = OptOuts()
    assert held(harness).guards == {}, "that it could not be removed does not keep it from being protected"


def test_neither_a_failed_protection_nor_a_regression_keeps_it_from_being_removed(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    harness.optouts = OptOuts()
    aws.fail_next(arn)
    aws.owner_edits(arn, Environment={"Variables": OWNERS | {"TW_POLICY": POLICY}})
    assert one(harness.apply(run_id=AGAIN))["outcome"] == "failed"
    assert held(harness, regressed=[arn]).guards == {arn: "regressed"}
    assert held(harness).guards == {arn: "failed_before"}
    opted_out(harness)
    assert held(harness, regressed=[arn]).guards == {}
