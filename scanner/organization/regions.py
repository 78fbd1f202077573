"""Which regions an account has enabled, and whether a region that refuses a call is disabled in that account."""

from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer, Throttled, TimedOut, Unreachable, error_code
from scanner.aws.pagination import pages
from scanner.core.errors import AutoDefenderError

# Account API reference, RegionOptStatus.
_ENABLED = ("ENABLED", "ENABLED_BY_DEFAULT")
_DENIED = frozenset(("AccessDeniedException", "AccessDenied", "UnauthorizedOperation"))
# A region's codes for a token that it does not know: of an account that has not enabled it, or an invalid one.
TOKEN_UNKNOWN = frozenset(("UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"))


class RegionDisabled(AutoDefenderError):
    """The account has not enabled the region; there is nothing to read."""


def enabled_regions(aws: Aws, account_id: str) -> list[str]:
    """Return the regions that an account has enabled: account ListRegions, or EC2 DescribeRegions where that is denied.

    Raises what Aws.call raises.
    """
    try:
        return sorted(_list_regions(aws, account_id))
    except ClientError as error:
        if error_code(error) not in _DENIED or error.operation_name != "ListRegions":
            raise
    answer = aws.call(account_id, aws.home_region, "ec2", "describe_regions")
    return sorted(region["RegionName"] for region in answer["Regions"])


def _list_regions(aws: Aws, account_id: str) -> list[str]:
    where = (account_id, aws.home_region, "account", "list_regions")
    return [
        region["RegionName"]
        for page in pages(aws, *where, RegionOptStatusContains=list(_ENABLED))
        for region in page["Regions"]
    ]


def is_disabled(aws: Aws, account_id: str, region: str) -> bool | None:
    """Return whether an account has disabled a region; None where neither the Account API nor EC2 answers that."""
    try:
        status = aws.call(account_id, aws.home_region, "account", "get_region_opt_status", RegionName=region)
        return bool(status["RegionOptStatus"] == "DISABLED")
    except ClientError:
        return _disabled_by_ec2(aws, account_id, region)
    except (Throttled, TimedOut, Unreachable, BrokenAnswer):
        return None


def _disabled_by_ec2(aws: Aws, account_id: str, region: str) -> bool | None:
    try:
        answer = aws.call(
            account_id, aws.home_region, "ec2", "describe_regions", AllRegions=True, RegionNames=[region]
        )
        return any(found.get("OptInStatus") == "not-opted-in" for found in answer["Regions"])
    except (ClientError, Throttled, TimedOut, Unreachable, BrokenAnswer):
        return None
