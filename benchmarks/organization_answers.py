"""The answers of Organizations, STS, Account Management and EC2 for the made-up organization."""

import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.answers import CENTRAL_ACCOUNT, Organization, account_id, to_json
from simulator.organization import access_key, secret_key, session_token

PAGE = 20  # Organizations gives at most 20 a page
ORGANIZATION_ID = "o-benchmark0"
ROOT_ID = "r-root"
_XML = (
    '<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result>{1}</{0}Result></{0}Response>'
)


def organizations_answer(organization: Organization, operation: str, body: bytes) -> bytes | None:
    """The answer to an Organizations operation (JSON 1.1), or None for an unknown one."""
    asked = json.loads(body or b"{}")
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "ListAccounts": lambda: _page("Accounts", _account, organization.accounts + 1, organization, asked),
        "ListRoots": lambda: {
            "Roots": [{"Id": ROOT_ID, "Arn": _arn("root", ROOT_ID), "Name": "Root", "PolicyTypes": []}]
        },
        "ListOrganizationalUnitsForParent": lambda: _child_units(organization, asked),
        "ListAccountsForParent": lambda: _child_accounts(organization, asked),
        "DescribeOrganizationalUnit": lambda: {"OrganizationalUnit": _unit(organization, _number(asked))},
        "DescribeOrganization": _organization,
    }
    return to_json(known[operation]()) if operation in known else None


def _arn(kind: str, resource: str) -> str:
    return f"arn:aws:organizations::{CENTRAL_ACCOUNT}:{kind}/{ORGANIZATION_ID}/{resource}"


def _organization() -> dict[str, Any]:
    account = {"MasterAccountId": CENTRAL_ACCOUNT, "MasterAccountArn": _arn("account", CENTRAL_ACCOUNT)}
    arn = f"arn:aws:organizations::{CENTRAL_ACCOUNT}:organization/{ORGANIZATION_ID}"
    return {"Organization": {"Id": ORGANIZATION_ID, "Arn": arn, "FeatureSet": "ALL", **account}}


def _unit_id(number: int) -> str:
    return f"ou-root-{number:08d}"


def _number(asked: dict[str, Any]) -> int:
    return int(asked.get("OrganizationalUnitId", asked.get("ParentId", "")).rsplit("-", 1)[1])


def _unit(_organization: Organization, number: int) -> dict[str, Any]:
    return {"Id": _unit_id(number), "Arn": _arn("ou", _unit_id(number)), "Name": f"Unit {number}"}


def _account(organization: Organization, number: int) -> dict[str, Any]:
    """One Account; the last number is the central account's, which is directly under the root."""
    central = number == organization.accounts
    identity = CENTRAL_ACCOUNT if central else account_id(number)
    parent = "" if central else f"{_unit_id(number // organization.accounts_per_ou)}/"
    return {
        "Id": identity,
        "Arn": _arn("account", identity),
        "Email": f"aws-{number}@example.com",
        "Name": "central" if central else f"workload-{number}",
        "Status": "ACTIVE",
        "State": "ACTIVE",
        "Paths": [f"{ORGANIZATION_ID}/{ROOT_ID}/{parent}{identity}/"],
        "JoinedMethod": "CREATED",
        "JoinedTimestamp": 1_600_000_000.0 + number,
    }


def _page(
    key: str,
    make: Callable[[Organization, int], dict[str, Any]],
    end: int,
    organization: Organization,
    asked: dict[str, Any],
    start: int = 0,
) -> dict[str, Any]:
    """One page of the things numbered ``start`` to ``end``."""
    first = int(asked.get("NextToken", start))
    last = min(end, first + min(PAGE, asked.get("MaxResults", PAGE)))
    page: dict[str, Any] = {key: [make(organization, number) for number in range(first, last)]}
    return page if last >= end else page | {"NextToken": str(last)}


def _child_units(organization: Organization, asked: dict[str, Any]) -> dict[str, Any]:
    count = organization.ou_count() if asked["ParentId"] == ROOT_ID else 0
    return _page("OrganizationalUnits", _unit, count, organization, asked)


def _child_accounts(organization: Organization, asked: dict[str, Any]) -> dict[str, Any]:
    start, end = organization.accounts, organization.accounts + 1
    if asked["ParentId"] != ROOT_ID:
        start = _number(asked) * organization.accounts_per_ou
        end = min(organization.accounts, start + organization.accounts_per_ou)
    return _page("Accounts", _account, end, organization, asked, start)


def caller_identity(account: str) -> bytes:
    """GetCallerIdentity, as the role of this account."""
    arn = f"arn:aws:sts::{account}:assumed-role/AutoDefender/benchmark"
    inner = f"<Arn>{arn}</Arn><UserId>AROAEXAMPLE:benchmark</UserId><Account>{account}</Account>"
    return _XML.format("GetCallerIdentity", inner).encode()


def assumed_role(account: str, generation: int, seconds: int) -> bytes:
    """AssumeRole: a session of this account; its lifetime in seconds."""
    key = access_key(account, generation)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    credentials = (
        f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret_key(key)}</SecretAccessKey>"
        f"<SessionToken>{session_token(key)}</SessionToken><Expiration>{ends}</Expiration>"
    )
    user = f"<Arn>arn:aws:sts::{account}:assumed-role/role/session</Arn><AssumedRoleId>AROAEXAMPLE:s</AssumedRoleId>"
    inner = f"<Credentials>{credentials}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>"
    return _XML.format("AssumeRole", inner).encode()


def listed_regions(regions: list[str], disabled: set[str]) -> bytes:
    """Account Management's ListRegions."""
    states = {region: "DISABLED" if region in disabled else "ENABLED_BY_DEFAULT" for region in regions}
    return to_json(
        {"Regions": [{"RegionName": name, "RegionOptStatus": state} for name, state in states.items()]}
    )


def described_regions(regions: list[str], disabled: set[str]) -> bytes:
    """EC2's DescribeRegions with AllRegions."""
    items = "".join(
        f"<item><regionName>{name}</regionName><regionEndpoint>ec2.{name}.amazonaws.com</regionEndpoint>"
        f"<optInStatus>{'not-opted-in' if name in disabled else 'opt-in-not-required'}</optInStatus></item>"
        for name in regions
    )
    space = "http://ec2.amazonaws.com/doc/2016-11-15/"
    return f'<DescribeRegionsResponse xmlns="{space}"><regionInfo>{items}</regionInfo></DescribeRegionsResponse>'.encode()
