"""The write protocol against a Lambda that checks revisions, settles slowly, loses answers and fails."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from scanner.aws.errors import LostAnswer
from scanner.core.settings import Tag
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, layer, lose, refusal
from tests.unit.remediator.harness import OURS, POLICY, RUN, WRAPPER, Harness, journal_of, one, settings

DATADOG = layer(7, "datadog")


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def aws() -> FakeLambda:
    return FakeLambda(polls_to_settle=2)


def test_a_function_is_protected_and_keeps_what_it_had(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    row = one(harness.apply())
    assert (row["action"], row["outcome"], row["attempts"], row["detail"]) == ("protect", "changed", 1, "")
    assert aws.layers(arn) == [DATADOG, layer(4)]
    assert aws.variables(arn) == {"OWNER": "s3cret-of-the-owner", **OURS}
    assert aws.tags[arn] == {"SecurityProtected": "True"}
    assert aws.calls["update_function_configuration"] == 1


def test_a_second_apply_right_after_changes_nothing(harness: Harness, aws: FakeLambda) -> None:
    aws.add()
    plan = harness.plan()
    harness.apply(plan)
    writes = aws.calls["update_function_configuration"], aws.calls["tag_resource"]
    assert harness.plan().changes == ()
    row = one(harness.apply(plan, run_id="20261124T040000Z-again"))
    assert row["outcome"] == "dropped"
    assert "protected" in row["detail"]
    assert (aws.calls["update_function_configuration"], aws.calls["tag_resource"]) == writes


def test_an_older_layer_is_upgraded_in_its_place_and_the_environment_is_not_sent(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add(Layers=[{"Arn": layer(3)}, {"Arn": DATADOG}], Environment={"Variables": dict(OURS)})
    assert one(harness.apply())["action"] == "upgrade"
    assert aws.layers(arn) == [layer(4), DATADOG]
    assert aws.variables(arn) == OURS


def test_what_is_half_there_is_repaired(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": layer(4)}], Environment={"Variables": {"TW_POLICY": "an earlier one"}})
    assert one(harness.apply())["action"] == "repair"
    assert aws.layers(arn) == [layer(4)]
    assert aws.variables(arn) == OURS


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ({"State": "Pending"}, "deferred"),
        ({"State": "Failed"}, "deferred"),
        ({"LastUpdateStatus": "InProgress"}, "deferred"),
        ({"State": "Inactive"}, "changed"),
        ({"LastUpdateStatus": "Failed"}, "dropped"),
    ],
)
def test_the_state_of_a_fresh_read_decides(
    harness: Harness, aws: FakeLambda, state: dict[str, str], outcome: str
) -> None:
    arn = aws.add()
    plan = harness.plan()
    aws.functions[arn] |= state
    aws.polls[arn] = 99
    assert one(harness.apply(plan))["outcome"] == outcome


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"MemorySize": 128}, "memory"),
        ({"Timeout": 900}, "timeout"),
        ({"Environment": {"Variables": {EXEC_WRAPPER: "/opt/other"}}}, "wrapper_conflict"),
        ({"Environment": {"Error": {"ErrorCode": "AccessDenied", "Message": "kms"}}}, "env_unreadable"),
        ({"Layers": [{"Arn": layer(n, f"x{n}")} for n in range(1, 6)]}, "layers"),
        ({"Environment": {"Variables": {"BIG": "x" * 4070}}}, "env_overflow"),
        ({"Runtime": "java21"}, "runtime"),
    ],
)
def test_a_function_that_moved_on_is_dropped_with_its_reasons(
    harness: Harness, aws: FakeLambda, edit: dict[str, Any], reason: str
) -> None:
    arn = aws.add()
    plan = harness.plan()
    aws.owner_edits(arn, **edit)
    row = one(harness.apply(plan))
    assert row["outcome"] == "dropped"
    assert reason in row["detail"]
    assert aws.calls["update_function_configuration"] == 0


def test_a_saved_plan_drops_whatever_has_another_revision(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    plan = harness.plan()
    aws.owner_edits(arn, Description="new")
    row = one(harness.apply(plan, approved=True))
    assert (row["outcome"], row["detail"]) == ("dropped", "the function has changed since the plan was made")
    assert one(harness.apply(plan, run_id="20261124T050000Z-run"))["outcome"] == "changed"


def test_a_deployment_between_read_and_update_is_read_again_and_kept(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == 1:
            aws.owner_edits(on, Environment={"Variables": {"OWNER": "2"}}, Layers=[{"Arn": DATADOG}])

    aws.before = deploy
    row = one(harness.apply())
    assert (row["outcome"], row["attempts"]) == ("changed", 2)
    assert aws.layers(arn) == [DATADOG, layer(4)]
    assert aws.variables(arn) == {"OWNER": "2", **OURS}
    assert [entry.outcome.outcome for entry in harness.entries() if entry.outcome] == ["deferred", "changed"]


def test_a_function_that_keeps_being_deployed_is_deferred(harness: Harness, aws: FakeLambda) -> None:
    aws.add()

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            aws.owner_edits(on, Description=str(n))

    aws.before = deploy
    row = one(harness.apply())
    assert (row["outcome"], row["attempts"]) == ("deferred", 2)
    assert row["detail"].startswith("concurrent_deploy")


@pytest.mark.parametrize(
    ("code", "message", "outcome", "kind"),
    [
        ("ResourceConflictException", "An update is in progress", "deferred", "conflict"),
        ("ResourceNotFoundException", "Function not found", "dropped", "gone"),
        ("AccessDeniedException", "User: x is not authorized to perform: lambda:UpdateFunctionConfiguration on resource: y with an explicit deny in a service control policy", "failed", "denied_by_scp"),
        ("AccessDeniedException", "User: x is not authorized to perform: lambda:UpdateFunctionConfiguration on resource: y because no identity-based policy allows it", "failed", "denied_by_policy"),
        ("AccessDeniedException", "User: x is not authorized to perform: lambda:GetLayerVersion on resource: y", "failed", "layer_unavailable"),
        ("InvalidParameterValueException", "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes.", "failed", "size_limit"),
        ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.", "failed", "dead_role"),
        ("CodeVerificationFailedException", "The code signature failed", "failed", "signature"),
        ("InvalidParameterValueException", 'Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"A":"' + POLICY + '"}', "failed", "env_overflow"),
        ("InvalidParameterValueException", f"Something new about {POLICY} and s3cret-of-the-owner", "failed", "refused"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_own_text_without_any_value(
    harness: Harness,
    aws: FakeLambda,
    caplog: pytest.LogCaptureFixture,
    code: str,
    message: str,
    outcome: str,
    kind: str,
) -> None:
    arn, other = aws.add("a"), aws.add("b")

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and on == arn:
            raise refusal(code, message)

    aws.before = refuse
    with caplog.at_level(logging.DEBUG):
        changes = harness.apply().changes.set_index("function_arn")
    assert changes.loc[arn, "outcome"] == outcome
    assert changes.loc[arn, "detail"].startswith(f"{kind}: ")
    assert changes.loc[other, "outcome"] == "changed"
    written = harness.everything_written() + changes.to_csv() + caplog.text
    assert POLICY not in written
    assert "s3cret-of-the-owner" not in written
    assert arn in caplog.text


def test_a_read_that_is_refused_fails_that_function_alone(harness: Harness, aws: FakeLambda) -> None:
    arn, other = aws.add("a"), aws.add("b")

    def refuse(method: str, on: str, n: int) -> None:
        if on == arn:
            raise refusal("AccessDeniedException", "not authorized to perform: sts:AssumeRole", "AssumeRole")

    aws.before = refuse
    changes = harness.apply().changes.set_index("function_arn")
    assert changes.loc[arn, "detail"] == "denied_by_policy: the member role can't be assumed"
    assert changes.loc[other, "outcome"] == "changed"


@pytest.mark.parametrize("polls", [0, 2])
def test_a_lost_answer_that_was_done_is_found_and_not_sent_again(
    harness: Harness, aws: FakeLambda, polls: int
) -> None:
    arn = aws.add()
    aws.polls_to_settle = polls
    aws.before, aws.after = lose("update_function_configuration", done=True)
    assert one(harness.apply())["outcome"] == "changed"
    assert aws.calls["update_function_configuration"] == 1
    assert aws.tags[arn] == {"SecurityProtected": "True"}
    assert aws.layers(arn) == [layer(4)]


def test_a_lost_answer_that_was_not_done_is_left_to_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    aws.before, aws.after = lose("update_function_configuration", done=False)
    row = one(harness.apply())
    assert row["outcome"] == "deferred"
    assert row["detail"].startswith("lost_answer")
    assert aws.layers(arn) == []
    assert aws.calls["update_function_configuration"] == 1
    assert one(harness.apply(run_id="20261124T050000Z-next"))["outcome"] == "changed"


def test_what_nobody_can_find_out_stays_open_until_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()

    def unreadable(method: str, on: str, n: int) -> None:
        if method == "get_function_configuration" and n > 1:
            raise refusal("AccessDeniedException", "no", "GetFunctionConfiguration")

    aws.before = unreadable
    aws.after = lose("update_function_configuration", done=True)[1]
    row = one(harness.apply())
    assert (row["outcome"], row["detail"]) == ("deferred", "not settled in time; the next run finds out")
    assert harness.entries()[0].outcome is None
    aws.before = lambda method, arn, n: None
    assert one(harness.resolve())["outcome"] == "changed"
    assert harness.store.list("state/open/") == []
    assert aws.tags[arn] == {"SecurityProtected": "True"}


def test_an_update_that_fails_is_rolled_back(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    before = aws.layers(arn), aws.variables(arn)
    aws.fail_next(arn)
    row = one(harness.apply())
    assert row["outcome"] == "failed"
    assert (
        row["detail"]
        == "AWS took the update and could not carry it out (EniLimitExceeded); it was removed again"
    )
    assert (aws.layers(arn), aws.variables(arn)) == before
    assert aws.tags[arn] == {}


def lose_removals(harness: Harness, times: int) -> None:
    """Let the answers of the first updates after the protection's be lost, and AWS not see them."""

    def lost(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and 1 < n <= 1 + times:
            raise LostAnswer("connection reset")

    harness.aws.before = lost


def test_a_removal_that_never_reached_aws_is_sent_again(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    aws.fail_next(arn)
    lose_removals(harness, 1)
    row = one(harness.apply())
    assert (row["outcome"], row["detail"].rpartition("; ")[2]) == ("failed", "it was removed again")
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"OWNER": "s3cret-of-the-owner"})
    assert aws.calls["update_function_configuration"] == 3
    assert harness.store.list("state/open/") == []


def test_a_removal_is_not_sent_again_after_the_owners_deployment(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    aws.fail_next(arn)

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == 2:
            aws.owner_edits(on, Description="deployed meanwhile")
            raise LostAnswer("connection reset")

    aws.before = deploy
    row = one(harness.apply())
    assert row["detail"].endswith("someone else has deployed since: left unchanged")
    assert aws.calls["update_function_configuration"] == 2
    assert harness.store.list("state/open/") == []


def refuse_removals(harness: Harness) -> None:
    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n > 1:
            raise refusal("AccessDeniedException", "with an explicit deny in a service control policy")

    harness.aws.before = refuse


@pytest.mark.parametrize("trouble", ["lost", "refused"])
def test_a_removal_that_is_given_up_is_the_next_runs_first_work(
    harness: Harness, aws: FakeLambda, trouble: str
) -> None:
    arn = aws.add()
    aws.fail_next(arn)
    if trouble == "lost":
        lose_removals(harness, 99)
    else:
        refuse_removals(harness)
    row = one(harness.apply())
    assert row["outcome"] == "failed"
    assert row["detail"].endswith("the next run tries again")
    assert aws.calls["update_function_configuration"] == (4 if trouble == "lost" else 2)
    (entry,) = harness.entries()
    assert (entry.outcome, entry.in_effect) == (None, True)
    aws.before = lambda method, arn, n: None
    row = one(harness.resolve())
    assert (row["outcome"], row["detail"].rpartition("; ")[2]) == ("failed", "it was removed again")
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"OWNER": "s3cret-of-the-owner"})
    assert harness.store.list("state/open/") == []


def test_a_function_that_is_deleted_before_the_removal_is_dropped(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    aws.fail_next(arn)

    def delete(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == 2:
            aws.delete(arn)

    aws.before = delete
    assert one(harness.apply())["outcome"] == "dropped"
    assert harness.store.list("state/open/") == []


def hide_variables(aws: FakeLambda, *, where: str) -> None:
    """Let KMS deny the variables once a function has the given LastUpdateStatus and our layer."""

    def hide(method: str, answer: dict[str, Any]) -> None:
        read = method == "get_function_configuration"
        if read and answer["LastUpdateStatus"] == where and answer.get("Layers"):
            answer["Environment"] = {"Error": {"ErrorCode": "KMSAccessDeniedException", "Message": "m"}}

    aws.edit_answer = hide


def show_variables(aws: FakeLambda) -> None:
    aws.edit_answer = lambda method, answer: None


@pytest.mark.parametrize("later", ["resolve", "rollback"])
def test_what_aws_could_not_carry_out_is_known_although_the_variables_can_not_be_read(
    harness: Harness, aws: FakeLambda, later: str
) -> None:
    arn = aws.add()
    aws.fail_next(arn)
    hide_variables(aws, where="Failed")
    row = one(harness.apply())
    assert row["outcome"] == "failed"
    assert "could not be removed again (its environment can't be read" in row["detail"]
    assert one(harness.resolve())["outcome"] == "deferred"
    assert [entry.in_effect for entry in harness.entries()] == [True]
    assert one(harness.rollback([], [arn]))["outcome"] == "dropped"
    show_variables(aws)
    if later == "resolve":
        assert one(harness.resolve())["outcome"] == "failed"
        assert harness.store.list("state/open/") == []
    else:
        assert one(harness.rollback([], [arn], run_id="20261126T000000Z-again"))["outcome"] == "rolled_back"
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"OWNER": "s3cret-of-the-owner"})


def test_an_update_that_settled_is_made_although_its_variables_can_not_be_read(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()
    hide_variables(aws, where="Successful")
    assert one(harness.apply())["outcome"] == "changed"
    show_variables(aws)
    assert one(harness.rollback([], [arn]))["outcome"] == "rolled_back"


def test_a_removal_that_settled_is_made_although_its_variables_can_not_be_read(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    aws.fail_next(arn)

    def hide(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == 2:
            hide_variables(aws, where="Successful")

    aws.before = hide
    row = one(harness.apply())
    assert (row["outcome"], row["detail"].rpartition("; ")[2]) == ("failed", "it was removed again")
    assert harness.store.list("state/open/") == []


def test_a_lost_answer_stays_open_while_the_variables_can_not_be_read(
    harness: Harness, aws: FakeLambda
) -> None:
    aws.polls_to_settle = 0
    aws.add()
    aws.before, aws.after = lose("update_function_configuration", done=True)
    hide_variables(aws, where="Successful")
    row = one(harness.apply())
    assert (row["outcome"], row["detail"]) == (
        "deferred",
        "its variables can't be read; the next run finds out",
    )
    show_variables(aws)
    assert one(harness.resolve())["outcome"] == "changed"


def test_an_update_that_fails_after_the_owners_deployment_is_left_alone(
    harness: Harness, aws: FakeLambda
) -> None:
    aws.add()

    def deploy(method: str, on: str, n: int) -> None:
        if method == "get_function_configuration" and n == 2:
            failed = {"LastUpdateStatus": "Failed", "LastUpdateStatusReasonCode": "EniLimitExceeded"}
            aws.owner_edits(on, Description="deployed meanwhile", **failed)

    aws.before = deploy
    row = one(harness.apply())
    assert row["outcome"] == "failed"
    assert row["detail"].endswith("someone else has deployed since: left unchanged")
    assert aws.calls["update_function_configuration"] == 1


def test_a_deployment_that_replaces_the_change_while_it_settles_is_reported(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = aws.add()

    def deploy(method: str, on: str, n: int) -> None:
        if method == "get_function_configuration" and n == 3:
            aws.owner_edits(on, Layers=[], LastUpdateStatus="Successful")

    aws.before = deploy
    assert one(harness.apply())["outcome"] == "deferred"
    assert aws.tags[arn] == {}


def test_a_tag_that_is_refused_leaves_the_function_protected_and_says_so(
    harness: Harness, aws: FakeLambda
) -> None:
    aws.add()

    def refuse(method: str, on: str, n: int) -> None:
        if method == "tag_resource":
            raise refusal(
                "AccessDeniedException", "not authorized to perform: lambda:TagResource", "TagResource"
            )

    aws.before = refuse
    row = one(harness.apply())
    assert (row["outcome"], row["detail"][:12]) == ("changed", "not tagged: ")


def test_no_tag_where_none_is_configured(aws: FakeLambda, tmp_path: Path) -> None:
    harness = Harness(aws, tmp_path)
    harness.defender = settings(tag=None)
    aws.add()
    harness.apply()
    assert aws.calls["tag_resource"] == 0


def test_tag_rules_are_held_against_the_tags_of_the_moment(aws: FakeLambda, tmp_path: Path) -> None:
    harness = Harness(aws, tmp_path, optout_tag=Tag(key="AutoDefender", value="off"))
    arn, other = aws.add("a"), aws.add("b")
    plan = harness.plan()
    aws.tags[arn]["AutoDefender"] = "off"
    changes = harness.apply(plan).changes.set_index("function_arn")
    assert changes.loc[arn, "outcome"] == "dropped"
    assert "opted_out" in changes.loc[arn, "detail"]
    assert changes.loc[other, "outcome"] == "changed"


def test_an_answer_about_another_function_stops_everything(harness: Harness, aws: FakeLambda) -> None:
    first, *_ = [aws.add(f"f{n}") for n in range(60)]

    def mix_up(method: str, on: str, n: int) -> None:
        if on == first:
            aws.functions[on]["FunctionArn"] = first.replace(ACCOUNT, "444455556666")

    plan = harness.plan()
    aws.before = mix_up
    result = harness.apply(plan)
    assert result.stopped_by is not None
    assert result.stopped_by.guard == "internal_error"
    assert set(result.changes["outcome"]) <= {"changed", "failed", "deferred"}
    assert (result.changes["outcome"] == "deferred").any()
    assert aws.layers(first) == []


def test_the_own_function_is_left_alone_whatever_the_plan_says(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    assert one(harness.apply(own_function=arn))["outcome"] == "dropped"
    assert aws.calls.total() == 0


def test_the_journal_says_before_what_is_about_to_be_done(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    seen: list[str] = []

    def look(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            seen.append(journal_of(harness.store.root, RUN))

    aws.before = look
    revision = aws.functions[arn]["RevisionId"]
    harness.apply()
    mark, basis, intent = map(json.loads, seen[0].splitlines())
    assert mark == {"event": "segment", "term": 1, "number": 1}
    assert (basis["event"], basis["release"]) == ("basis", harness.release)
    assert intent["event"] == "intent"
    assert intent["revision_id"] == revision
    assert intent["delta"] == {
        "layer": layer(4),
        "position": 1,
        "layer_before": None,
        "variables_added": [EXEC_WRAPPER, "TW_POLICY"],
        "wrapper": WRAPPER,
        "variables_changed": [],
        "wrapper_before": None,
        "layers_removed": [],
    }
    assert intent["wrapper_before"] == ""
    assert harness.store.list("state/open/") == []
