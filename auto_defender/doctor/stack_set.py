"""Checks of the member roles' stack set: its template, phase, parameters and stacks.

The roles can't read themselves, because they are denied all of IAM; CloudFormation in the central account can.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from botocore.exceptions import ClientError

from auto_defender import __version__
from auto_defender.config import Configuration
from auto_defender.doctor.finding import CALL_FAILED, Finding
from remediator.settings import RolloutSettings
from scanner.aws.caller import Aws
from scanner.aws.errors import describe, error_code
from scanner.aws.pagination import pages
from scanner.core.settings import Tag

# stacksets/member-role.yaml: the functions that the phase TagGated lets the role change.
TAG_GATE = Tag(key="SecurityScan", value="true")
_SHOWN = 5
_UPDATE = "update-stack-set, with every parameter that is not at its default (docs/runbook.md)"


def stack_set(aws: Aws, settings: Configuration, management: str) -> Iterator[Finding]:
    """Yield findings on organization.stack_set. management: the management account, "" where it is unknown."""
    name = settings.organization.stack_set
    if name is None:
        yield Finding("ok", "stack set", "organization.stack_set is null: the member stacks are not checked")
        return
    what = f"stack set {name}"
    call_as = "SELF" if management == aws.central_account_id else "DELEGATED_ADMIN"
    where = (aws.central_account_id, aws.home_region, "cloudformation")
    of_it: dict[str, Any] = {"StackSetName": name, "CallAs": call_as}
    try:
        described = aws.call(*where, "describe_stack_set", **of_it)["StackSet"]
        listed = pages(aws, *where, "list_stack_instances", **of_it)
        instances = [instance for page in listed for instance in page["Summaries"]]
    except CALL_FAILED as error:
        yield _unread(what, aws.home_region, error)
        return
    # DescribeStackSet leaves out parameters at their default.
    given = {item["ParameterKey"]: item["ParameterValue"] for item in described.get("Parameters", ())}
    parameters = {**_this_version()["defaults"], **given}
    yield _template(what, described.get("TemplateBody", ""))
    yield _phase(what, parameters["RolloutPhase"], settings.rollout)
    yield from _parameters(what, parameters, settings)
    yield _up_to_date(what, instances)
    yield _drift(what, f"--stack-set-name {name} --call-as {call_as}", instances)


def template_digest(text: str) -> str:
    """Return the SHA-256 of a template's text without its comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()


def _this_version() -> dict[str, Any]:
    """Read this version's template digest and defaults, written by tools/member_template.py."""
    text = files("auto_defender").joinpath("data/member_role.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _unread(what: str, region: str, error: Exception) -> Finding:
    if isinstance(error, ClientError) and error_code(error) == "StackSetNotFoundException":
        remedy = (
            "Name the member roles' stack set in organization.stack_set, or null where they are plain stacks; "
            "AWS_REGION must be the region that it is in."
        )
        return Finding("warning", what, f"there is none in {region}", remedy)
    remedy = (
        "Allow cloudformation:DescribeStackSet and ListStackInstances on it and organizations:ListDelegatedAdministrators, "
        "as stacksets/central.yaml does for the central role, or compare it by hand."
    )
    return Finding("warning", what, f"not checked: {describe(error)}", remedy)


def _template(what: str, body: str) -> Finding:
    if template_digest(body) == _this_version()["sha256"]:
        return Finding("ok", f"template of {what}", f"that of version {__version__}")
    found = f"not the stacksets/member-role.yaml of version {__version__}"
    return Finding("warning", f"template of {what}", found, f"Deploy that file by {_UPDATE}.")


def _phase(what: str, phase: str, rollout: RolloutSettings) -> Finding:
    """Compare what IAM allows the roles with what runs would try; a stack may override the stack set's phase."""
    what = f"phase of {what}"
    if rollout.dry_run or phase == "General":
        return Finding("ok", what, phase)
    if phase == "DryRun":
        remedy = f"Set RolloutPhase to TagGated or General by {_UPDATE}, or rollout.dry_run to true."
        return Finding("problem", what, "DryRun: IAM denies every change that runs would make", remedy)
    if rollout.require_tag != TAG_GATE:
        found = f"{phase}: IAM denies changes to functions without {TAG_GATE.key}={TAG_GATE.value}, and runs try them"
        remedy = f"Set rollout.require_tag to that tag, or RolloutPhase to General by {_UPDATE}."
        return Finding("warning", what, found, remedy)
    return Finding("ok", what, phase)


def _parameters(what: str, parameters: Mapping[str, str], configuration: Configuration) -> Iterator[Finding]:
    """Yield a finding for each parameter that differs from what the configuration requires."""
    wanted = {"RoleName": configuration.organization.role_name.rpartition("/")[2]}
    if configuration.defender.tag:
        wanted["TagKey"] = configuration.defender.tag.key
    utilization = configuration.risk.utilization
    if utilization.enabled and utilization.memory_from_logs:
        wanted["ReadReportLines"] = "true"
    for name, value in wanted.items():
        if parameters[name] != value:
            found = f"'{parameters[name]}', and the configuration requires '{value}'"
            yield Finding(
                "warning",
                f"{name} of {what}",
                found,
                f"Correct the configuration, or the parameter by {_UPDATE}.",
            )


def _up_to_date(what: str, instances: list[Mapping[str, Any]]) -> Finding:
    behind = [one["Account"] for one in instances if one.get("Status") != "CURRENT"]
    what = f"stacks of {what}"
    if not behind:
        return Finding("ok", what, f"{len(instances)} stacks, all up to date")
    remedy = "Its last operations show why (list-stack-set-operations); fix the cause and update it again."
    return Finding(
        "warning", what, f"{len(behind)} of {len(instances)} are not up to date: {_named(behind)}", remedy
    )


def _drift(what: str, which: str, instances: list[Mapping[str, Any]]) -> Finding:
    drifted = [one["Account"] for one in instances if one.get("DriftStatus") == "DRIFTED"]
    unknown = [one["Account"] for one in instances if one.get("DriftStatus") not in {"DRIFTED", "IN_SYNC"}]
    what = f"drift of {what}"
    if drifted:
        remedy = "Someone changed these roles by hand: check the drift in CloudFormation, then update the stack set."
        return Finding("warning", what, f"{len(drifted)} have drifted: {_named(drifted)}", remedy)
    if unknown:
        remedy = f"aws cloudformation detect-stack-set-drift {which}, and run doctor again when it is done."
        return Finding("warning", what, f"not detected in {len(unknown)} of {len(instances)}", remedy)
    return Finding("ok", what, "none at CloudFormation's last detection")


def _named(accounts: list[str]) -> str:
    more = f" and {len(accounts) - _SHOWN} more" if len(accounts) > _SHOWN else ""
    return f"{', '.join(sorted(accounts)[:_SHOWN])}{more}"
