"""Our sweep as a contender: from listing the accounts to the finished functions frame and units ledger."""

from datetime import UTC, datetime

import boto3
from pydantic import SecretStr

from benchmarks.task import ROLE, Found, Task
from scanner.aws.caller import Aws
from scanner.inventory.sweep import Sweep
from scanner.organization.accounts import list_accounts
from scanner.organization.optouts import OptOuts
from scanner.settings import OrganizationSettings, SweepSettings


def ours(task: Task) -> Found:
    """Sweep; raises where a unit was not read."""
    organization = OrganizationSettings(role_name=ROLE, regions=task.regions)
    settings = SweepSettings(workers=task.workers)
    aws = Aws(boto3.Session(), organization, settings, "benchmark")
    listed = list_accounts(aws, organization)
    chosen = listed[listed["account_id"].isin(task.accounts)].reset_index(drop=True)
    swept = Sweep(aws, organization, settings, (("TW_POLICY", SecretStr("policy")),)).run(
        chosen, OptOuts(), datetime.now(UTC).date()
    )
    unread = swept.units[swept.units["outcome"] != "read"]
    if len(unread):
        raise RuntimeError(f"{len(unread)} units were not read, the first: {unread.iloc[0].to_dict()}")
    return Found(len(swept.functions), float(swept.functions.memory_usage(deep=True).sum()) / 1024**2)
