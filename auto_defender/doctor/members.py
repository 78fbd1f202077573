"""The organization as this account sees it, and the role in each of its accounts."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.doctor.finding import Finding
from scanner.aws.errors import Throttled, TimedOut, Unreachable, describe
from scanner.inventory.parallel import in_parallel
from scanner.organization.accounts import ACTIVE


@dataclass(frozen=True)
class Place:
    """Where this account stands in its organization. management: the management account, "" where nobody told."""

    finding: Finding
    management: str


def organization(context: Context, accounts: pd.DataFrame) -> Place:
    """Tell how many accounts there are, and by what right this one may list them."""
    aws = context.aws
    in_scope = int((accounts["in_scope"] & (accounts["state"] == ACTIVE)).sum())
    found = f"{len(accounts)} accounts, {in_scope} to sweep"
    try:
        answer = aws.call(aws.central_account_id, aws.home_region, "organizations", "describe_organization")
    except (ClientError, Throttled, TimedOut, Unreachable) as error:
        remedy = (
            "Allow organizations:DescribeOrganization to be told which account is the management account."
        )
        return Place(Finding("warning", "organization", f"{found}; {describe(error)}", remedy), "")
    management = str(answer["Organization"]["MasterAccountId"])
    right = (
        "this is the management account"
        if management == aws.central_account_id
        else f"this is a delegated administrator; the management account is {management}"
    )
    return Place(Finding("ok", "organization", f"{found}; {right}"), management)


class Roles:
    """The member role, assumed in every account. reader: the first account where it could be, None before or if none."""

    def __init__(self, context: Context, management: str) -> None:
        """Take the run's surroundings and the management account, which StackSets skip."""
        self._context = context
        self._management = management
        self.reader: str | None = None

    def assumed(self, accounts: pd.DataFrame) -> Iterator[Finding]:
        """Assume the role of every account in scope, in parallel; a finding for each that refuses, and the count."""
        aws, sweep = self._context.aws, self._context.configuration.sweep
        to_sweep = accounts[accounts["in_scope"] & (accounts["state"] == ACTIVE)]["account_id"].tolist()
        members = [account for account in to_sweep if account != aws.central_account_id]

        def identity(account: str) -> object:
            return aws.call(account, aws.home_region, "sts", "get_caller_identity")

        refused = {
            done.task: done.error
            for done in in_parallel(identity, members, aws, sweep, self._context.deadline)
            if done.error is not None
        }
        for account in sorted(refused):
            yield self._refusal(account, refused[account])
        trusted = [account for account in members if account not in refused]
        self.reader = trusted[0] if trusted else None
        found = f"{len(trusted)} of {len(members)} can be assumed"
        remedy = "Mend each account named above, or name it in organization.exclude_accounts."
        yield Finding("warning", "roles", found, remedy) if refused else Finding("ok", "roles", found)

    def _refusal(self, account: str, error: BaseException) -> Finding:
        name = self._context.configuration.organization.role_name
        remedy = f"Deploy the stack of {name} there, and check its trust and external id."
        if account == self._management:
            remedy = (
                "StackSets skip the management account: deploy stacksets/member-role.yaml there as a plain stack, or "
                "name it in organization.exclude_accounts."
            )
        found = describe(error) if isinstance(error, Exception) else str(error)
        return Finding("problem", f"role in {account}", found, remedy)
