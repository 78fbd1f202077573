"""Checks of the organization, and of the member role in each of its accounts."""

from collections.abc import Iterator

import pandas as pd
from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.doctor.finding import Finding
from scanner.aws.errors import Throttled, TimedOut, Unreachable, describe
from scanner.inventory.parallel import in_parallel
from scanner.organization.accounts import ACTIVE


def organization(context: Context, accounts: pd.DataFrame) -> tuple[Finding, str]:
    """Return the number of accounts as a finding, and the management account's id ("" where it is unknown)."""
    aws = context.aws
    in_scope = int((accounts["in_scope"] & (accounts["state"] == ACTIVE)).sum())
    found = f"{len(accounts)} accounts, {in_scope} to sweep"
    try:
        answer = aws.call(aws.central_account_id, aws.home_region, "organizations", "describe_organization")
    except (ClientError, Throttled, TimedOut, Unreachable) as error:
        remedy = "Allow organizations:DescribeOrganization, which names the management account."
        return Finding("warning", "organization", f"{found}; {describe(error)}", remedy), ""
    management = str(answer["Organization"]["MasterAccountId"])
    right = (
        "this is the management account"
        if management == aws.central_account_id
        else f"this is a delegated administrator; the management account is {management}"
    )
    return Finding("ok", "organization", f"{found}; {right}"), management


class Roles:
    """The member role in every account. reader: the first account where it could be assumed, None if none (yet)."""

    def __init__(self, context: Context, management: str) -> None:
        """Take the context and the management account, which StackSets skip."""
        self._context = context
        self._management = management
        self.reader: str | None = None

    def check(self, accounts: pd.DataFrame) -> Iterator[Finding]:
        """Assume the role in every account in scope, in parallel; yield a finding for each failure, then the count."""
        aws, sweep = self._context.aws, self._context.configuration.sweep
        to_sweep = accounts[accounts["in_scope"] & (accounts["state"] == ACTIVE)]["account_id"].tolist()
        members = [account for account in to_sweep if account != aws.central_account_id]

        def identity(account: str) -> object:
            return aws.call(account, aws.home_region, "sts", "get_caller_identity")

        failed = {
            done.task: done.error
            for done in in_parallel(identity, members, aws, sweep, self._context.deadline)
            if done.error is not None
        }
        for account in sorted(failed):
            yield self._not_assumed(account, failed[account])
        assumed = [account for account in members if account not in failed]
        self.reader = assumed[0] if assumed else None
        found = f"{len(assumed)} of {len(members)} can be assumed"
        remedy = "Fix each account named above, or name it in organization.exclude_accounts."
        yield Finding("warning", "roles", found, remedy) if failed else Finding("ok", "roles", found)

    def _not_assumed(self, account: str, error: BaseException) -> Finding:
        name = self._context.configuration.organization.role_name
        remedy = f"Deploy the stack of {name} there, and check its trust and external id."
        if account == self._management:
            remedy = (
                "StackSets skip the management account: deploy stacksets/member-role.yaml there as a plain stack, or "
                "name it in organization.exclude_accounts."
            )
        found = describe(error) if isinstance(error, Exception) else str(error)
        return Finding("problem", f"role in {account}", found, remedy)
