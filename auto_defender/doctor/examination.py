"""Runs all checks in order and returns the doctor's result."""

from collections.abc import Iterator
from dataclasses import asdict

from auto_defender.context import Context
from auto_defender.doctor.environment import environment
from auto_defender.doctor.finding import Finding
from auto_defender.doctor.layers import layers
from auto_defender.doctor.members import Roles, organization
from auto_defender.doctor.rollout import state
from auto_defender.doctor.stack_set import stack_set
from auto_defender.job_result import JobResult
from scanner.core.errors import AutoDefenderError
from scanner.organization.accounts import list_accounts


def examine(context: Context) -> JobResult:
    """Check everything a run needs. Exit code 0 without problems, 3 with some (units would not be read)."""
    findings = [*environment(context), *state(context), *_accounts_and_layers(context)]
    problems = [finding for finding in findings if finding.level == "problem"]
    lines = [
        f"{f.level:<8} {f.what}: {f.found}" + (f"\n         {f.remedy}" if f.remedy else "") for f in findings
    ]
    return JobResult(
        {"findings": [asdict(finding) for finding in findings], "problems": len(problems)},
        "\n".join([*lines, f"{len(problems)} problems"]),
        3 if problems else 0,
    )


def _accounts_and_layers(context: Context) -> Iterator[Finding]:
    try:
        accounts = list_accounts(context.aws, context.configuration.organization)
    except AutoDefenderError as error:
        yield Finding("problem", "organization", str(error), "Fix this first: nothing can be swept.")
        return
    finding, management = organization(context, accounts)
    yield finding
    yield from stack_set(context, management)
    roles = Roles(context, management)
    yield from roles.check(accounts)
    yield from layers(context, roles.reader)
