"""What earlier runs have learnt: lasting refusals are not tried every hour, and a function that keeps losing the Defender is given up."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from auto_defender.stages.drift import report_drift
from auto_defender.stages.iac_snippets import snippet, tool_of
from remediator.change.desired_state import desired_state
from remediator.execution.apply import limit_stop
from remediator.plan.held_back import HeldBack, hold_back
from remediator.settings import RolloutSettings
from remediator.state.failures import Failure
from remediator.state.functions import records
from reports.data.rollout_status import DriftedFunction
from scanner.core.errors import BadInput
from scanner.risk.engine import assess_risk
from scanner.settings import SweepSettings
from tests.unit.remediator.fake_lambda import ACCOUNT, REGION, FakeLambda, layer, refusal
from tests.unit.remediator.harness import POLICY, RUN, WRAPPER, Harness, one, settings

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path)


def held_back(harness: Harness, digest: str = "digest", own: str | None = None, hours: float = 0) -> HeldBack:
    """Return what a plan holds back, so many hours from now."""
    return hold_back(
        harness.assessed(),
        known=records(harness.store),
        partition="aws",
        config_digest=digest,
        own_function=own,
        now=datetime.now(UTC) + timedelta(hours=hours),
    )


def failures(harness: Harness) -> dict[str, Failure]:
    return {arn: record.failure for arn, record in records(harness.store).items() if record.failure}


def losses(held: HeldBack) -> dict[str, int]:
    return {arn: protected.times for arn, protected in held.lost.items()}


def refuse_for_good(harness: Harness) -> None:
    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal(
                "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"
            )

    harness.aws.before = refuse


def allow(harness: Harness) -> None:
    harness.aws.before = lambda method, arn, n: None


def test_what_was_refused_for_good_is_not_tried_again(harness: Harness) -> None:
    arn = harness.aws.add()
    refuse_for_good(harness)
    assert one(harness.apply())["outcome"] == "failed"
    held = held_back(harness)
    assert held.guards == {arn: "failed_before"}
    plan = harness.plan("20261124T044232Z-next", guards=held.guards)
    assert plan.changes == ()
    assert plan.held_back == {"failed_before": 1}
    assert limit_stop(plan) is None


def test_an_approved_plan_is_not_stopped_by_what_it_holds_back(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(), tmp_path, max_changes_per_run=1)
    for name in ("a", "b", "c"):
        harness.aws.add(name)
    plan = harness.plan()
    assert plan.held_back == {"max_changes_per_run": 2}
    stop = harness.apply(plan).stopped_by
    assert stop is not None
    assert stop.guard == "max_changes_per_run"
    assert harness.apply(plan, "20261124T044232Z-saved", approved=True).stopped_by is None


def test_it_is_tried_again_when_function_or_configuration_has_changed(harness: Harness) -> None:
    arn = harness.aws.add()
    refuse_for_good(harness)
    harness.apply()
    assert held_back(harness, digest="another").guards == {}
    assert held_back(harness).guards == {arn: "failed_before"}
    harness.aws.owner_edits(arn, CodeSize=5)
    assert held_back(harness).guards == {}


def test_whatever_failed_is_tried_again_after_one_two_four_hours(harness: Harness) -> None:
    arn = harness.aws.add()

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("AccessDeniedException", "with an explicit deny in a service control policy")

    harness.aws.before = refuse
    for number, hours in enumerate((1, 2, 4, 8)):
        harness.apply(run_id=f"20261124T0{number}4232Z-denied")
        assert held_back(harness, hours=hours - 0.1).guards == {arn: "failed_before"}
        assert held_back(harness, hours=hours + 0.1).guards == {}
    allow(harness)  # the SCP is fixed, which nobody reports
    harness.apply(run_id="20261124T054232Z-fixed")
    assert failures(harness) == {}


@pytest.mark.parametrize(("times", "hours"), [(1, 1), (2, 2), (8, 128), (9, 168), (5000, 168)])
def test_the_backoff_ends_at_a_week(times: int, hours: int) -> None:
    failure = Failure("d", "protect", "r", "c", RUN, "2026-11-24T00:00:00+00:00", times)
    assert failure.next_try == datetime(2026, 11, 24, tzinfo=UTC) + timedelta(hours=hours)


def test_another_revision_begins_with_an_hour_again(harness: Harness) -> None:
    arn = harness.aws.add()
    refuse_for_good(harness)
    harness.apply()
    harness.apply(run_id="20261124T044232Z-again")
    assert failures(harness)[arn].times == 2
    harness.aws.owner_edits(arn, CodeSize=5)
    harness.apply(run_id="20261124T054232Z-edited")
    assert failures(harness)[arn].times == 1


def test_functions_in_state_failed_do_not_starve_the_rest(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(), tmp_path, max_changes_per_account=5)
    broken = {harness.aws.add(f"a{number}", State="Failed") for number in range(5)}
    healthy = {harness.aws.add(f"b{number}") for number in range(10)}
    for number in range(3):
        run_id = f"20261124T0{number}4232Z-hourly"
        plan = harness.plan(run_id, guards=held_back(harness).guards)
        applied = harness.apply(plan, run_id)
    assert {arn for arn in healthy if not harness.aws.layers(arn)} == set()
    assert held_back(harness, hours=0.9).guards == dict.fromkeys(broken, "failed_before")
    assert held_back(harness, hours=1.1).guards == {}
    assert applied.changes["outcome"].tolist() == ["changed"] * 5
    assert failures(harness)[min(broken)].detail == "its state is Failed"


@pytest.mark.parametrize("changes", [{"LastUpdateStatus": "InProgress"}, {"State": "Pending"}])
def test_what_passes_by_itself_is_tried_by_the_next_run(harness: Harness, changes: dict[str, str]) -> None:
    arn = harness.aws.add(**changes)
    harness.aws.polls[arn] = 100
    assert one(harness.apply())["outcome"] == "deferred"
    assert held_back(harness).guards == {}


def test_it_is_forgotten_once_it_went_well(harness: Harness) -> None:
    arn = harness.aws.add()
    refuse_for_good(harness)
    harness.apply()
    assert failures(harness)[arn].detail.startswith("size_limit")
    allow(harness)
    harness.aws.owner_edits(arn, CodeSize=5)
    harness.apply(run_id="20261124T044232Z-next")
    assert failures(harness) == {}


def test_what_aws_took_and_failed_at_is_not_tried_again(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(polls_to_settle=1), tmp_path)
    arn = harness.aws.add()
    harness.aws.fail_next(arn)
    assert one(harness.apply())["detail"].endswith("(EniLimitExceeded); it was removed again")
    assert harness.aws.layers(arn) == []
    assert held_back(harness).guards == {arn: "failed_before"}
    harness.aws.owner_edits(arn, CodeSize=5)
    assert held_back(harness).guards == {}


def test_what_may_pass_by_itself_is_not_remembered(harness: Harness) -> None:
    harness.aws.add()

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("ResourceConflictException")

    harness.aws.before = refuse
    harness.apply()
    assert failures(harness) == {}


def redeployed(harness: Harness, arn: str) -> None:
    """Its own pipeline deploys it again, without the Defender."""
    harness.aws.owner_edits(arn, Layers=[], Environment={"Variables": {"OWNER": "s3cret-of-the-owner"}})


def test_after_three_lost_fights_its_owner_is_left_alone(harness: Harness) -> None:
    arn = harness.aws.add()
    for fight in range(3):
        held = held_back(harness)
        assert held.guards == {}
        assert losses(held) == ({arn: fight} if fight else {})
        harness.apply(run_id=f"20261124T0{fight}4232Z-fight")
        redeployed(harness, arn)
    held = held_back(harness)
    assert held.guards == {arn: "drift"}
    assert losses(held) == {arn: 3}
    assert POLICY not in harness.everything_written()


def test_an_upgrade_is_no_lost_fight(harness: Harness) -> None:
    harness.aws.add()
    harness.apply()
    harness.defender = settings(version=5)
    held = held_back(harness)
    assert (held.guards, held.lost) == ({}, {})


def test_a_rollback_is_nobodys_pipeline(harness: Harness) -> None:
    harness.aws.add()
    harness.apply()
    harness.rollback([RUN])
    assert held_back(harness).lost == {}


def test_the_own_function_is_held(harness: Harness) -> None:
    arn = harness.aws.add()
    assert held_back(harness, own=arn).guards == {arn: "own_function"}


@pytest.mark.parametrize("path", [f"state/functions/{ACCOUNT}.json"])
def test_a_broken_memory_is_reported_in_one_line(harness: Harness, path: str) -> None:
    harness.aws.add()
    harness.store.write(path, b"{", "application/json")
    with pytest.raises(BadInput, match=path):
        held_back(harness)


def test_an_empty_organization_holds_nothing(harness: Harness) -> None:
    functions = harness.assessed()
    assert functions.empty
    assert assess_risk(functions, harness.rules, date(2026, 11, 24)).empty
    assert held_back(harness).guards == {}
    assert RolloutSettings().dry_run


CFN = {"aws:cloudformation:stack-name": "s", "aws:cloudformation:logical-id": "OrdersFunction"}


@pytest.mark.parametrize(
    ("tags", "tool", "says"),
    [
        (CFN, "CloudFormation/SAM", f"Layers:\n    - {layer(4)}"),
        (CFN | {"STAGE": "prod"}, "Serverless Framework", f"layers:\n  - {layer(4)}"),
        (CFN | {"aws:cloudformation:logical-id": "OrdersFunction1A2B3C4D"}, "CDK", "fn.addLayers("),
        ({}, "Terraform", f'layers = ["{layer(4)}"]'),
    ],
)
def test_the_owner_gets_what_makes_it_permanent(
    harness: Harness, tags: dict[str, str], tool: Any, says: str
) -> None:
    assert tool_of(tags) == tool
    text = snippet(tool, desired_state(harness.defender, "python", REGION, ACCOUNT))
    assert says in text
    assert WRAPPER in text
    assert "<TW_POLICY>" in text
    assert POLICY not in text


def given_up(harness: Harness) -> str:
    arn = harness.aws.add()
    for fight in range(3):
        harness.apply(run_id=f"20261124T0{fight}4232Z-fight")
        redeployed(harness, arn)
    return arn


def reported(harness: Harness) -> tuple[DriftedFunction, ...]:
    aws: Any = harness.aws
    return report_drift(held_back(harness).lost, harness.assessed(), aws, harness.defender, SweepSettings())


def test_what_is_given_up_is_reported_with_the_snippet_that_its_tags_choose(harness: Harness) -> None:
    arn = given_up(harness)
    harness.aws.tags[arn] = CFN | {"STAGE": "prod"}
    again = harness.aws.add("again")
    harness.aws.add("never")
    other = "20261124T054232Z-other"
    harness.apply(harness.plan(other, guards=held_back(harness).guards), other)
    redeployed(harness, again)
    harness.aws.calls.clear()
    first, second = reported(harness)
    assert (first.function_arn, first.given_up, first.tool) == (arn, True, "Serverless Framework")
    assert layer(4) in first.snippet
    assert (second.function_arn, second.times, second.given_up, second.snippet) == (again, 1, False, "")
    assert harness.aws.calls["list_tags"] == 1


def test_tags_that_cannot_be_read_are_reported_and_choose_nothing(harness: Harness) -> None:
    given_up(harness)

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "list_tags":
            raise refusal("AccessDeniedException", "not authorized to perform: lambda:ListTags", "ListTags")

    harness.aws.before = refuse
    (drifted,) = reported(harness)
    assert (drifted.given_up, drifted.snippet) == (True, "")
    assert drifted.detail == (
        "its tags could not be read: denied_by_policy: the member role is not allowed to call lambda:ListTags"
    )


def test_a_loss_counts_where_a_check_now_forbids_to_protect_it_again(harness: Harness) -> None:
    arn = harness.aws.add()
    harness.apply()
    redeployed(harness, arn)
    harness.aws.owner_edits(arn, MemorySize=128)
    assert losses(held_back(harness)) == {arn: 1}
    harness.rollout = RolloutSettings(dry_run=False, quiet_minutes=0, exclusion_list=("f",))
    assert losses(held_back(harness)) == {}
