"""What earlier runs have learnt: refusals that stand are not tried every hour, and a lost fight is given up."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from auto_defender.jobs.drift import report_drift
from auto_defender.jobs.iac_snippets import snippet, tool_of
from remediator.change.desired_state import desired_state
from remediator.execution.apply import limit_stop
from remediator.journal.failures import failures
from remediator.plan.held_back import HeldBack, hold_back
from remediator.settings import RolloutSettings
from reports.data.rollout_status import DriftedFunction
from scanner.core.errors import BadInput
from scanner.risk.engine import assess_risk
from scanner.settings import SweepSettings
from tests.unit.remediator.fake_lambda import ACCOUNT, REGION, FakeLambda, layer, refusal
from tests.unit.remediator.house import POLICY, RUN, WRAPPER, House, one, settings

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(FakeLambda(), tmp_path)


def holds(house: House, digest: str = "digest", own: str | None = None) -> HeldBack:
    return hold_back(
        house.assessed(),
        house.defender,
        store=house.store,
        partition="aws",
        config_digest=digest,
        own_function=own,
    )


def losses(held: HeldBack) -> dict[str, int]:
    return {arn: protected.times for arn, protected in held.lost.items()}


def refuse_for_good(house: House) -> None:
    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal(
                "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"
            )

    house.aws.before = refuse


def allow(house: House) -> None:
    house.aws.before = lambda method, arn, n: None


def test_what_was_refused_for_good_is_not_tried_again(house: House) -> None:
    arn = house.aws.add()
    refuse_for_good(house)
    assert one(house.apply())["outcome"] == "failed"
    held = holds(house)
    assert held.guards == {arn: "failed_before"}
    plan = house.plan("20261124T044232Z-next", guards=held.guards)
    assert plan.changes == ()
    assert plan.held_back == {"failed_before": 1}
    assert limit_stop(plan) is None


def test_an_approved_plan_is_not_stopped_by_what_it_holds_back(tmp_path: Path) -> None:
    house = House(FakeLambda(), tmp_path, max_changes_per_run=1)
    for name in ("a", "b", "c"):
        house.aws.add(name)
    plan = house.plan()
    assert plan.held_back == {"max_changes_per_run": 2}
    stop = house.apply(plan).stopped_by
    assert stop is not None
    assert stop.guard == "max_changes_per_run"
    assert house.apply(plan, "20261124T044232Z-saved", approved=True).stopped_by is None


def test_it_is_tried_again_when_function_layer_or_configuration_has_changed(house: House) -> None:
    arn = house.aws.add()
    refuse_for_good(house)
    house.apply()
    assert holds(house, digest="another").guards == {}
    house.defender = settings(version=5)
    assert holds(house).guards == {}
    house.defender = settings(version=4)
    assert holds(house).guards == {arn: "failed_before"}
    house.aws.owner_edits(arn, CodeSize=5)
    assert holds(house).guards == {}


def test_it_is_forgotten_once_it_went_well(house: House) -> None:
    arn = house.aws.add()
    refuse_for_good(house)
    house.apply()
    assert failures(house.store)[arn].detail.startswith("size_limit")
    allow(house)
    house.aws.owner_edits(arn, CodeSize=5)
    house.apply(run_id="20261124T044232Z-next")
    assert failures(house.store) == {}


def test_what_aws_took_and_failed_at_is_not_tried_again(tmp_path: Path) -> None:
    house = House(FakeLambda(polls_to_settle=1), tmp_path)
    arn = house.aws.add()
    house.aws.settles_as[arn] = "Failed"
    assert one(house.apply())["detail"].endswith("(EniLimitExceeded); it was removed again")
    assert house.aws.layers(arn) == []
    assert holds(house).guards == {arn: "failed_before"}
    house.aws.owner_edits(arn, CodeSize=5)
    assert holds(house).guards == {}


def test_what_may_pass_by_itself_is_not_remembered(house: House) -> None:
    house.aws.add()

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal("ResourceConflictException")

    house.aws.before = refuse
    house.apply()
    assert failures(house.store) == {}


def redeployed(house: House, arn: str) -> None:
    """Its own pipeline deploys it again, without the Defender."""
    house.aws.owner_edits(arn, Layers=[], Environment={"Variables": {"OWNER": "s3cret-of-the-owner"}})


def test_after_three_lost_fights_its_owner_is_left_alone(house: House) -> None:
    arn = house.aws.add()
    for fight in range(3):
        held = holds(house)
        assert held.guards == {}
        assert losses(held) == ({arn: fight} if fight else {})
        house.apply(run_id=f"20261124T0{fight}4232Z-fight")
        redeployed(house, arn)
    held = holds(house)
    assert held.guards == {arn: "drift"}
    assert losses(held) == {arn: 3}
    assert POLICY not in house.everything_written()


def test_an_upgrade_is_no_lost_fight(house: House) -> None:
    house.aws.add()
    house.apply()
    house.defender = settings(version=5)
    held = holds(house)
    assert (held.guards, held.lost) == ({}, {})


def test_a_rollback_is_nobodys_pipeline(house: House) -> None:
    house.aws.add()
    house.apply()
    house.rollback([RUN])
    assert holds(house).lost == {}


def test_the_own_function_is_held(house: House) -> None:
    arn = house.aws.add()
    assert holds(house, own=arn).guards == {arn: "own_function"}


@pytest.mark.parametrize("path", ["state/failures.json", f"state/drift/{ACCOUNT}.json"])
def test_a_broken_memory_is_told_in_one_line(house: House, path: str) -> None:
    house.aws.add()
    house.store.write(path, b"{", "application/json")
    with pytest.raises(BadInput, match=path):
        holds(house)


def test_an_empty_organization_holds_nothing(house: House) -> None:
    functions = house.assessed()
    assert functions.empty
    assert assess_risk(functions, house.rules, date(2026, 11, 24)).empty
    assert holds(house).guards == {}
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
    house: House, tags: dict[str, str], tool: Any, says: str
) -> None:
    assert tool_of(tags) == tool
    text = snippet(tool, desired_state(house.defender, "python", REGION, ACCOUNT))
    assert says in text
    assert WRAPPER in text
    assert "<TW_POLICY>" in text
    assert POLICY not in text


def given_up(house: House) -> str:
    arn = house.aws.add()
    for fight in range(3):
        house.apply(run_id=f"20261124T0{fight}4232Z-fight")
        redeployed(house, arn)
    return arn


def told(house: House) -> tuple[DriftedFunction, ...]:
    aws: Any = house.aws
    return report_drift(holds(house).lost, house.assessed(), aws, house.defender, SweepSettings())


def test_what_is_given_up_is_told_with_the_snippet_that_its_tags_choose(house: House) -> None:
    arn = given_up(house)
    house.aws.tags[arn] = CFN | {"STAGE": "prod"}
    again = house.aws.add("again")
    house.aws.add("never")
    other = "20261124T054232Z-other"
    house.apply(house.plan(other, guards=holds(house).guards), other)
    redeployed(house, again)
    house.aws.calls.clear()
    first, second = told(house)
    assert (first.function_arn, first.given_up, first.tool) == (arn, True, "Serverless Framework")
    assert layer(4) in first.snippet
    assert (second.function_arn, second.times, second.given_up, second.snippet) == (again, 1, False, "")
    assert house.aws.calls["list_tags"] == 1


def test_tags_that_cannot_be_read_are_told_and_choose_nothing(house: House) -> None:
    given_up(house)

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "list_tags":
            raise refusal("AccessDeniedException", "not authorized to perform: lambda:ListTags", "ListTags")

    house.aws.before = refuse
    (drifted,) = told(house)
    assert (drifted.given_up, drifted.snippet) == (True, "")
    assert drifted.detail == (
        "its tags could not be read: denied_by_policy: the member role is not allowed to call lambda:ListTags"
    )


def test_a_loss_counts_where_a_check_now_forbids_to_protect_it_again(house: House) -> None:
    arn = house.aws.add()
    house.apply()
    redeployed(house, arn)
    house.aws.owner_edits(arn, MemorySize=128)
    assert losses(holds(house)) == {arn: 1}
    house.rollout = RolloutSettings(dry_run=False, exclusion_list=("f",))
    assert losses(holds(house)) == {}
