"""A change board sees in the dry run what AWS would refuse; nothing is written meanwhile."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from remediator.execution.preflight import preflight
from remediator.plan.held_back import hold_back
from remediator.plan.plan import Plan
from remediator.state.functions import records
from scanner.aws.errors import Throttled
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, layer, refusal
from tests.unit.remediator.harness import RUN, Harness

WRITES = ("update_function_configuration", "tag_resource", "untag_resource")


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path)


def look(harness: Harness, plan: Plan | None = None) -> pd.DataFrame:
    changes = preflight(plan or harness.plan(), harness.aws, harness.rules, harness.rollout)
    assert not any(harness.aws.calls[method] for method in WRITES)
    assert not list(harness.store.root.rglob("*"))
    return changes.set_index("function_name")


def test_what_would_be_made_is_planned_and_the_layer_is_asked_for_once_a_unit(harness: Harness) -> None:
    for number in range(6):
        harness.aws.add(f"f{number}", region=("us-east-1", "eu-west-1")[number % 2])
    changes = look(harness)
    assert set(changes["outcome"]) == {"planned"}
    assert changes.loc["f0", "detail"] == f"layer {layer(4)} and variables {EXEC_WRAPPER}, TW_POLICY"
    assert set(changes["attempts"]) == {0}
    assert harness.aws.calls["get_layer_version"] == 2


def test_nothing_to_do_is_a_frame_of_no_rows_with_every_column(harness: Harness) -> None:
    changes = preflight(harness.plan(), harness.aws, harness.rules, harness.rollout)
    assert list(changes.columns) == [
        "account_id", "region", "function_name", "function_arn", "action", "outcome", "detail", "attempts",
        "layer_before", "layer_after", "wrapper_before", "wrapper_after", "as_before", "aliases",
    ]  # fmt: skip
    assert (len(changes), str(changes.dtypes["attempts"])) == (0, "int64")


@pytest.mark.parametrize(
    ("code", "message", "why"),
    [
        ("ResourceNotFoundException", "", "the layer version does not exist in this region"),
        ("AccessDeniedException", "x is not authorized to perform: lambda:GetLayerVersion on resource: y", "the layer is not shared with this account"),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_be_had_is_reported(harness: Harness, code: str, message: str, why: str) -> None:
    harness.aws.add()

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "get_layer_version":
            raise refusal(code, message, "GetLayerVersion")

    harness.aws.before = refuse
    changes = look(harness)
    assert changes.loc["f", "outcome"] == "dropped"
    assert changes.loc["f", "detail"] == f"preflight: layer_unavailable: {why}"


@pytest.mark.parametrize(
    ("edit", "outcome", "why"),
    [
        ({"State": "Pending"}, "deferred", "its state is Pending"),
        ({"MemorySize": 128}, "dropped", "memory"),
        ({"Environment": {"Error": {"ErrorCode": "KMSDisabledException"}}}, "dropped", "env_unreadable"),
    ],
)
def test_the_fresh_state_decides(harness: Harness, edit: dict[str, Any], outcome: str, why: str) -> None:
    arn = harness.aws.add()
    plan = harness.plan()
    harness.aws.owner_edits(arn, **edit)
    changes = look(harness, plan)
    assert changes.loc["f", "outcome"] == outcome
    assert why in changes.loc["f", "detail"]


def test_a_code_signing_policy_is_reported_and_one_that_nobody_may_read_too(harness: Harness) -> None:
    signed = harness.aws.add("signed")
    harness.aws.core.functions[signed].signing = "arn:csc"
    harness.aws.add("unknown")

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "get_function_code_signing_config" and arn.endswith("unknown"):
            raise refusal("AccessDeniedException", "no", "GetFunctionCodeSigningConfig")

    harness.aws.before = refuse
    changes = look(harness)
    assert changes.loc["signed", "detail"].startswith("preflight: signature")
    assert changes.loc["unknown", "outcome"] == "planned"
    assert "not known whether a code signing policy refuses it" in changes.loc["unknown", "detail"]


def test_what_aws_has_refused_before_is_reported_again(harness: Harness) -> None:
    arn = harness.aws.add("large")

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            raise refusal(
                "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"
            )

    harness.aws.before = refuse
    harness.apply()
    held = hold_back(
        harness.assessed(), known=records(harness.store), partition="aws", config_digest="digest", own_function=None, now=datetime.now(UTC)
    )  # fmt: skip
    plan = harness.plan(guards=held.guards)
    changes = preflight(plan, harness.aws, harness.rules, harness.rollout, refused=held.refused)
    assert changes["function_arn"].tolist() == [arn]
    assert changes["outcome"].tolist() == ["dropped"]
    (detail,) = changes["detail"]
    assert detail.startswith(
        "preflight: size_limit: code and layers together exceed 250 MB unzipped; tried once, "
    )
    next_try = held.refused[arn].next_try
    assert detail.endswith(f"again from {next_try:%Y-%m-%d %H:%M} UTC on; so it ended in run {RUN}")


@pytest.mark.parametrize("method", ["get_function_configuration", "get_layer_version"])
def test_what_could_not_be_looked_at_now_is_put_off_and_not_refused(harness: Harness, method: str) -> None:
    harness.aws.add()

    def throttle(called: str, arn: str, n: int) -> None:
        if called == method:
            raise Throttled(f"{called}: TooManyRequestsException")

    harness.aws.before = throttle
    changes = look(harness)
    assert (changes.loc["f", "outcome"], changes.loc["f", "detail"]) == (
        "deferred", "preflight: throttled: AWS kept throttling"
    )  # fmt: skip
