"""The policy linter finds what is wrong, and sees every policy of every template whichever way it is deployed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tools import policy_lint
from tools.policy_lint import ACCEPTED, Policy, complaints, documents, policies
from tools.templates import STACKSETS, read

TEMPLATES = sorted(path.name for path in STACKSETS.glob("*.yaml"))
ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/*"}


def complaints_about(statement: dict[str, Any]) -> list[str]:
    text = json.dumps({"Version": "2012-10-17", "Statement": [{**ALLOW, **statement}]})
    lines = complaints([Policy("any.yaml", "Role", "Properties.PolicyDocument", text)])
    return [line for line in lines if line.startswith("any.yaml")]


def test_a_sound_statement_has_no_finding() -> None:
    assert complaints_about({}) == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ({"Action": "s3:GetObjekt"}, "UNKNOWN_ACTION"),
        ({"Action": "s4:GetObject"}, "UNKNOWN_PREFIX"),
        ({"Resource": "arn:aws:s3:::reports"}, "RESOURCE_MISMATCH"),
        ({"Resource": "Reports.Arn/*"}, "INVALID_ARN"),
        ({"Action": "lambda:UpdateFunctionCode", "Resource": "*"}, "RESOURCE_STAR"),
        ({"Condition": {"StringEquals": {"lambda:Layer": "any"}}}, "UNKNOWN_CONDITION_FOR_ACTION"),
        ({"Condition": {"StringEqual": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}}, "UNKNOWN_OPERATOR"),
        ({"Principal": {"AWS": "everybody"}}, "UNKNOWN_PRINCIPAL"),
        ({"Effect": "Permit"}, "MALFORMED"),
    ],
)
def test_what_is_wrong_with_a_policy_is_found_and_where(statement: dict[str, Any], finding: str) -> None:
    (line,) = complaints_about(statement)
    assert line.startswith(f"any.yaml: Role (Properties.PolicyDocument): {finding}")


def test_an_accepted_finding_that_is_gone_is_reported() -> None:
    assert len(complaints([])) == len(ACCEPTED) > 0


def test_every_accepted_finding_has_a_reason() -> None:
    assert all(len(by.why.split()) > 5 for by in ACCEPTED)


def test_the_templates_have_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert policy_lint.main() == 0, capsys.readouterr().out


def keys(node: Any) -> Iterator[str]:
    """Yield each key below a document, but for CloudFormation's functions."""
    if isinstance(node, dict):
        yield from (key for key in node if key != "Ref" and not key.startswith("Fn::"))
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from keys(value)


def actions(node: Any) -> Iterator[str]:
    """Yield each statement below a document by its effect and actions, which no template computes."""
    if isinstance(node, dict) and "Effect" in node:
        yield json.dumps([node["Effect"], node["Action"]])
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from actions(value)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_policy_every_statement_and_every_condition_is_seen(name: str) -> None:
    written, linted = set(), set()
    for resource, body in read(name)["Resources"].items():
        for path, document in documents(body):
            written |= {(resource, path, part) for part in (*actions(document), *keys(document))}
    for policy in policies(name):
        document = json.loads(policy.text)
        linted |= {(policy.resource, policy.path, part) for part in (*actions(document), *keys(document))}
    # A trust policy is completed by its resource, and what fills in a Fn::Sub is no part of a policy.
    assert {place for place in written - linted if place[2] not in {"Defender", "Others"}} == set()
    assert {place[:2] for place in linted} == {place[:2] for place in written}


def test_the_templates_have_as_many_policies_as_are_known() -> None:
    found = {
        (policy.template, policy.resource, policy.path) for name in TEMPLATES for policy in policies(name)
    }
    assert {template: sum(place[0] == template for place in found) for template in TEMPLATES} == {
        "athena.yaml": 0,
        "central.yaml": 10,
        "layer-sharing.yaml": 0,
        "member-role.yaml": 2,
    }
