"""When a rollback counts as done, what it reports of each function, and whom it leaves in quarantine."""

import threading
import time
from typing import Any

import pytest
from pydantic import SecretStr

from auto_defender.job_result import rollback_exit_code
from remediator.execution.apply import ApplyResult
from remediator.execution.rollback import rollback
from remediator.journal.history import entries_of
from remediator.journal.selection import Selection, select
from remediator.rollout.lock import RunLock
from remediator.rollout.lock_wait import awaited_lock
from remediator.state.quarantine import Quarantined, quarantined
from scanner.core.errors import GuardStop
from tests.unit.remediator.fake_lambda import FakeLambda, layer, lose, refusal
from tests.unit.remediator.harness import (
    LATER,
    OURS,
    RUN,
    WRAPPER,
    Harness,
    one,
    protected,
    upgraded,
)

BACK, AGAIN = "20261125T000000Z-back", "20261126T000000Z-again"
UNREADABLE = {"Error": {"ErrorCode": "AccessDenied", "Message": "no"}}

pytestmark = pytest.mark.usefixtures("short_waits")


def code(back: ApplyResult) -> int:
    return rollback_exit_code(back.changes, back.stopped_by)


def in_quarantine(harness: Harness) -> list[str]:
    return [entry.function_arn for entry in quarantined(harness.store)]


def before_update(aws: FakeLambda, do: Any, times: int = 1) -> None:
    """Do something to a function between its rollback's read and its update, in the first `times` attempts."""
    left = [times]

    def hook(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and left[0]:
            left[0] -= 1
            do(arn)

    aws.before = hook


def test_the_row_has_layer_and_wrapper_before_and_after(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    dry, made = one(harness.rollback([RUN], write=False)), one(harness.rollback([RUN]))
    cells = ("layer_before", "layer_after", "wrapper_before", "wrapper_after")
    for row in (dry, made):
        assert [row[cell] for cell in cells] == [layer(4), "", WRAPPER, ""]
    assert (dry["outcome"], dry["as_before"]) == ("planned", "false")
    assert (made["outcome"], made["as_before"]) == ("rolled_back", "true")


def test_an_upgrade_s_row_names_the_version_that_is_back(harness: Harness, aws: FakeLambda) -> None:
    upgraded(harness, aws)
    row = one(harness.rollback([LATER]))
    assert (row["layer_before"], row["layer_after"]) == (layer(5), layer(4))
    assert (row["wrapper_before"], row["wrapper_after"]) == (WRAPPER, WRAPPER)


def test_a_deployment_between_read_and_update_is_read_again_and_kept(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    before_update(aws, lambda on: aws.owner_edits(on, Environment={"Variables": OURS | {"NEW": "x"}}))
    back = harness.rollback([RUN])
    row = one(back)
    assert (row["outcome"], row["attempts"], code(back)) == ("rolled_back", 2, 0)
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"NEW": "x"})
    first, second = harness.entries(BACK)
    assert first.outcome is not None
    assert first.outcome.detail.startswith("concurrent_deploy")
    assert second.outcome is not None
    assert second.outcome.outcome == "rolled_back"


def test_an_update_under_way_is_waited_for_once(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.functions[arn]["LastUpdateStatus"] = "InProgress"
    aws.polls[arn] = 2  # settles at the second read
    assert (one(harness.rollback([RUN]))["outcome"], aws.layers(arn)) == ("rolled_back", [])


def test_an_update_under_way_that_lasts_is_deferred_and_not_quarantined(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    aws.functions[arn]["LastUpdateStatus"] = "InProgress"
    aws.polls[arn] = 1000
    back = harness.rollback([RUN])
    row = one(back)
    assert (row["outcome"], row["attempts"], code(back)) == ("deferred", 0, 4)
    assert (row["layer_before"], row["layer_after"], in_quarantine(harness)) == (layer(4), layer(4), [])


def test_a_conflict_that_lasts_is_deferred_and_not_done(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    before_update(aws, aws.owner_edits, times=2)
    back = harness.rollback([RUN])
    row = one(back)
    assert (row["outcome"], row["attempts"], code(back)) == ("deferred", 2, 4)
    assert (row["layer_after"], row["as_before"]) == (layer(4), "false")
    assert aws.calls["update_function_configuration"] == 3, "the protection, and two tries"
    assert harness.store.list("state/open/") == []
    assert in_quarantine(harness) == []
    assert aws.layers(arn) == [layer(4)]


@pytest.mark.parametrize(
    ("edit", "done"),
    [
        ({"Layers": [], "Environment": {"Variables": {}}}, True),
        ({"Layers": [{"Arn": layer(9)}]}, False),
        ({"Environment": UNREADABLE}, False),
        ({"Layers": [], "Environment": UNREADABLE}, False),
    ],
)
def test_what_carries_nothing_of_ours_any_more_is_done_and_nothing_else_is(
    harness: Harness, aws: FakeLambda, edit: dict[str, Any], done: bool
) -> None:
    arn = protected(harness, aws)
    aws.owner_edits(arn, **edit)
    for back in (harness.rollback([RUN], write=False), harness.rollback([], [arn], write=False)):
        assert one(back)["as_before"] == ("true" if done else "false")
        assert code(back) == (0 if done else 4)
    back = harness.rollback([RUN])
    assert (one(back)["outcome"], code(back)) == ("dropped", 0 if done else 4)
    # Done by its owner, it must not be protected again; refused, it is as if nobody had asked.
    assert in_quarantine(harness) == ([arn] if done else [])


def test_a_function_that_is_gone_is_done(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.delete(arn)
    back = harness.rollback([], [arn])
    row = one(back)
    assert (row["detail"], code(back)) == ("gone: the function no longer exists", 0)
    assert (row["layer_before"], row["layer_after"]) == ("", "")
    assert in_quarantine(harness) == [], "who creates it again begins anew"


def test_one_deleted_before_its_update_is_done_too(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    before_update(aws, aws.delete)
    back = harness.rollback([RUN])
    assert (one(back)["as_before"], code(back)) == ("true", 0)


def test_a_run_beneath_a_later_one_is_refused_and_not_quarantined(harness: Harness, aws: FakeLambda) -> None:
    arn = upgraded(harness, aws)
    back = harness.rollback([RUN])
    row = one(back)
    assert (row["outcome"], row["layer_before"], row["layer_after"], code(back)) == (
        "dropped",
        layer(5),
        layer(5),
        4,
    )
    assert LATER in row["detail"]
    assert in_quarantine(harness) == []
    assert aws.layers(arn) == [layer(5)]


def test_of_several_changes_all_go_or_none(harness: Harness, aws: FakeLambda) -> None:
    """The upgrade alone could be removed, and the layer beneath it would stay without anyone who can remove it."""
    arn = upgraded(harness, aws)
    variables = aws.functions[arn]["Environment"]
    aws.owner_edits(arn, Environment=UNREADABLE)
    back = harness.rollback([], [arn])
    assert (one(back)["outcome"], aws.layers(arn), code(back)) == ("dropped", [layer(5)], 4)
    assert one(back)["wrapper_before"] == "unknown"
    aws.owner_edits(arn, Environment=variables)
    back = harness.rollback([], [arn], run_id=AGAIN)
    assert (one(back)["outcome"], aws.layers(arn), code(back)) == ("rolled_back", [], 0)


def test_what_aws_refuses_is_not_left_in_quarantine_but_an_older_entry_is(
    harness: Harness, aws: FakeLambda
) -> None:
    arn, other = aws.add("a"), aws.add("b")
    harness.apply()
    older = Quarantined(other, "2026-11-01T00:00:00+00:00", "20261101T000000Z-old", "slow", regressed=True)
    harness.quarantine(older)

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("AccessDeniedException", "with an explicit deny in a service control policy")

    aws.before = refuse
    back = harness.rollback([], [arn, other])
    assert (back.changes["outcome"].tolist(), code(back)) == (["failed", "failed"], 4)
    assert quarantined(harness.store) == (older,)


@pytest.mark.parametrize("read", [True, False])
def test_what_may_have_been_done_stays_in_quarantine(harness: Harness, aws: FakeLambda, read: bool) -> None:
    arn = protected(harness, aws)
    if read:
        aws.before, aws.after = lose("update_function_configuration", done=False, times=2)
    else:
        aws.polls_to_settle = 1000
    back = harness.rollback([RUN])
    assert (one(back)["outcome"], code(back)) == ("deferred", 4)
    assert in_quarantine(harness) == [arn]


def test_what_was_never_begun_is_not_in_quarantine(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    stop = threading.Event()
    stop.set()
    back = harness.rollback([RUN], stop=stop)
    assert (one(back)["outcome"], code(back), in_quarantine(harness)) == ("deferred", 4, [])


def test_without_the_lock_the_quarantine_is_not_written(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)

    class Lost(RunLock):
        def check(self) -> None:
            raise GuardStop("lock", "another run has taken it over", "Run again")

    with Lost(harness.store, BACK) as lock:
        undos = select(harness.journals, Selection(runs=[RUN]))
        back = rollback(undos, aws, harness.defender, journals=harness.journals, run_id=BACK, lock=lock)
    assert code(back) == 5
    assert in_quarantine(harness) == [arn]


def test_what_its_owner_deployed_again_goes_where_the_function_is_named(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    carried = {key: aws.functions[arn][key] for key in ("Layers", "Environment")}
    harness.rollback([RUN])
    aws.owner_edits(arn, **carried)
    back = harness.rollback([RUN], run_id=AGAIN)
    assert (one(back)["outcome"], code(back), aws.layers(arn)) == ("dropped", 4, [layer(4)])
    assert "deployed again since; --function removes it" in one(back)["detail"]
    back = harness.rollback([], [arn], run_id="20261127T000000Z-named")
    assert (one(back)["outcome"], code(back), aws.layers(arn)) == ("rolled_back", 0, [])


def test_a_change_that_no_journal_calls_made_goes_where_the_function_is_named(
    harness: Harness, aws: FakeLambda
) -> None:
    """As where the answer was lost, three reads did not show it, and AWS did it later."""
    arn = aws.add()
    aws.before, aws.after = lose("update_function_configuration", done=False)
    assert one(harness.apply())["outcome"] == "deferred"
    aws.owner_edits(arn, Layers=[{"Arn": layer(4)}], Environment={"Variables": OURS})
    assert harness.rollback([RUN]).changes.empty
    back = harness.rollback([], [arn], run_id=AGAIN)
    assert (one(back)["outcome"], code(back), aws.layers(arn)) == ("rolled_back", 0, [])


def test_the_history_has_every_entry_of_a_function(harness: Harness, aws: FakeLambda) -> None:
    arn = upgraded(harness, aws)
    protected(harness, aws, "other")
    harness.rollback([LATER])
    history = entries_of(harness.journals, arn)
    assert [(entry.intent.run_id, entry.intent.action) for entry in history] == [
        (RUN, "protect"),
        (LATER, "upgrade"),
        (BACK, "rollback"),
    ]
    assert [entry.undone_by for entry in history] == [None, BACK, None]


def test_the_lock_is_taken_once_it_is_free(harness: Harness) -> None:
    free, stop = threading.Event(), threading.Event()
    held = threading.Event()

    def hold() -> None:
        with RunLock(harness.store, RUN):
            held.set()
            free.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    threading.Timer(0.2, free.set).start()
    with awaited_lock(harness.store, BACK, stop=stop, deadline=None, poll_seconds=0.02) as lock:
        assert free.is_set()
        lock.check()
    holder.join(20)


@pytest.mark.parametrize("by", ["signal", "deadline"])
def test_waiting_for_the_lock_ends_by_a_signal_and_at_the_deadline(harness: Harness, by: str) -> None:
    stop = threading.Event()
    if by == "signal":
        threading.Timer(0.1, stop.set).start()
    deadline = time.monotonic() + 0.1 if by == "deadline" else None
    with (
        RunLock(harness.store, RUN),
        pytest.raises(GuardStop, match=f"run {RUN} has it until"),
        awaited_lock(harness.store, BACK, stop=stop, deadline=deadline, poll_seconds=0.02),
    ):
        pass


def test_values_that_were_replaced_are_gone_with_the_change_that_added_them_and_not_by_themselves(
    harness: Harness, aws: FakeLambda
) -> None:
    """A rotated value: no journal has the earlier one."""
    arn = protected(harness, aws)
    rotated = harness.defender.model_copy(update={"environment": {"TW_POLICY": SecretStr("rotated")}})
    harness.defender = rotated
    assert one(harness.apply(run_id=LATER))["action"] == "repair"
    alone = harness.rollback([LATER], run_id=AGAIN)
    assert (one(alone)["outcome"], code(alone)) == ("dropped", 4)
    assert "only values were replaced (TW_POLICY)" in one(alone)["detail"]
    whole = harness.rollback([], [arn], run_id="20261127T000000Z-named")
    assert (one(whole)["outcome"], code(whole), aws.layers(arn)) == ("rolled_back", 0, [])
    assert not [entry for entry in harness.journals.history() if entry.in_effect]
