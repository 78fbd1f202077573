"""Checks of the organization, and of the member role in each of its accounts."""

from collections.abc import Iterator

import pandas as pd

from auto_defender.config import Configuration
from auto_defender.doctor.finding import CALL_FAILED, Finding
from scanner.aws.caller import Aws
from scanner.aws.errors import describe
from scanner.inventory.parallel import in_parallel
from scanner.organization.accounts import ACTIVE


class Members:
    """The organization's accounts.

    management: the management account, which StackSets skip; "" while it is unknown. reader: the first account where
    the member role could be assumed; None while there is none.
    """

    def __init__(self, aws: Aws, settings: Configuration, accounts: pd.DataFrame) -> None:
        """accounts: from list_accounts."""
        self._aws = aws
        self._settings = settings
        self._accounts = accounts
        self._to_sweep = accounts[accounts["in_scope"] & (accounts["state"] == ACTIVE)]["account_id"].tolist()
        self.management = ""
        self.reader: str | None = None

    def organization(self) -> Iterator[Finding]:
        """Yield the number of accounts as a finding, and find the management account."""
        aws = self._aws
        found = f"{len(self._accounts)} accounts, {len(self._to_sweep)} to sweep"
        try:
            answer = aws.call(
                aws.central_account_id, aws.home_region, "organizations", "describe_organization"
            )
        except CALL_FAILED as error:
            remedy = "Allow organizations:DescribeOrganization, which names the management account."
            yield Finding("warning", "organization", f"{found}; {describe(error)}", remedy)
            return
        self.management = str(answer["Organization"]["MasterAccountId"])
        right = (
            "this is the management account"
            if self.management == aws.central_account_id
            else f"this is a delegated administrator; the management account is {self.management}"
        )
        yield Finding("ok", "organization", f"{found}; {right}")

    def roles(self) -> Iterator[Finding]:
        """Assume the role in every account in scope, in parallel; yield a finding for each failure, then the count."""
        aws = self._aws
        members = [account for account in self._to_sweep if account != aws.central_account_id]

        def identity(account: str) -> object:
            return aws.call(account, aws.home_region, "sts", "get_caller_identity")

        failed = {
            done.task: done.error
            for done in in_parallel(identity, members, aws, self._settings.sweep, None)
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
        name = self._settings.organization.role_name
        remedy = f"Deploy the stack of {name} there, and check its trust and external id."
        if account == self.management:
            remedy = (
                "StackSets skip the management account: deploy stacksets/member-role.yaml there as a plain stack, or "
                "name it in organization.exclude_accounts."
            )
        found = describe(error) if isinstance(error, Exception) else str(error)
        return Finding("problem", f"role in {account}", found, remedy)
