"""Runs all checks in order and returns the doctor's result."""

import threading
from dataclasses import asdict

import boto3

from auto_defender.config import Configuration
from auto_defender.context import check_regions
from auto_defender.doctor.environment import clock, identity, optouts, rollout, topic
from auto_defender.doctor.finding import Findings
from auto_defender.doctor.layers import layers
from auto_defender.doctor.members import Members
from auto_defender.doctor.stack_set import stack_set
from auto_defender.doctor.state import journals, kill_switch, lock, output, quarantine
from auto_defender.job_result import JobResult
from auto_defender.output import open_output
from scanner.aws.caller import Aws
from scanner.organization.accounts import list_accounts
from storage.protocol import Store


def examine(settings: Configuration, session: boto3.Session, run_id: str, stop: threading.Event) -> JobResult:
    """Check everything a run needs. Nothing is written, and rights that only read are enough."""
    findings = Findings()
    aws = findings.open(
        "identity", lambda: Aws(session, settings.organization, settings.sweep, run_id, stop=stop)
    )
    store = findings.open("output", lambda: open_output(settings, session, writable=False))
    findings.open("regions", lambda: check_regions(settings, session))
    findings.examine("opt-outs", lambda: [optouts(settings, session)])
    findings.examine("rollout", lambda: [rollout(settings)])
    if store is not None:
        _state(findings, settings, session, store, run_id)
    if aws is not None:
        _central_account(findings, settings, aws)
        _members(findings, settings, aws)
    return _result(findings)


def _state(
    findings: Findings, settings: Configuration, session: boto3.Session, store: Store, run_id: str
) -> None:
    findings.examine("output", lambda: [output(store)])
    findings.examine("kill switch", lambda: [kill_switch(settings, session, store)])
    findings.examine("lock", lambda: [lock(store, run_id)])
    findings.examine("journals", lambda: journals(store, settings))
    findings.examine("quarantine", lambda: [quarantine(store)])


def _central_account(findings: Findings, settings: Configuration, aws: Aws) -> None:
    findings.examine("identity", lambda: [identity(aws)])
    findings.examine("clock", lambda: [clock(aws)])
    findings.examine("notifications", lambda: [topic(aws, settings)])


def _members(findings: Findings, settings: Configuration, aws: Aws) -> None:
    accounts = findings.open("organization", lambda: list_accounts(aws, settings.organization))
    if accounts is None:
        return
    members = Members(aws, settings, accounts)
    findings.examine("organization", members.organization)
    findings.examine("stack set", lambda: stack_set(aws, settings, members.management))
    findings.examine("roles", members.roles)
    findings.examine("layers", lambda: layers(aws, settings, members.reader))


def _result(findings: Findings) -> JobResult:
    lines = [
        f"{f.level:<8} {f.what}: {f.found}" + (f"\n         {f.remedy}" if f.remedy else "")
        for f in findings.all
    ]
    return JobResult(
        {"findings": [asdict(finding) for finding in findings.all], "problems": findings.problems},
        "\n".join([*lines, f"{findings.problems} problems"]),
        findings.exit_code,
    )
