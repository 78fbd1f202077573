"""Tags by the Resource Groups Tagging API: one sweep a unit, and closed where it fails."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from scanner.core.settings import Tag
from scanner.inventory.tags import add_tags
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from tests.functional.members import (
    MEMBERS,
    REGION,
    SWEEP,
    Faulty,
    client,
    functions_of,
    members,
    refused,
    throttled,
)
from tests.unit.scanner.risk.assessed import TODAY, function, rules

A, B = MEMBERS
SCAN, OFF = Tag(key="SecurityScan", value="true"), Tag(key="AutoDefender", value="off")
TAGGED = {
    "scan": {"SecurityScan": "true"}, "scan-other-case": {"SecurityScan": "True"}, "key-other-case": {"securityscan": "true"},
    "off": {"AutoDefender": "off"}, "both": {"SecurityScan": "true", "AutoDefender": "off"}, "none": {}, "other": {"Team": "x"},
}  # fmt: skip


@pytest.fixture
def aws() -> Iterator[Faulty]:
    with members() as found:
        yield found


def deploy(account_id: str, tagged: dict[str, dict[str, str]]) -> None:
    """Make functions in moto, by a role that moto wants to exist."""
    iam, deployed = client("iam", account_id), client("lambda", account_id)
    role = iam.create_role(RoleName="app", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    for name, tags in tagged.items():
        deployed.create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=role,
            Handler="a.b",
            Code={"ZipFile": b"x"},
            Tags=tags,
        )


def assessed(aws: Faulty, by: Rules, *accounts: str) -> pd.DataFrame:
    functions = functions_of(
        {account: [function(name, account=account) for name in TAGGED] for account in accounts}, by
    )
    return assess_risk(add_tags(functions, by.require_tag, by.optout_tag, aws, SWEEP), by, TODAY).set_index(
        "function_name"
    )


def test_the_required_tag_is_compared_exactly(aws: Faulty) -> None:
    deploy(A, TAGGED)
    found = assessed(aws, rules(require_tag=SCAN), A)
    assert {name for name, verdict in found["verdict"].items() if verdict == "eligible"} == {"scan", "both"}
    assert set(found.loc[found["verdict"] == "excluded", "reasons"]) == {"tag_required"}


def test_owners_opt_out_by_tag(aws: Faulty) -> None:
    deploy(A, TAGGED)
    found = assessed(aws, rules(optout_tag=OFF), A)
    assert {name for name, reason in found["reasons"].items() if reason == "opted_out"} == {"off", "both"}


def test_both_rules_together(aws: Faulty) -> None:
    deploy(A, TAGGED)
    found = assessed(aws, rules(require_tag=SCAN, optout_tag=OFF), A)
    assert found["reasons"].to_dict() == {
        "scan": "", "scan-other-case": "tag_required", "key-other-case": "tag_required", "off": "opted_out;tag_required",
        "both": "opted_out", "none": "tag_required", "other": "tag_required",
    }  # fmt: skip


def test_a_tag_in_one_account_says_nothing_of_another(aws: Faulty) -> None:
    deploy(A, {"scan": SCAN_TAGS})
    deploy(B, {"none": SCAN_TAGS})
    found = assessed(aws, rules(require_tag=SCAN), A, B).reset_index()
    eligible = found[found["verdict"] == "eligible"]
    assert list(zip(eligible["account_id"], eligible["function_name"], strict=True)) == [
        (A, "scan"),
        (B, "none"),
    ]


SCAN_TAGS = {"SecurityScan": "true"}


def test_it_takes_one_sweep_a_unit_and_rule_not_a_call_a_function(aws: Faulty) -> None:
    deploy(A, TAGGED)
    assessed(aws, rules(require_tag=SCAN), A, B)
    assert sorted(account for account, method, _ in aws.asked if method == "get_resources") == [A, B]
    assert not any(method == "list_tags" for _, method, _ in aws.asked)


def test_without_a_tag_rule_nothing_is_asked(aws: Faulty) -> None:
    found = assessed(aws, rules(), A)
    assert "tags_read" not in found
    assert not any(method == "get_resources" for _, method, _ in aws.asked)


@pytest.mark.parametrize(
    "error", [refused("GetResources"), throttled("GetResources"), OSError("x"), KeyError("x")]
)
def test_tags_that_cannot_be_read_fail_closed_and_are_logged(
    aws: Faulty, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    deploy(B, TAGGED)

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> None:
        if account_id == A and method == "get_resources":
            raise error

    aws.fault = fault
    found = assessed(aws, rules(require_tag=SCAN, optout_tag=OFF), A, B)
    assert set(found.loc[found["account_id"] == A, "reasons"]) == {"opted_out;tag_required"}
    assert "" in set(found.loc[found["account_id"] == B, "reasons"])
    assert f"tags not read: {A} in {REGION}" in caplog.text


def test_half_of_the_pages_is_not_enough(aws: Faulty) -> None:
    """A second page that fails makes the whole unit fail: it may have an opt-out."""
    arn = f"arn:aws:lambda:{REGION}:{A}:function:"

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if method != "get_resources":
            return None
        if "PaginationToken" in parameters:
            raise throttled("GetResources")
        return {"ResourceTagMappingList": [{"ResourceARN": arn + "scan"}], "PaginationToken": "2"}

    aws.fault = fault
    assert set(assessed(aws, rules(optout_tag=OFF), A)["reasons"]) == {"opted_out"}


def test_pages_add_up(aws: Faulty) -> None:
    arn = f"arn:aws:lambda:{REGION}:{A}:function:"
    pages = {
        "": {"ResourceTagMappingList": [{"ResourceARN": arn + "scan"}], "PaginationToken": "2"},
        "2": {"ResourceTagMappingList": [{"ResourceARN": arn + "both"}], "PaginationToken": ""},
    }
    aws.fault = lambda account_id, method, parameters: (
        pages[parameters.get("PaginationToken", "")] if method == "get_resources" else None
    )
    found = assessed(aws, rules(require_tag=SCAN), A)
    assert {name for name, verdict in found["verdict"].items() if verdict == "eligible"} == {"scan", "both"}


def test_a_token_that_comes_twice_ends_the_reading_and_fails_closed(aws: Faulty) -> None:
    aws.fault = lambda account_id, method, parameters: (
        {"ResourceTagMappingList": [], "PaginationToken": "again"} if method == "get_resources" else None
    )
    assert set(assessed(aws, rules(optout_tag=OFF), A)["reasons"]) == {"opted_out"}


def test_no_functions_need_no_calls(aws: Faulty) -> None:
    by = rules(require_tag=SCAN)
    assert len(add_tags(functions_of({}, by), by.require_tag, by.optout_tag, aws, SWEEP)) == 0
    assert not any(method == "get_resources" for _, method, _ in aws.asked)
