"""Which regions an account has, and whether a region that refuses is disabled there: by evidence, not by guess."""

from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import Throttled, TimedOut, Unreachable, error_code
from scanner.aws.pagination import pages
from scanner.inventory.functions_frame import BrokenAnswer

# Account API reference, RegionOptStatus.
_ENABLED = ("ENABLED", "ENABLED_BY_DEFAULT")
_DENIED = frozenset(("AccessDeniedException", "AccessDenied", "UnauthorizedOperation"))
# What a region says to a token that it does not know: one of an account that has not enabled it, or a bad one.
TOKEN_UNKNOWN = frozenset(("UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"))


def enabled_regions(aws: Aws, account_id: str) -> list[str]:
    """List the regions that an account has enabled: account ListRegions, EC2 DescribeRegions where that is denied."""
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
    """Ask whether an account has disabled a region; None where neither source would say."""
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
