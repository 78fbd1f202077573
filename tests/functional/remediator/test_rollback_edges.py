"""Edges of a rollback that only broken code showed: how it ends when AWS or an owner interferes, and what is written down."""

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.change.context import ChangeContext
from remediator.change.detach import DetachContext, detach
from remediator.change.records import Carried, ChangeResult
from remediator.execution.rollback import rollback
from remediator.journal.history import undo_each
from remediator.journal.journal import Journal
from remediator.journal.selection import Selection, select
from remediator.rollout.guards import BREAKER_FROM
from remediator.rollout.lock import RunLock
from remediator.state.order import Order
from remediator.state.quarantine import quarantined
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, arn_of, layer, lose, refusal
from tests.unit.remediator.harness import (
    LATER,
    OURS,
    RUN,
    WRAPPER,
    Harness,
    one,
    protected,
    settings,
    take_over,
    upgraded,
)

BACK, AGAIN = "20261125T000000Z-back", "20261126T000000Z-again"
TAKES_OUT = f"removes {layer(4)}, {EXEC_WRAPPER}, TW_POLICY"


pytestmark = pytest.mark.usefixtures("short_waits")


def settled(harness: Harness) -> list[tuple[str, int] | None]:
    """What the rollback's journal says of the end of each of its entries; None: it is open."""
    ends = [entry.outcome for entry in harness.entries(BACK)]
    return [(end.outcome, end.attempts) if end else None for end in ends]


def test_the_journal_says_what_a_rollback_was_made_from_and_what_it_undoes(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    revision = aws.functions[arn]["RevisionId"]
    assert one(harness.rollback([RUN]))["detail"] == TAKES_OUT
    ((made,), (undone,)) = harness.entries(BACK), harness.entries(RUN)
    intent = made.intent
    assert (intent.action, intent.function_arn, intent.family) == ("rollback", arn, "python")
    assert intent.revision_id == revision
    assert (intent.layers_before, intent.wrapper_before) == ((layer(4),), WRAPPER)
    assert intent.undoes == ((RUN, undone.intent.id),)
    assert intent.untag
    assert undone.undone_by == BACK
    assert made.outcome is not None
    assert (made.outcome.outcome, made.outcome.attempts) == ("rolled_back", 1)


def test_of_all_that_was_added_since_the_newest_is_what_a_rollback_goes_by(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = upgraded(harness, aws)
    harness.rollback([], [arn])
    ((made,), (first,), (second,)) = (harness.entries(run) for run in (BACK, RUN, LATER))
    assert made.intent.undoes == ((LATER, second.intent.id), (RUN, first.intent.id))
    assert made.intent.untag, "the protection goes too"
    assert [entry.undone_by for entry in (first, second)] == [BACK, BACK]


def test_an_upgrade_alone_leaves_the_tag(harness: Harness, aws: FakeLambda) -> None:
    upgraded(harness, aws)
    row = one(harness.rollback([LATER]))
    assert row["detail"] == f"removes {layer(5)}; restores {layer(4)}"
    assert not harness.entries(BACK)[0].intent.untag


def test_a_tag_that_can_not_be_removed_is_reported_beside_what_was(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)

    def refuse(method: str, on: str, n: int) -> None:
        if method == "untag_resource":
            raise refusal("AccessDeniedException", "no identity-based policy allows it")

    aws.before = refuse
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == "rolled_back"
    gone, _, tag = row["detail"].partition("; ")
    assert (gone, tag.startswith("still tagged: ")) == (TAKES_OUT, True)
    assert aws.layers(arn) == []


def test_without_a_tag_in_the_configuration_none_is_looked_for(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    harness.defender = settings(tag=None)
    assert one(harness.rollback([RUN]))["outcome"] == "rolled_back"
    assert aws.calls["untag_resource"] == 0


def test_what_aws_could_not_carry_out_failed_and_can_be_tried_again(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    aws.fail_next(arn)
    row = one(harness.rollback([RUN]))
    assert (row["outcome"], row["attempts"]) == ("failed", 1)
    assert row["detail"] == "AWS took the update and could not carry it out (EniLimitExceeded)"
    assert settled(harness) == [("failed", 1)]
    assert harness.entries(RUN)[0].undone_by is None
    aws.owner_edits(arn, LastUpdateStatus="Successful", Layers=[{"Arn": layer(4)}])
    assert one(harness.rollback([RUN], run_id=AGAIN))["outcome"] == "rolled_back"


def test_what_aws_refuses_is_settled_in_the_journal_and_costs_one_attempt(
    harness: Harness, aws: FakeLambda
) -> None:
    protected(harness, aws)

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("AccessDeniedException", "no identity-based policy allows it")

    aws.before = refuse
    row = one(harness.rollback([RUN]))
    assert (row["outcome"], row["attempts"]) == ("failed", 1)
    assert settled(harness) == [("failed", 1)]
    assert harness.store.list("state/open/") == []


def test_a_lost_answer_that_aws_never_saw_is_settled_as_not_done(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    aws.before, aws.after = lose("update_function_configuration", done=False, times=2)
    row = one(harness.rollback([RUN]))
    assert (row["outcome"], row["attempts"]) == ("deferred", 1)
    assert row["detail"] == "lost_answer: read again, AWS has not done it"
    assert settled(harness) == [("deferred", 1)]


def test_a_wrapper_that_its_owner_took_away_is_written_down_as_none(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    aws.owner_edits(arn, Environment={"Variables": {"TW_POLICY": OURS["TW_POLICY"]}})
    assert one(harness.rollback([RUN]))["detail"] == f"removes {layer(4)}, TW_POLICY"
    assert harness.entries(BACK)[0].intent.wrapper_before == ""


def test_an_owner_who_deploys_while_it_settles_has_the_last_word(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.polls_to_settle = 10

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            aws.owner_edits(on, LastUpdateStatus="Successful", Layers=[{"Arn": layer(4)}])

    aws.after = deploy
    row = one(harness.rollback([RUN]))
    assert (row["outcome"], row["attempts"]) == ("deferred", 1)
    assert row["detail"] == "replaced by another deployment while it settled"
    assert settled(harness) == [("deferred", 1)]
    assert aws.layers(arn) == [layer(4)]
    assert harness.entries(RUN)[0].undone_by is None


def test_one_that_settles_too_late_is_found_out_by_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.polls_to_settle = 1000
    row = one(harness.rollback([RUN]))
    assert (row["outcome"], row["attempts"]) == ("deferred", 1)
    assert row["detail"] == "not settled in time; the next run finds out"
    assert settled(harness) == [None]
    assert harness.store.list("state/open/") == [f"state/open/{BACK}.json"]
    aws.functions[arn]["LastUpdateStatus"] = "Successful"
    row = one(harness.resolve())
    assert (row["action"], row["outcome"], row["detail"]) == ("rollback", "rolled_back", "")
    assert aws.tags[arn] == {}
    assert harness.entries(RUN)[0].undone_by == BACK
    assert harness.store.list("state/open/") == []


def test_what_a_run_changes_after_its_own_rollback_does_not_close_what_that_left_open(
    harness: Harness, aws: FakeLambda
) -> None:
    """An hourly run rolls back what regressed, and then applies its plan: two writers of one journal."""
    arn = protected(harness, aws)
    aws.polls_to_settle = 1000
    harness.rollback([RUN])
    assert settled(harness) == [None]
    aws.polls_to_settle = 1
    other = aws.add("other")
    harness.apply(run_id=BACK)
    assert aws.layers(other) == [layer(4)]
    assert harness.store.list("state/open/") == [f"state/open/{BACK}.json"]
    aws.functions[arn]["LastUpdateStatus"] = "Successful"
    assert one(harness.resolve())["outcome"] == "rolled_back"
    assert harness.store.list("state/open/") == []


def test_a_second_attempt_of_a_run_overwrites_nothing_of_the_first(harness: Harness, aws: FakeLambda) -> None:
    """As where a state machine calls its last step again, whose first call was broken off."""
    first = protected(harness, aws)
    second = aws.add("second")
    harness.apply()
    assert [entry.intent.function_arn for entry in harness.entries()] == [first, second]
    harness.rollback([RUN])
    assert aws.layers(first) == aws.layers(second) == []


def test_a_function_that_is_being_updated_waits(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    aws.functions[arn]["LastUpdateStatus"] = "InProgress"
    aws.polls[arn] = 1000
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == "deferred"
    assert row["detail"]
    assert harness.entries(BACK) == []


def test_asked_to_stop_it_sends_nothing_and_says_so(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    before = aws.calls["update_function_configuration"]
    aws.stop.set()
    rolled_back = harness.rollback([RUN], stop=aws.stop)
    assert rolled_back.changes["outcome"].tolist() == ["deferred"]
    assert rolled_back.cut_short
    assert aws.calls["update_function_configuration"] == before
    assert aws.layers(arn) == [layer(4)]


def test_one_run_s_change_alone_goes_where_a_function_has_several(harness: Harness, aws: FakeLambda) -> None:
    arn = upgraded(harness, aws)
    (newest,) = undo_each(harness.journals, {arn: LATER})
    assert [intent.run_id for intent in newest.intents] == [LATER]
    assert (newest.refusal, newest.protection_before) == ("", "outdated")
    (beneath,) = undo_each(harness.journals, {arn: RUN})
    assert beneath.refusal == f"run {LATER} has changed it since; roll that back too, or use --function"


def test_what_no_run_has_changed_is_refused_and_of_nothing_nothing_goes(
    harness: Harness, aws: FakeLambda
) -> None:
    protected(harness, aws)
    assert undo_each(harness.journals, {}) == []
    other = arn_of("another")
    (undo,) = undo_each(harness.journals, {other: RUN})
    assert (undo.function_arn, undo.intents, undo.refusal) == (other, (), "no run has changed it")


def test_a_function_is_freed_of_older_runs_too_where_a_run_is_named_beside_it(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = protected(harness, aws)
    other = aws.add("other")
    harness.apply(run_id=LATER)
    changes = harness.rollback([LATER], [arn]).changes.set_index("function_arn")
    assert changes["outcome"].to_dict() == {arn: "rolled_back", other: "rolled_back"}
    assert aws.layers(arn) == aws.layers(other) == []
    assert select(harness.journals, Selection()) == []


def test_a_row_and_an_entry_are_of_one_function_each(harness: Harness, aws: FakeLambda) -> None:
    arns = [aws.add(name) for name in ("a", "b")]
    harness.apply()
    changes = harness.rollback([RUN]).changes
    reported = changes[["account_id", "region", "function_name", "function_arn"]].to_numpy().tolist()
    assert sorted(reported) == [[*reversed(arn.split(":")[3:5]), arn.rpartition(":")[2], arn] for arn in arns]
    entries = harness.entries(BACK)
    assert sorted(entry.intent.function_arn for entry in entries) == arns
    assert len({entry.intent.id for entry in entries}) == 2


def test_the_quarantine_says_when_in_utc_and_by_which_run(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    harness.rollback([RUN])
    (entry,) = quarantined(harness.store)
    assert datetime.fromisoformat(entry.since).utcoffset() == timedelta(0)
    assert (entry.run_id, entry.reason) == (BACK, f"rolled back by run {BACK}")


def test_a_lock_that_another_took_over_stops_it(harness: Harness, aws: FakeLambda) -> None:
    arn = protected(harness, aws)
    undos = select(harness.journals, Selection(runs=[RUN]))
    with RunLock(harness.store, BACK) as lock:
        take_over(harness.store)
        back = rollback(undos, aws, harness.defender, journals=harness.journals, run_id=BACK, lock=lock)
    assert back.stopped_by is not None
    assert back.stopped_by.guard == "lock"
    assert back.changes["outcome"].tolist() == ["deferred"]
    assert aws.layers(arn) == [layer(4)]


class Timed(FakeLambda):
    """Remembers until when each call might take."""

    def __init__(self) -> None:
        super().__init__(polls_to_settle=1)
        self.deadlines: set[float | None] = set()

    def call(self, *place: Any, deadline: float | None = None, **more: Any) -> dict[str, Any]:
        self.deadlines.add(deadline)
        return super().call(*place, deadline=deadline, **more)


def test_it_ends_by_its_deadline(tmp_path: Path) -> None:
    aws = Timed()
    harness = Harness(aws, tmp_path)
    arn = protected(harness, aws)
    aws.deadlines.clear()
    late = harness.rollback([RUN], deadline=time.monotonic() - 1)
    assert late.cut_short
    assert late.changes["outcome"].tolist() == ["deferred"]
    assert aws.layers(arn) == [layer(4)]
    until = time.monotonic() + 60
    assert one(harness.rollback([RUN], run_id=AGAIN, deadline=until))["outcome"] == "rolled_back"
    assert aws.deadlines == {until}, "no call of its may take longer"


def test_what_can_not_be_rolled_back_for_its_journal_is_one_clear_line(
    harness: Harness, aws: FakeLambda
) -> None:
    protected(harness, aws)
    with pytest.raises(BadInput) as error:
        harness.rollback([LATER])
    assert str(error.value) == f"run {LATER} has no journal: it changed nothing"


def test_stopped_between_its_read_and_its_update_it_sends_nothing(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    stopping = threading.Event()
    stopping.set()
    journal = Journal(harness.store, BACK, Order(harness.store))
    taking = DetachContext(
        ChangeContext(aws, harness.defender, stopping),
        BACK,
        journal.record_intents,
        journal.record_outcomes,
        dry_run=False,
    )
    with pytest.raises(StopIteration) as ended:
        next(detach(taking, select(harness.journals, Selection(runs=[RUN]))[0], "0"))
    carried = Carried(layer(4), WRAPPER)
    assert ended.value.value == ChangeResult(
        "deferred", "the run was stopped before it was sent", before=carried, after=carried, untouched=True
    )
    assert harness.entries(BACK) == []


def test_how_far_it_is_can_be_watched(harness: Harness, aws: FakeLambda) -> None:
    protected(harness, aws)
    seen: list[tuple[int, int]] = []
    harness.rollback([RUN], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1, 1)


def test_more_than_may_begin_at_once_are_rolled_back_one_after_another(
    harness: Harness, aws: FakeLambda
) -> None:
    arns = [aws.add(f"f{number}") for number in range(2 * BREAKER_FROM + 5)]
    harness.apply()
    # Where no answer were counted, nothing would begin after the first few, and it would wait for ever.
    back = harness.rollback([RUN], deadline=time.monotonic() + 60)
    assert back.changes["outcome"].tolist() == ["rolled_back"] * len(arns)
    assert all(aws.layers(arn) == [] for arn in arns)
