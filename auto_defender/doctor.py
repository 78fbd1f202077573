"""`doctor`: what would stop a run, before it runs. Every finding says what to do; nothing is changed."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import pandas as pd
from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.endings import Ending
from scanner.accounts import ACTIVE, list_accounts
from scanner.calls import Throttled, TimedOut, Unreachable, describe
from scanner.errors import AutoDefenderError
from scanner.settings import Family
from scanner.workers import Workers

Level = Literal["ok", "warning", "problem"]
# SigV4: AWS refuses a request whose time differs from its own by more than five minutes.
MAX_CLOCK_SKEW_SECONDS = 300


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do about it ("" where nothing)."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def examine(context: Context) -> Ending:
    """Look at everything a run needs. Exit code 0 without problems, 3 with some (they would leave units unread)."""
    findings = [_identity(context), _clock(context), _phase(context), _optouts(context)]
    try:
        accounts = list_accounts(context.aws, context.configuration.organization)
    except AutoDefenderError as error:
        findings.append(
            Finding("problem", "organization", str(error), "Mend this first: nothing can be swept.")
        )
    else:
        findings += [_organization(accounts), *_roles(context, accounts)]
    findings += _layers(context)
    problems = [finding for finding in findings if finding.level == "problem"]
    lines = [
        f"{f.level:<8} {f.what}: {f.found}" + (f"\n         {f.remedy}" if f.remedy else "") for f in findings
    ]
    return Ending(
        {"findings": [asdict(finding) for finding in findings], "problems": len(problems)},
        "\n".join([*lines, f"{len(problems)} problems"]),
        3 if problems else 0,
    )


def _identity(context: Context) -> Finding:
    return Finding("ok", "identity", f"{context.aws.identity.arn} in partition {context.aws.partition}")


def _clock(context: Context) -> Finding:
    """Compare this machine's clock with the Date of an answer."""
    answer = context.aws.call(
        context.aws.central_account_id, context.aws.home_region, "sts", "get_caller_identity"
    )
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not header:
        return Finding("warning", "clock", "the answer carried no Date to compare with")
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(header)).total_seconds())
    if skew > MAX_CLOCK_SKEW_SECONDS:
        return Finding("problem", "clock", f"{skew:.0f} s off", "Set this machine's clock by NTP.")
    return Finding("ok", "clock", f"within {max(1, round(skew))} s of AWS's")


def _phase(context: Context) -> Finding:
    rollout = context.configuration.rollout
    if rollout.dry_run:
        return Finding("ok", "rollout", "dry run: nothing is written without --apply")
    if rollout.require_tag:
        return Finding(
            "ok", "rollout", f"writes where {rollout.require_tag.key} is {rollout.require_tag.value}"
        )
    return Finding("ok", "rollout", "writes everywhere")


def _optouts(context: Context) -> Finding:
    if context.configuration.optouts is None:
        return Finding(
            "warning", "opt-outs", "no file configured", "Name one in optouts, even if it is empty."
        )
    today = datetime.now(UTC).date()
    entries = context.optouts.entries
    expired = sum(not entry.in_force(today) for entry in entries)
    return Finding("ok", "opt-outs", f"{len(entries)} entries, {expired} of them expired")


def _organization(accounts: pd.DataFrame) -> Finding:
    in_scope = int((accounts["in_scope"] & (accounts["state"] == ACTIVE)).sum())
    return Finding("ok", "organization", f"{len(accounts)} accounts, {in_scope} to sweep")


def _roles(context: Context, accounts: pd.DataFrame) -> Iterator[Finding]:
    """Assume the role of every account in scope, in parallel."""
    aws, organization = context.aws, context.configuration.organization
    to_sweep = accounts[accounts["in_scope"] & (accounts["state"] == ACTIVE)]["account_id"].tolist()
    members = [account for account in to_sweep if account != aws.central_account_id]
    workers: Workers[str, object] = Workers(
        lambda account: aws.call(account, aws.home_region, "sts", "get_caller_identity"),
        context.configuration.sweep.workers,
        context.configuration.sweep.unit_timeout_sec,
    )
    refused = 0
    for done in workers.run(members, context.deadline, aws.stop):
        if done.error is not None:
            refused += 1
            found = describe(done.error) if isinstance(done.error, Exception) else str(done.error)
            remedy = (
                f"Deploy the stack of {organization.role_name} there, and check its trust and external id."
            )
            yield Finding("problem", f"role in {done.task}", found, remedy)
    yield Finding(
        "ok" if not refused else "warning",
        "roles",
        f"{len(members) - refused} of {len(members)} can be assumed",
    )


def _layers(context: Context) -> Iterator[Finding]:
    """Read each layer version in each listed region, as the central account."""
    settings = context.configuration
    regions = settings.organization.regions
    for region in regions if regions != "enabled" else (context.aws.home_region,):
        for family in settings.defender.layers:
            yield _layer(context, family, region)


def _layer(context: Context, family: Family, region: str) -> Finding:
    central = context.aws.central_account_id
    layer = context.configuration.defender.layer_for(family, region, central)
    what = f"layer {layer}"
    try:
        answer = context.aws.call(central, region, "lambda", "get_layer_version_by_arn", Arn=str(layer))
    except (ClientError, Throttled, TimedOut, Unreachable) as error:
        return Finding(
            "problem",
            what,
            describe(error),
            "Publish the layer in this region and share it with the organization.",
        )
    return _compatible(what, answer, context)


def _compatible(what: str, answer: Mapping[str, object], context: Context) -> Finding:
    """Hold what the layer says of itself against what it will be put on; a layer may say nothing."""
    built_for = answer.get("CompatibleArchitectures")
    wanted = context.configuration.risk.architectures
    missing = [name for name in wanted if isinstance(built_for, list) and built_for and name not in built_for]
    if missing:
        remedy = "Narrow risk.architectures, or publish another layer."
        return Finding("problem", what, f"not built for {', '.join(missing)}", remedy)
    return Finding("ok", what, "visible")
