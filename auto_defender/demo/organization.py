"""The simulated organization: OUs, accounts, roles; some names are hostile, as account owners may choose them."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product

from moto.iam.models import iam_backends
from moto.organizations.models import OrganizationsBackend, organizations_backends

from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID

REGIONS = ("us-east-1", "us-west-2")
ROLE = "AutoDefenderMember"
FUNCTION_ROLE = "lambda-execution"
_TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@dataclass(frozen=True)
class Place:
    """An account to be: its name, the OUs above it, what its functions are about, what is special about it."""

    name: str
    ou: str
    domain: str
    suspended: bool = False
    refuses: bool = False
    opted_out: bool = False


@dataclass(frozen=True)
class Account:
    """An account that is there."""

    id: str
    place: Place


@dataclass
class Organization:
    """What was built: the accounts, and the ARNs of the functions that are to be in quarantine."""

    accounts: list[Account]
    quarantined: list[str] = field(default_factory=list)


_MANAGEMENT = Place("management", "", "org")
# The first ones are there however small the organization is.
_PLACES = (
    Place("acquired-retail-prod", "Acquisitions", "retail", refuses=True),
    Place("legacy-crm", "Suspended", "crm", suspended=True),
    Place("payments-prod", "Workloads/Prod", "payments"),
    Place("trading-prod", "Workloads/Prod", "trading", opted_out=True),
    Place('sandbox "><img src=x onerror=alert(1)>', "Sandbox/<b>R&D</b> labs", "sandbox"),
    Place("fraud-prod", "Workloads/Prod", "fraud"),
    Place("data-platform-prod", "Workloads/Prod", "data-platform"),
    Place("checkout-prod", "Workloads/Prod", "checkout"),
    Place("customer-portal-prod", "Workloads/Prod", "portal"),
    Place("identity-prod", "Workloads/Prod", "identity"),
    Place("notifications-prod", "Workloads/Prod", "notifications"),
    Place("payments-staging", "Workloads/NonProd", "payments"),
    Place("fraud-staging", "Workloads/NonProd", "fraud"),
    Place("checkout-dev", "Workloads/NonProd", "checkout"),
    Place("data-platform-dev", "Workloads/NonProd", "data-platform"),
    Place("log-archive", "Security", "logs"),
    Place("security-tooling", "Security", "security"),
    Place("network", "Infrastructure", "network"),
    Place("shared-services", "Infrastructure", "shared"),
    Place("ci-cd", "Infrastructure", "ci"),
    Place("ml-research", "Sandbox", "ml"),
    Place('=HYPERLINK("http://evil.example","sandbox-eu")', "Sandbox", "sandbox"),
    Place("sandbox-\u202egnp.evil", "Sandbox/<b>R&D</b> labs", "sandbox"),
)
_MORE_TEAMS = (
    "orders",
    "pricing",
    "search",
    "loyalty",
    "billing",
    "shipping",
    "inventory",
    "returns",
    "media",
)


def build_organization(count: int) -> Organization:
    """Build an organization of `count` accounts, the central one included."""
    backend = organizations_backends[CENTRAL_ACCOUNT_ID]["aws"]
    backend.create_organization(REGIONS[0])
    backend.get_account_by_id(CENTRAL_ACCOUNT_ID).name = _MANAGEMENT.name
    ous = {"": backend.list_roots()["Roots"][0]["Id"]}
    accounts = [Account(CENTRAL_ACCOUNT_ID, _MANAGEMENT)]
    for place in _places(count - 1):
        accounts.append(_created(backend, place, _ou(backend, ous, place.ou), len(accounts)))
    for account in accounts:
        _create_roles(account)
    return Organization(accounts)


def _places(count: int) -> list[Place]:
    more = (
        Place(f"{team}-{number:02}-{stage.lower()}", f"Workloads/{stage}", team)
        for number, team, stage in product(range(1, 12), _MORE_TEAMS, ("Prod", "NonProd"))
    )
    return [*_PLACES, *more][:count]


def _ou(backend: OrganizationsBackend, ous: dict[str, str], path: str) -> str:
    """Give the id of an OU, made on first use, with those above it."""
    if path not in ous:
        above, _, name = path.rpartition("/")
        made = backend.create_organizational_unit(Name=name, ParentId=_ou(backend, ous, above))
        ous[path] = made["OrganizationalUnit"]["Id"]
    return ous[path]


def _created(backend: OrganizationsBackend, place: Place, ou_id: str, number: int) -> Account:
    status = backend.create_account(AccountName=place.name, Email=f"aws-{number}@example.com")
    account = backend.get_account_by_id(status["CreateAccountStatus"]["AccountId"])
    backend.move_account(AccountId=account.id, SourceParentId=account.parent_id, DestinationParentId=ou_id)
    # moto pages through accounts by the time they joined, and would lose those of one moment.
    account.create_time += timedelta(seconds=number)
    if place.suspended:
        backend.close_account(AccountId=account.id)
    return Account(account.id, place)


def _create_roles(account: Account) -> None:
    names = [FUNCTION_ROLE] if account.place.refuses else [FUNCTION_ROLE, ROLE]
    for name in names:
        iam_backends[account.id]["aws"].create_role(
            role_name=name,
            assume_role_policy_document=_TRUST,
            path="/",
            permissions_boundary=None,
            description="",
            tags=[],
            max_session_duration="3600",
        )
