"""Security Hub findings: one for each eligible function, closed once it is no longer eligible.

Only a run that writes imports them, and keeps the list of the open ones. A dry run counts what would be imported. Such
runs follow each other by the run lock; one that has lost it may still import beside the next, so that the list is
replaced only where it is the one that was read. Otherwise what this run imported is added to it, to be imported again.

An error here does not fail the run: it is reported, and the next run retries.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from auto_defender.context import Context
from auto_defender.observation import Observation
from remediator.state.store import load_tagged, save_unchanged
from reports.data.summary import utc
from scanner.aws.errors import describe
from scanner.core.arns import FunctionArn, function_arns
from scanner.core.errors import BadInput
from scanner.inventory.ledger import ANY_REGION, UNREAD
from storage.protocol import Store, StoreFailed

log = logging.getLogger(__name__)

# The open findings: function ARN to the times its finding was created and last imported.
STATE = "state/security_hub.json"
State = dict[str, tuple[str, str]]
# BatchImportFindings API reference: findings per call.
BATCH = 100
# Security Hub deletes findings that were not updated for 90 days ("Updating findings", user guide).
RENEW_AFTER = timedelta(days=30)
# Limit in seconds: the report is written after this, and an AWS Lambda function has little time left by then.
SECONDS = 30.0
# Each failed attempt is another run that has saved its list meanwhile: more than a few at once do not exist.
_ATTEMPTS = 20
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=10)
# The most that one call takes by _CONFIG: three attempts, and the waits between them.
CALL_SECONDS = 45.0


def update_security_hub(context: Context, observed: Observation) -> dict[str, Any] | None:
    """Import new findings, renew old ones, close resolved ones; None where not enabled, or nothing was swept.

    Return the counts open (now), imported, closed, failed, waiting (for the next run that writes), and error (one line,
    or None).
    """
    settings = context.configuration.security_hub
    if not settings.enabled or context.mode not in ("dry_run", "apply") or observed.units.empty:
        return None
    counts: dict[str, Any] = {"open": 0, "imported": 0, "closed": 0, "failed": 0, "waiting": 0, "error": None}
    with context.stage("security_hub"):
        try:
            _import(context, observed, settings.region or context.session.region_name, counts)
        except (ClientError, BotoCoreError, StoreFailed, BadInput) as error:
            counts["error"] = describe(error)
            log.error("Security Hub: %s", counts["error"])  # noqa: TRY400 - one clear line, no traceback
    return counts


def _import(context: Context, observed: Observation, region: str | None, counts: dict[str, Any]) -> None:
    now = context.clock.now()
    state, tag = load_tagged(context.store, STATE, State, {})
    imported: dict[str, str] = {}
    counts["open"] = len(state)
    work = _work(state, observed, context.aws.partition, utc(now - RENEW_AFTER))
    counts["waiting"] = len(work)
    if not work or context.mode == "dry_run":
        return
    client = context.session.client("securityhub", region_name=region, config=_CONFIG)
    account_id, partition = context.aws.central_account_id, context.aws.partition
    product = f"arn:{partition}:securityhub:{region}:{account_id}:product/{account_id}/default"
    until = _until(context)
    try:
        for start in range(0, len(work), BATCH):
            if context.clock.monotonic() >= until:
                log.warning("Security Hub: %d findings wait for the next run", counts["waiting"])
                break
            part = work[start : start + BATCH]
            created = {arn: state.get(arn, (utc(now), ""))[0] for arn, _ in part}
            findings = [
                _finding(arn, resolved, product, account_id, created[arn], utc(now)) for arn, resolved in part
            ]
            rejected = client.batch_import_findings(Findings=findings)["FailedFindings"]
            _record(state, part, created, utc(now), rejected, counts)
            imported |= created
    finally:
        _save(context.store, state, tag, imported)


def _save(store: Store, state: State, tag: str, imported: Mapping[str, str]) -> None:
    """Save the list of the open findings. imported: the creation times of those that this run has opened or closed.

    Where another run has saved its list meanwhile, which of the two Security Hub heard last is unknown: the next run imports
    these again, open or closed, as it finds their functions. Raise StoreFailed.
    """
    for _ in range(_ATTEMPTS):
        if save_unchanged(store, STATE, state, tag):
            return
        log.warning("%s was changed by another run; the next run imports these findings again", STATE)
        state, tag = load_tagged(store, STATE, State, {})
        state |= {arn: (created, "") for arn, created in imported.items()}
    raise StoreFailed(f"can't write {store.url(STATE)}: it was changed {_ATTEMPTS} times meanwhile")


def _until(context: Context) -> float:
    """Return until when calls may begin: the time after the run's deadline is for its report."""
    until = context.clock.monotonic() + SECONDS
    return until if context.deadline is None else min(until, context.deadline - CALL_SECONDS)


def _work(state: State, observed: Observation, partition: str, old: str) -> list[tuple[str, bool]]:
    """Return what to import, as ARN and whether it is resolved; the resolved ones first.

    A finding in a unit that was not read is left unchanged: whether it is resolved is unknown.
    """
    eligible = observed.functions[observed.functions["verdict"] == "eligible"]
    arns = dict.fromkeys(function_arns(eligible, partition))
    unread = observed.units[observed.units["outcome"].isin(UNREAD)]
    not_read = set(zip(unread["account_id"].astype(str), unread["region"].astype(str), strict=True))
    resolved = [(arn, True) for arn in state if arn not in arns and not _in(arn, not_read)]
    return resolved + [(arn, False) for arn in arns if arn not in state or state[arn][1] < old]


def _in(arn: str, units: set[tuple[str, str]]) -> bool:
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"{STATE}: '{arn}' is no function ARN; fix it or restore an older version")
    return not units.isdisjoint({(function.account_id, function.region), (function.account_id, ANY_REGION)})


def _record(
    state: State,
    part: Sequence[tuple[str, bool]],
    created: Mapping[str, str],
    now: str,
    rejected: Sequence[Mapping[str, Any]],
    counts: dict[str, Any],
) -> None:
    """Count the findings of one call, and record in the state which are open."""
    failed = {finding["Id"] for finding in rejected}
    if rejected:
        first = f"{rejected[0]['ErrorCode']}: {rejected[0]['ErrorMessage']} ({rejected[0]['Id']})"
        log.error("Security Hub rejected %d findings, the first: %s", len(rejected), first)
    counts["waiting"] -= len(part)
    for arn, resolved in part:
        if _id(arn) in failed:
            counts["failed"] += 1
        elif resolved:
            del state[arn]
            counts["closed"] += 1
        else:
            state[arn] = (created[arn], now)
            counts["imported"] += 1
    counts["open"] = len(state)


def _id(arn: str) -> str:
    """Return a finding's id; a function keeps it, however often its finding is imported."""
    return f"auto-defender/{arn}"


def _finding(
    arn: str, resolved: bool, product: str, account_id: str, created: str, now: str
) -> dict[str, Any]:
    """Return a finding in the AWS Security Finding Format. It belongs to the account that imports it."""
    partition, region = arn.split(":")[1], arn.split(":")[3]
    return {
        "SchemaVersion": "2018-10-08",
        "Id": _id(arn),
        "ProductArn": product,
        "GeneratorId": "auto-defender/eligible",
        "AwsAccountId": account_id,
        "CreatedAt": created,
        "UpdatedAt": now,
        # The provider's severity and types; customers may override them in the finding.
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
        "Compliance": {"Status": "PASSED" if resolved else "FAILED"},
        "RecordState": "ARCHIVED" if resolved else "ACTIVE",
    }
