"""The memory that functions used, from the REPORT lines of their logs, by Logs Insights, which bills by GB scanned."""

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import TimedOut, error_code
from scanner.core.errors import AutoDefenderError
from scanner.inventory.ledger import Unit

# StartQuery API reference: up to 50 log groups a query.
GROUPS_A_QUERY = 50
POLL_SECONDS = 1.0
_PREFIX = "/aws/lambda/"
# Lambda writes text or JSON (LoggingConfig.LogFormat); a report has the fields of its own format alone.
_QUERY = """filter @type = "REPORT" or type = "platform.report"
| stats max(@maxMemoryUsed / @memorySize) as text_share,
        max(record.metrics.maxMemoryUsedMB / record.metrics.memorySizeMB) as json_share by @log"""


def memory_shares(
    aws: Aws, unit: Unit, names: Sequence[str], lookback_days: int, deadline: float
) -> dict[str, float]:
    """Return the highest share of its memory (0 to 1) that each function used; those without a report are left out.

    Only a function's own log group (/aws/lambda/NAME) is read. deadline: a Clock.monotonic() moment.
    Raises what Aws.call raises, TimedOut, and AutoDefenderError where a query failed.
    """
    shares: dict[str, float] = {}
    for first in range(0, len(names), GROUPS_A_QUERY):
        shares |= _shares(aws, unit, names[first : first + GROUPS_A_QUERY], lookback_days, deadline)
    return shares


def _shares(
    aws: Aws, unit: Unit, names: Sequence[str], lookback_days: int, deadline: float
) -> dict[str, float]:
    """Query some log groups at once. Where one of them does not exist, AWS refuses all, and each half is queried."""
    now = int(aws.clock.now().timestamp())
    try:
        query = aws.call(
            unit.account_id, unit.region, "logs", "start_query", deadline=deadline,
            logGroupNames=[_PREFIX + name for name in names], queryString=_QUERY,
            startTime=now - lookback_days * 86_400, endTime=now, limit=GROUPS_A_QUERY,
        )  # fmt: skip
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        if len(names) == 1:
            return {}
        half = len(names) // 2
        return {
            **_shares(aws, unit, names[:half], lookback_days, deadline),
            **_shares(aws, unit, names[half:], lookback_days, deadline),
        }
    return dict(_share(row) for row in _results(aws, unit, query["queryId"], deadline) if _has_share(row))


def _results(aws: Aws, unit: Unit, query_id: str, deadline: float) -> list[dict[str, str]]:
    while True:
        answer = aws.call(
            unit.account_id, unit.region, "logs", "get_query_results", deadline=deadline, queryId=query_id
        )
        if answer["status"] == "Complete":
            return [{cell["field"]: cell["value"] for cell in row} for row in answer["results"]]
        if answer["status"] not in ("Scheduled", "Running"):
            raise AutoDefenderError(f"get_query_results: the query is {answer['status']}")
        if aws.clock.monotonic() + POLL_SECONDS > deadline or aws.clock.wait(aws.stop, POLL_SECONDS):
            raise TimedOut("the logs were not read in time")


def _has_share(row: dict[str, Any]) -> bool:
    return bool(row.get("text_share") or row.get("json_share"))


def _share(row: dict[str, str]) -> tuple[str, float]:
    """Return a function's name and share; @log is ACCOUNT:LOG-GROUP."""
    name = row["@log"].partition(":")[2].removeprefix(_PREFIX)
    return name, max(float(row.get("text_share") or 0), float(row.get("json_share") or 0))
