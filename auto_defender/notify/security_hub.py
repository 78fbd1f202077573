"""Security Hub findings: one a function that could be covered and is not, closed once that is over.

Nothing that goes wrong here ends a run: it is counted, and the next run tries again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from auto_defender.context import Context
from auto_defender.observation import Observation
from remediator.journal.store import load, save
from reports.data.summary import utc
from scanner.aws.errors import describe
from scanner.core.arns import FunctionArn, function_arns
from scanner.core.errors import BadInput
from scanner.inventory.ledger import ANY_REGION, UNREAD
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)

# The open findings: function ARN to when its finding was made and when it was last imported.
STATE = "state/security_hub.json"
State = dict[str, tuple[str, str]]
# BatchImportFindings API reference: findings a call.
BATCH = 100
# Security Hub deletes findings that nobody updated for 90 days ("Updating findings", user guide).
RENEW_AFTER = timedelta(days=30)
# The report waits for this, and an AWS Lambda function has little time left by then.
SECONDS = 30.0
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=10)


def update_security_hub(context: Context, observed: Observation) -> dict[str, Any] | None:
    """Import what is new or grew old, close what is over; None where that is not wanted, or nothing was swept.

    Gives open (findings now), imported, closed, failed, waiting (for the next run) and error (one line, or None).
    """
    settings = context.configuration.security_hub
    if not settings.enabled or context.mode not in ("dry_run", "apply") or observed.units.empty:
        return None
    told: dict[str, Any] = {"open": 0, "imported": 0, "closed": 0, "failed": 0, "waiting": 0, "error": None}
    with context.stage("security_hub"):
        try:
            _import(context, observed, settings.region or context.session.region_name, told)
        except (ClientError, BotoCoreError, StoreFailed, BadInput) as error:
            told["error"] = describe(error)
            log.error("Security Hub: %s", told["error"])  # noqa: TRY400 - one clear line, no traceback
    return told


def _import(context: Context, observed: Observation, region: str | None, told: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    state = load(context.store, STATE, State, {})
    told["open"] = len(state)
    work = _work(state, observed, context.aws.partition, utc(now - RENEW_AFTER))
    told["waiting"] = len(work)
    if not work:
        return
    client = context.session.client("securityhub", region_name=region, config=_CONFIG)
    account_id, partition = context.aws.central_account_id, context.aws.partition
    product = f"arn:{partition}:securityhub:{region}:{account_id}:product/{account_id}/default"
    until = time.monotonic() + SECONDS
    try:
        for start in range(0, len(work), BATCH):
            if time.monotonic() >= until:
                log.warning("Security Hub: %d findings wait for the next run", told["waiting"])
                break
            part = work[start : start + BATCH]
            created = {arn: state.get(arn, (utc(now), ""))[0] for arn, _ in part}
            findings = [
                _finding(arn, over, product, account_id, created[arn], utc(now)) for arn, over in part
            ]
            refused = client.batch_import_findings(Findings=findings)["FailedFindings"]
            _settle(state, part, created, utc(now), refused, told)
    finally:
        save(context.store, STATE, state)


def _work(state: State, observed: Observation, partition: str, old: str) -> list[tuple[str, bool]]:
    """List what to import, as ARN and whether it is over; those that are over first.

    A finding in a unit that was not read stays as it is: nobody knows whether it is over.
    """
    eligible = observed.functions[observed.functions["verdict"] == "eligible"]
    arns = dict.fromkeys(function_arns(eligible, partition))
    unread = observed.units[observed.units["outcome"].isin(UNREAD)]
    blind = set(zip(unread["account_id"].astype(str), unread["region"].astype(str), strict=True))
    over = [(arn, True) for arn in state if arn not in arns and not _in(arn, blind)]
    return over + [(arn, False) for arn in arns if arn not in state or state[arn][1] < old]


def _in(arn: str, blind: set[tuple[str, str]]) -> bool:
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"{STATE}: '{arn}' is no function ARN; mend it or restore an older version")
    return not blind.isdisjoint({(function.account_id, function.region), (function.account_id, ANY_REGION)})


def _settle(
    state: State,
    part: Sequence[tuple[str, bool]],
    created: Mapping[str, str],
    now: str,
    refused: Sequence[Mapping[str, Any]],
    told: dict[str, Any],
) -> None:
    """Count one call's findings, and remember which are open."""
    failed = {finding["Id"] for finding in refused}
    if refused:
        first = f"{refused[0]['ErrorCode']}: {refused[0]['ErrorMessage']} ({refused[0]['Id']})"
        log.error("Security Hub refused %d findings, the first: %s", len(refused), first)
    told["waiting"] -= len(part)
    for arn, over in part:
        if _id(arn) in failed:
            told["failed"] += 1
        elif over:
            del state[arn]
            told["closed"] += 1
        else:
            state[arn] = (created[arn], now)
            told["imported"] += 1
    told["open"] = len(state)


def _id(arn: str) -> str:
    """Give a finding's id: the same function has the same finding for good, however often it is imported."""
    return f"auto-defender/{arn}"


def _finding(arn: str, over: bool, product: str, account_id: str, created: str, now: str) -> dict[str, Any]:
    """Write a finding in the AWS Security Finding Format. It belongs to the account that imports it."""
    partition, region = arn.split(":")[1], arn.split(":")[3]
    return {
        "SchemaVersion": "2018-10-08",
        "Id": _id(arn),
        "ProductArn": product,
        "GeneratorId": "auto-defender/eligible",
        "AwsAccountId": account_id,
        "CreatedAt": created,
        "UpdatedAt": now,
        # Whoever works on the finding may set severity and types; the provider's own stand here.
        "FindingProviderFields": {
            "Severity": {"Label": "MEDIUM"},
            "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
        },
        "Title": "Lambda function without the Prisma Cloud Serverless Defender",
        "Description": "Every check of Auto-Defender allows the function to carry the Defender, and it does not.",
        "Remediation": {
            "Recommendation": {
                "Text": "Let Auto-Defender apply its plan, or opt the function out with a reason."
            }
        },
        "Resources": [{"Type": "AwsLambdaFunction", "Id": arn, "Partition": partition, "Region": region}],
        "Compliance": {"Status": "PASSED" if over else "FAILED"},
        "RecordState": "ARCHIVED" if over else "ACTIVE",
    }
