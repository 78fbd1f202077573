"""Lint every IAM and resource policy of every template with parliament: actions, resources, condition keys, principals.

Parameters and references get sample values, once for each combination of the parameters that the template's
conditions read, so that every statement is linted. parliament's list of actions is of April 2025: a newer
action of AWS would be reported as unknown.

    python -m tools.policy_lint
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from types import ModuleType
from typing import Any

from tools.templates import CENTRAL, MEMBER, STACKSETS, read, render

# A value for each parameter without a default, and several where a condition asks whether there is one.
SAMPLES = {
    "AlarmEmail": ("", "soc@example.com"),
    "BucketPrefix": ("layers",),
    "CentralAccountId": (CENTRAL,),
    "CodeBucket": ("code",),
    "CodeKey": ("package.zip",),
    "CompatibleRuntimes": ("python3.11,python3.12",),
    "Description": ("Defender 33.01.137, Python",),
    "ExternalId": ("", "external-id"),
    "LayerName": ("twistlock-python",),
    "OrganizationId": ("o-a1b2c3d4e5",),
    "PermissionsBoundaryArn": ("", f"arn:aws:iam::{CENTRAL}:policy/boundary"),
    "ReportBucket": ("reports",),
    "ZipKey": ("33.01.137.zip",),
}
# The ARNs of resources that policies name, by type.
ARNS = {
    "AWS::IAM::Role": "arn:aws:iam::{account}:role/{name}",
    "AWS::KMS::Key": "arn:aws:kms:us-east-1:{account}:key/{name}",
    "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:{account}:function:{name}",
    "AWS::Logs::LogGroup": "arn:aws:logs:us-east-1:{account}:log-group:{name}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::SNS::Topic": "arn:aws:sns:us-east-1:{account}:{name}",
    "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:{account}:{name}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:us-east-1:{account}:stateMachine:{name}",
}


@dataclass(frozen=True)
class Accepted:
    """An accepted finding. begins: the start of its text; why: the reason for accepting it."""

    template: str
    resource: str
    begins: str
    why: str


ACCEPTED = (
    Accepted(
        "central.yaml",
        "Key",
        "RESOURCE_STAR: ",
        'KMS developer guide, key policies: "*" is the key that the policy is on',
    ),
    Accepted(
        "central.yaml",
        "RunPolicy",
        "RESOURCE_MISMATCH: [{'action': 'states:DescribeExecution', 'required_format': 'arn:*:states:*:*:express:*",
        "express executions are a type of resource of their own; the state machine and its batches are standard ones",
    ),
    Accepted(
        "member-role.yaml",
        "Permissions",
        "RESOURCE_STAR: ['logs:GetQueryResults']",
        "its request names a query's id and no log group; logs:StartQuery decides which logs may be queried",
    ),
)


@dataclass(frozen=True)
class Policy:
    """A policy document in its deployed form. path: within its resource."""

    template: str
    resource: str
    path: str
    text: str


def main() -> int:
    """Lint every template; return the exit status."""
    deployable = [policy for path in sorted(STACKSETS.glob("*.yaml")) for policy in policies(path.name)]
    lines = complaints(deployable)
    places = {(policy.template, policy.resource, policy.path) for policy in deployable}
    print(
        "\n".join([*lines, f"policies: {len(places)}, as {len(deployable)} documents; {len(lines)} findings"])
    )
    return 1 if lines else 0


def policies(name: str) -> set[Policy]:
    """Return every policy document that a template can deploy."""
    template = read(name)
    return {
        Policy(name, key, path, json.dumps(_complete(document, path, key)))
        for account_id, parameters in _variants(template)
        for key, resource in render(name, account_id, _references(template), **parameters).items()
        for path, document in documents(resource)
    }


def complaints(linted: Iterable[Policy]) -> list[str]:
    """Return a line for each finding that is not accepted, and for each accepted one that is no longer found."""
    found = {
        (policy.template, policy.resource, policy.path, finding)
        for policy in linted
        for finding in _findings(policy.text)
    }
    used = {key: _accepted(key[0], key[1], key[3]) for key in found}
    lines = [
        f"{template}: {resource} ({path}): {finding}"
        for (template, resource, path, finding), by in used.items()
        if by is None
    ]
    unused = [
        f"{by.template}: {by.resource}: accepted and not found: {by.begins}"
        for by in ACCEPTED
        if by not in used.values()
    ]
    return sorted(lines + unused)


def _accepted(template: str, resource: str, finding: str) -> Accepted | None:
    for by in ACCEPTED:
        if (by.template, by.resource) == (template, resource) and finding.startswith(by.begins):
            return by
    return None


def documents(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield policy documents: every node with a Statement, with its path."""
    if isinstance(node, dict):
        if "Statement" in node:
            yield path, node
        for key, value in node.items():
            yield from documents(value, f"{path}.{key}".lstrip("."))
    if isinstance(node, list):
        for place, value in enumerate(node):
            yield from documents(value, f"{path}[{place}]")


def _variants(template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield accounts and parameters; a parameter that no condition reads keeps its default."""
    read_by_conditions = json.dumps(template.get("Conditions", {}))
    choices = {
        key: SAMPLES.get(key) or definition["AllowedValues"]
        for key, definition in template["Parameters"].items()
        if key in SAMPLES or ("AllowedValues" in definition and f'"{key}"' in read_by_conditions)
    }
    for account_id, *values in product((MEMBER, CENTRAL), *choices.values()):
        yield account_id, dict(zip(choices, values, strict=True))


def _references(template: Mapping[str, Any]) -> dict[str, str]:
    """Return a sample for each ARN of the template's own resources."""
    arns = {
        key: _arn(resource["Type"], key)
        for key, resource in template["Resources"].items()
        if resource["Type"] in ARNS
    }
    # A Ref to these two returns the ARN, to the others a name.
    by_ref = ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")
    refs = {key: arn for key, arn in arns.items() if template["Resources"][key]["Type"] in by_ref}
    return {**{f"{key}.Arn": arn for key, arn in arns.items()}, **refs}


def _arn(resource_type: str, name: str) -> str:
    return ARNS[resource_type].format(account=CENTRAL, name=name.lower())


def _complete(document: Mapping[str, Any], path: str, role: str) -> Mapping[str, Any]:
    """Add the implicit Resource of a trust policy: the role that it is attached to."""
    if not path.endswith("AssumeRolePolicyDocument"):
        return document
    own = {"Resource": _arn("AWS::IAM::Role", role)}
    return {**document, "Statement": [{**own, **statement} for statement in document["Statement"]]}


def _findings(text: str) -> list[str]:
    analysed = _parliament().analyze_policy_string(text, ignore_private_auditors=True)
    return [f"{finding.issue}: {finding.detail}" for finding in analysed.findings]


class _DataFiles(ModuleType):
    """The one function of setuptools' pkg_resources that parliament uses."""

    @staticmethod
    def resource_filename(package: str, name: str) -> str:
        return str(files(package) / name)


@cache
def _parliament() -> Any:
    """Import parliament without pkg_resources, which the locked setuptools has no more (duo-labs/parliament issue 247)."""
    sys.modules["pkg_resources"] = _DataFiles("pkg_resources")
    try:
        return importlib.import_module("parliament")
    finally:
        del sys.modules["pkg_resources"]


if __name__ == "__main__":
    sys.exit(main())
