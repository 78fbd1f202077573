"""Organizations, STS, Account Management and EC2's regions: who there is, and who may act in whose account."""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from simulator.calls import AwsError, Call

if TYPE_CHECKING:
    from simulator.core import Core

PAGE = 20  # Organizations returns at most 20 a page
ORGANIZATION_ID, ROOT_ID = "o-simulated0", "r-root"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1")
_T = TypeVar("_T")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")


@dataclass
class Account:
    """A member. role_denied: its role does not trust the central account, or is not there."""

    id: str
    name: str
    parent: str
    joined: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    status: str = "ACTIVE"
    disabled_regions: set[str] = field(default_factory=set)
    role_denied: bool = False


@dataclass(frozen=True)
class OrganizationalUnit:
    """A unit under another one, or under the root."""

    id: str
    name: str
    parent: str


class Organization:
    """Accounts in nested organizational units; `management` is the central account, directly under the root."""

    def __init__(self, management: str, regions: Iterable[str] = REGIONS) -> None:
        self.management = management
        self.regions = tuple(regions)
        self.accounts: dict[str, Account] = {}
        self.units: dict[str, OrganizationalUnit] = {}
        self._numbers = itertools.count()
        self.join(management, name="central")

    def unit(self, path: str) -> str:
        """Return the id of the unit with this path (Workloads/Production), made where it is missing; "" is the root."""
        parent = ROOT_ID
        for name in filter(None, path.split("/")):
            there = [unit for unit in self.units.values() if (unit.parent, unit.name) == (parent, name)]
            made = (
                there[0] if there else OrganizationalUnit(f"ou-root-{next(self._numbers):08d}", name, parent)
            )
            self.units[made.id] = made
            parent = made.id
        return parent

    def join(
        self, account_id: str, path: str = "", name: str = "", joined: datetime | None = None
    ) -> Account:
        """Add an account to a unit, or move it there; return it."""
        account = self.accounts.setdefault(
            account_id, Account(account_id, name or f"account-{account_id}", ROOT_ID)
        )
        account.parent = self.unit(path)
        account.joined = joined or account.joined
        return account

    def leave(self, account_id: str) -> None:
        """Take an account out."""
        del self.accounts[account_id]

    def path(self, parent: str) -> str:
        """Return the ids from the root down to a unit, each with a slash behind it."""
        return f"{ROOT_ID}/" if parent == ROOT_ID else f"{self.path(self.units[parent].parent)}{parent}/"

    def member(self, account_id: str) -> Account | None:
        """Return an account that calls can be made in: a member that is not suspended."""
        account = self.accounts.get(account_id)
        return account if account and account.status == "ACTIVE" else None


def _arn(management: str, kind: str, resource: str) -> str:
    return f"arn:aws:organizations::{management}:{kind}/{ORGANIZATION_ID}/{resource}"


class OrganizationsApi:
    """AWS Organizations."""

    def __init__(self, core: "Core") -> None:
        self._all = core.organization

    def list_accounts(self, call: Call) -> dict[str, Any]:
        return _page(call, "Accounts", list(self._all.accounts.values()), self._account)

    def describe_account(self, call: Call) -> dict[str, Any]:
        account = self._all.accounts.get(call.parameters["AccountId"])
        if account is None:
            raise AwsError("AccountNotFoundException", "You specified an account that doesn't exist.")
        return {"Account": self._account(account)}

    def list_roots(self, _: Call) -> dict[str, Any]:
        arn = _arn(self._all.management, "root", ROOT_ID)
        return {"Roots": [{"Id": ROOT_ID, "Arn": arn, "Name": "Root", "PolicyTypes": []}]}

    def list_organizational_units_for_parent(self, call: Call) -> dict[str, Any]:
        parent = self._parent(call)
        units = [unit for unit in self._all.units.values() if unit.parent == parent]
        return _page(call, "OrganizationalUnits", units, self._unit)

    def list_accounts_for_parent(self, call: Call) -> dict[str, Any]:
        parent = self._parent(call)
        accounts = [account for account in self._all.accounts.values() if account.parent == parent]
        return _page(call, "Accounts", accounts, self._account)

    def describe_organizational_unit(self, call: Call) -> dict[str, Any]:
        unit = self._all.units.get(call.parameters["OrganizationalUnitId"])
        if unit is None:
            text = "You specified an organizational unit that doesn't exist."
            raise AwsError("OrganizationalUnitNotFoundException", text)
        return {"OrganizationalUnit": self._unit(unit)}

    def describe_organization(self, _: Call) -> dict[str, Any]:
        management = self._all.management
        return {
            "Organization": {
                "Id": ORGANIZATION_ID,
                "Arn": f"arn:aws:organizations::{management}:organization/{ORGANIZATION_ID}",
                "FeatureSet": "ALL",
                "MasterAccountId": management,
                "MasterAccountArn": _arn(management, "account", management),
            }
        }

    def _parent(self, call: Call) -> str:
        parent = str(call.parameters["ParentId"])
        if parent != ROOT_ID and parent not in self._all.units:
            raise AwsError("ParentNotFoundException", "You specified parent that doesn't exist.")
        return parent

    def _unit(self, unit: OrganizationalUnit) -> dict[str, Any]:
        return {"Id": unit.id, "Arn": _arn(self._all.management, "ou", unit.id), "Name": unit.name}

    def _account(self, account: Account) -> dict[str, Any]:
        return {
            "Id": account.id,
            "Arn": _arn(self._all.management, "account", account.id),
            "Email": f"aws-{account.id}@example.com",
            "Name": account.name,
            "Status": account.status,
            "State": account.status,
            "Paths": [f"{ORGANIZATION_ID}/{self._all.path(account.parent)}{account.id}/"],
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": account.joined,
        }


def _page(
    call: Call, key: str, all_of_them: list[_T], shown: Callable[[_T], dict[str, Any]]
) -> dict[str, Any]:
    first = int(call.parameters.get("NextToken") or 0)
    last = first + min(PAGE, int(call.parameters.get("MaxResults") or PAGE))
    page: dict[str, Any] = {key: [shown(one) for one in all_of_them[first:last]]}
    return {**page, "NextToken": str(last)} if last < len(all_of_them) else page


def access_key(account: str, generation: int = 0) -> str:
    """Return a session's access key id, 20 characters as in AWS: it has the account and the number of renewals in it."""
    return f"ASIA{account}{generation % 10_000:04d}"


def secret_key(key: str) -> str:
    """Return the secret that belongs to an access key id, so that a signature can be checked without a table."""
    return f"secret-of-{key}"


def session_token(key: str) -> str:
    """Return the session token that belongs to an access key id; about as long as a real one."""
    return f"{key}//" + "IQoJb3JpZ2luX2Vj" * 40


@dataclass(frozen=True)
class Session:
    """A role session: whose, by what name, and until when."""

    account: str
    name: str
    expires: datetime


class StsApi:
    """STS: sessions in members' accounts."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._issued: dict[str, int] = {}

    def get_caller_identity(self, call: Call) -> dict[str, Any]:
        return {"Arn": call.caller, "UserId": f"AROAEXAMPLE:{call.session}", "Account": call.account}

    def assume_role(self, call: Call) -> dict[str, Any]:
        role, name = str(call.parameters["RoleArn"]), str(call.parameters["RoleSessionName"])
        account = role.split(":")[4]
        if not _SESSION_NAME.fullmatch(name):
            raise AwsError(
                "ValidationError", f"Value '{name}' at 'roleSessionName' failed to satisfy constraint"
            )
        check_assumable(self._core.organization, call, account, role)
        self._issued[account] = self._issued.get(account, 0) + 1
        key = access_key(account, self._issued[account])
        expires = self._core.clock.now() + timedelta(
            seconds=int(call.parameters.get("DurationSeconds") or 3600)
        )
        self._core.sessions[key] = Session(account, name, expires)
        credentials = {
            "AccessKeyId": key,
            "SecretAccessKey": secret_key(key),
            "SessionToken": session_token(key),
            "Expiration": expires,
        }
        arn = f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{name}"
        return {
            "Credentials": credentials,
            "AssumedRoleUser": {"Arn": arn, "AssumedRoleId": f"AROAEXAMPLE:{name}"},
        }


def check_assumable(organization: Organization, call: Call, account: str, role: str) -> None:
    """Raise AwsError where a member's role can't be assumed."""
    member = organization.member(account)
    if member is None or member.role_denied:
        text = f"User: {call.caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
        raise AwsError("AccessDenied", text, 403)


class AccountApi:
    """Account Management: an account's regions."""

    def __init__(self, core: "Core") -> None:
        self._all = core.organization

    def list_regions(self, call: Call) -> dict[str, Any]:
        wanted = call.parameters.get("RegionOptStatusContains")
        regions = [
            {"RegionName": name, "RegionOptStatus": self._status(call, name)} for name in self._all.regions
        ]
        return {"Regions": [one for one in regions if not wanted or one["RegionOptStatus"] in wanted]}

    def get_region_opt_status(self, call: Call) -> dict[str, Any]:
        name = call.parameters["RegionName"]
        return {"RegionName": name, "RegionOptStatus": self._status(call, name)}

    def _status(self, call: Call, region: str) -> str:
        account = self._all.accounts[call.parameters.get("AccountId", call.account)]
        return "DISABLED" if region in account.disabled_regions else "ENABLED_BY_DEFAULT"


class Ec2Api:
    """EC2: the regions that an account has enabled."""

    def __init__(self, core: "Core") -> None:
        self._all = core.organization

    def describe_regions(self, call: Call) -> dict[str, Any]:
        disabled = self._all.accounts[call.account].disabled_regions
        regions = [
            name for name in self._all.regions if call.parameters.get("AllRegions") or name not in disabled
        ]
        return {
            "Regions": [
                {
                    "RegionName": name,
                    "Endpoint": f"ec2.{name}.amazonaws.com",
                    "OptInStatus": "not-opted-in" if name in disabled else "opt-in-not-required",
                }
                for name in regions
            ]
        }
