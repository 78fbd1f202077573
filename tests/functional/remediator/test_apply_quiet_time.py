"""What somebody has modified a few minutes ago is left for a later run: a deployment may be under way."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.execution.preflight import preflight
from tests.unit.remediator.fake_lambda import FakeLambda, layer
from tests.unit.remediator.harness import RUN, Harness, one

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path, quiet_minutes=10)


def minutes_ago(minutes: float) -> str:
    """Return the time as Lambda writes it."""
    return f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}.000+0000"


@pytest.mark.parametrize(
    ("minutes", "outcome"),
    [(0, "deferred"), (9, "deferred"), (11, "changed"), (100_000, "changed"), (-5, "deferred")],
)
def test_a_function_is_changed_once_it_was_quiet(harness: Harness, minutes: float, outcome: str) -> None:
    modified = minutes_ago(minutes)
    arn = harness.aws.add(LastModified=modified)
    row = one(harness.apply())
    assert row["outcome"] == outcome
    assert (harness.aws.layers(arn) == [layer(4)]) == (outcome == "changed")
    if outcome == "deferred":
        assert row["detail"] == (
            f"modified at {modified}, within rollout.quiet_minutes: a deployment may be under way"
        )
        assert harness.aws.calls["update_function_configuration"] == 0
        assert harness.entries() == []


def test_what_is_deferred_stops_nothing_and_is_changed_later(harness: Harness) -> None:
    arns = [harness.aws.add(f"f{number}", LastModified=minutes_ago(1)) for number in range(30)]
    applied = harness.apply()
    assert set(applied.changes["outcome"]) == {"deferred"}
    assert applied.stopped_by is None
    for arn in arns:
        harness.aws.functions[arn]["LastModified"] = minutes_ago(61)
    assert set(harness.apply(run_id="20261124T044232Z-2later").changes["outcome"]) == {"changed"}


def test_a_deployment_between_read_and_update_is_given_its_quiet_time(harness: Harness) -> None:
    arn = harness.aws.add()

    def deploy(method: str, _: str, n: int) -> None:
        if method == "update_function_configuration" and n == 1:
            harness.aws.owner_edits(arn, MemorySize=1024, LastModified=minutes_ago(0))

    harness.aws.before = deploy
    row = one(harness.apply())
    assert row["outcome"] == "deferred"
    assert "within rollout.quiet_minutes" in row["detail"]
    assert harness.aws.layers(arn) == []


def test_a_dry_run_reports_it(harness: Harness) -> None:
    harness.aws.add(LastModified=minutes_ago(3))
    (row,) = preflight(harness.plan(), harness.aws, harness.rules, harness.rollout).to_dict("records")
    assert row["outcome"] == "deferred"
    assert row["detail"].startswith("preflight: modified at ")


def test_an_approved_plan_whose_function_was_deployed_since_is_dropped_as_before(harness: Harness) -> None:
    arn = harness.aws.add()
    plan = harness.plan()
    harness.aws.owner_edits(arn, LastModified=minutes_ago(1))
    row = one(harness.apply(plan, approved=True))
    assert (row["outcome"], row["detail"]) == ("dropped", "the function has changed since the plan was made")


def test_a_rollback_does_not_wait(harness: Harness) -> None:
    arn = harness.aws.add()
    harness.apply()
    harness.aws.functions[arn]["LastModified"] = minutes_ago(0)
    assert one(harness.rollback([RUN]))["outcome"] == "rolled_back"
    assert harness.aws.layers(arn) == []


@pytest.mark.parametrize("answer", ["", "yesterday", "2026-11-24T10:00:00"])
def test_an_answer_without_a_time_changes_nothing(harness: Harness, answer: str) -> None:
    arn = harness.aws.add(LastModified=answer)
    row = one(harness.apply())
    assert row["outcome"] == "deferred"
    assert "LastModified" in row["detail"]
    assert harness.aws.layers(arn) == []
