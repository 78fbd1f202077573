"""A plan does what it says, or is refused: edited, expired, of another configuration, or no plan at all."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from remediator.execution.apply import limit_stop
from remediator.plan.plan import document_digest
from remediator.plan.plan_file import configuration_digest, read_plan
from remediator.settings import RolloutSettings
from scanner.core.errors import BadInput
from scanner.settings import OrganizationSettings, RiskSettings
from tests.unit.remediator.fake_lambda import FakeLambda, layer
from tests.unit.remediator.harness import POLICY, Harness, settings

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path)


def read(text: bytes, now: datetime = NOW, digest: str = "digest") -> Any:
    return read_plan(text, "PLAN.json", now=now, config_digest=digest)


def test_a_saved_plan_reads_back_as_it_was(harness: Harness) -> None:
    harness.aws.add(Layers=[{"Arn": layer(3)}, {"Arn": layer(1, "datadog")}])
    plan = harness.plan()
    assert read(plan.to_json()) == plan
    change = plan.changes[0]
    assert change.before.layers == (layer(3), layer(1, "datadog"))
    assert change.after.layers == (layer(4), layer(1, "datadog"))
    assert "512 MB" in change.why


def test_a_plan_of_a_release_that_knew_fewer_keys_is_read(harness: Harness) -> None:
    harness.aws.add()
    plan = harness.plan()
    document = json.loads(plan.to_json())
    del document["notices"], document["changes"][0]["wave"], document["changes"][0]["env_tight"]
    digest = document_digest(document)
    assert read(json.dumps(document | {"digest": digest}).encode()) == replace(plan, digest=digest)


def test_no_value_of_a_variable_is_in_a_plan(harness: Harness) -> None:
    harness.aws.add()
    text = harness.plan().to_json().decode()
    assert POLICY not in text
    assert "s3cret-of-the-owner" not in text
    assert "/opt/twistlock/wrapper" in text


@pytest.mark.parametrize(
    "path",
    [("changes", 0, "after", "layers"), ("changes", 0, "action"), ("expires",), ("run_id",), ("held_back",)],
)
def test_an_edited_plan_is_refused(harness: Harness, path: tuple[Any, ...]) -> None:
    harness.aws.add()
    data = json.loads(harness.plan().to_json())
    spot = data
    for step in path[:-1]:
        spot = spot[step]
    edits = {
        "layers": [],
        "action": "upgrade",
        "expires": "2030-01-01T00:00:00+00:00",
        "run_id": "x",
        "held_back": {"x": 1},
    }
    spot[path[-1]] = edits[path[-1]]
    with pytest.raises(BadInput, match=r"PLAN\.json: edited after it was made"):
        read(json.dumps(data).encode())


def test_an_expired_plan_and_one_of_another_configuration_are_refused(harness: Harness) -> None:
    text = harness.plan().to_json()
    with pytest.raises(BadInput, match="expired on 2026-12-02"):
        read(text, now=NOW + timedelta(days=30))
    with pytest.raises(BadInput, match="another configuration"):
        read(text, digest="other")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": 2}', b"null", b'{"changes": [{"account_id": 1}]}']
)
def test_what_is_no_plan_is_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(BadInput, match=r"^PLAN\.json: [^\n]*not a plan[^\n]*$"):
        read(text)


def test_the_configurations_digest_follows_what_decides_and_nothing_else() -> None:
    def digest(defender: Any = None, rollout: Any = None, risk: Any = None, **organization: Any) -> str:
        return configuration_digest(
            OrganizationSettings(**{"role_name": "Member", "regions": ("us-east-1",)} | organization),
            defender or settings(),
            risk or RiskSettings(),
            rollout or RolloutSettings(),
            iterations=1,
        )

    assert digest() == digest(rollout=RolloutSettings(dry_run=False))
    assert digest() != digest(defender=settings(version=5))
    assert digest() != digest(risk=RiskSettings(min_memory_mb=512))
    assert digest() != digest(rollout=RolloutSettings(exclusion_list=("x",)))
    assert digest() != digest(exclude_accounts=("111122223333",))
    assert digest() != digest(regions=("us-west-2",))
    assert digest() == digest(stack_set=None)


def test_a_new_key_at_its_default_is_not_another_configuration() -> None:
    class Later(RiskSettings):
        keep_layer_slot: bool = False
        previous: dict[str, str] = Field(default_factory=dict)

    def digest(risk: RiskSettings) -> str:
        return configuration_digest(risk, iterations=1)

    assert digest(Later()) == digest(RiskSettings())
    assert digest(Later(keep_layer_slot=True)) != digest(RiskSettings())
    assert digest(RiskSettings(min_memory_mb=256)) == digest(RiskSettings())


def test_the_accounts_take_turns_and_the_limits_hold(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(), tmp_path, max_changes_per_run=7, max_changes_per_account=5)
    for account, count in (("111111111111", 9), ("222222222222", 3), ("333333333333", 1)):
        for number in range(count):
            harness.aws.add(f"f{number}", account)
    plan = harness.plan()
    assert [change.account_id[0] for change in plan.changes] == list("1231212")
    assert plan.held_back == {"max_changes_per_account": 4, "max_changes_per_run": 2}
    stop = limit_stop(plan)
    assert stop is not None
    assert stop.guard == "max_changes_per_run"
    assert stop.exit_code == 5
    assert "held back by max_changes_per_account: 4" in plan.summary()


def test_what_is_held_is_not_planned(harness: Harness) -> None:
    held, other = harness.aws.add("a"), harness.aws.add("b")
    plan = harness.plan(guards={held: "failed_before"})
    assert [change.function_arn for change in plan.changes] == [other]
    assert plan.held_back == {"failed_before": 1}


@pytest.mark.parametrize(
    "name", ["aws-controltower-NotificationForwarder", "AWSAccelerator-x", "StackSet-abc"]
)
def test_landing_zones_are_left_alone(harness: Harness, name: str) -> None:
    harness.aws.add(name)
    assert harness.plan().changes == ()


def test_a_plan_says_how_little_room_it_leaves(harness: Harness) -> None:
    harness.aws.add("full", Layers=[{"Arn": layer(1, f"l{n}")} for n in range(4)])
    harness.aws.add("tight", Environment={"Variables": {"A": "x" * 3950}})
    harness.aws.add("roomy")
    summary = harness.plan().summary()
    assert "headroom: 1 would end at five layers, 1 within 5 % of 4 KB of variables" in summary


def test_nothing_to_do_is_a_plan_too(harness: Harness) -> None:
    plan = harness.plan()
    assert plan.changes == ()
    assert "nothing to do" in plan.summary()
