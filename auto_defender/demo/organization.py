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
class AccountSpec:
    """An account to create: its name, its OU path, the subject of its functions, and what is special about it."""

    name: str
    ou: str
    domain: str
    suspended: bool = False
    denies_access: bool = False
    opted_out: bool = False


@dataclass(frozen=True)
class Account:
    """An account that exists."""

    id: str
    spec: AccountSpec


@dataclass
class Organization:
    """The accounts, and the ARNs of the functions that are to be quarantined."""

    accounts: list[Account]
    quarantined: list[str] = field(default_factory=list)


_MANAGEMENT = AccountSpec("management", "", "org")
# The first ones exist in an organization of any size.
_SPECS = (
    AccountSpec("acquired-retail-prod", "Acquisitions", "retail", denies_access=True),
    AccountSpec("legacy-crm", "Suspended", "crm", suspended=True),
    AccountSpec("payments-prod", "Workloads/Prod", "payments"),
    AccountSpec("trading-prod", "Workloads/Prod", "trading", opted_out=True),
    AccountSpec('sandbox "><img src=x onerror=alert(1)>', "Sandbox/<b>R&D</b> labs", "sandbox"),
    AccountSpec("fraud-prod", "Workloads/Prod", "fraud"),
    AccountSpec("data-platform-prod", "Workloads/Prod", "data-platform"),
    AccountSpec("checkout-prod", "Workloads/Prod", "checkout"),
    AccountSpec("customer-portal-prod", "Workloads/Prod", "portal"),
    AccountSpec("identity-prod", "Workloads/Prod", "identity"),
    AccountSpec("notifications-prod", "Workloads/Prod", "notifications"),
    AccountSpec("payments-staging", "Workloads/NonProd", "payments"),
    AccountSpec("fraud-staging", "Workloads/NonProd", "fraud"),
    AccountSpec("checkout-dev", "Workloads/NonProd", "checkout"),
    AccountSpec("data-platform-dev", "Workloads/NonProd", "data-platform"),
    AccountSpec("log-archive", "Security", "logs"),
    AccountSpec("security-tooling", "Security", "security"),
    AccountSpec("network", "Infrastructure", "network"),
    AccountSpec("shared-services", "Infrastructure", "shared"),
    AccountSpec("ci-cd", "Infrastructure", "ci"),
    AccountSpec("ml-research", "Sandbox", "ml"),
    AccountSpec('=HYPERLINK("http://evil.example","sandbox-eu")', "Sandbox", "sandbox"),
    AccountSpec("sandbox-\u202egnp.evil", "Sandbox/<b>R&D</b> labs", "sandbox"),
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
    for spec in _specs(count - 1):
        accounts.append(_created(backend, spec, _ou(backend, ous, spec.ou), len(accounts)))
    for account in accounts:
        _create_roles(account)
    return Organization(accounts)


def _specs(count: int) -> list[AccountSpec]:
    more = (
        AccountSpec(f"{team}-{number:02}-{stage.lower()}", f"Workloads/{stage}", team)
        for number, team, stage in product(range(1, 12), _MORE_TEAMS, ("Prod", "NonProd"))
    )
    return [*_SPECS, *more][:count]


def _ou(backend: OrganizationsBackend, ous: dict[str, str], path: str) -> str:
    """Return the id of an OU, made on first use, with those above it."""
    if path not in ous:
        above, _, name = path.rpartition("/")
        made = backend.create_organizational_unit(Name=name, ParentId=_ou(backend, ous, above))
        ous[path] = made["OrganizationalUnit"]["Id"]
    return ous[path]


def _created(backend: OrganizationsBackend, spec: AccountSpec, ou_id: str, number: int) -> Account:
    status = backend.create_account(AccountName=spec.name, Email=f"aws-{number}@example.com")
    account = backend.get_account_by_id(status["CreateAccountStatus"]["AccountId"])
    backend.move_account(AccountId=account.id, SourceParentId=account.parent_id, DestinationParentId=ou_id)
    # moto pages through accounts by the time they joined, and would lose those of one moment.
    account.create_time += timedelta(seconds=number)
    if spec.suspended:
        backend.close_account(AccountId=account.id)
    return Account(account.id, spec)


def _create_roles(account: Account) -> None:
    names = [FUNCTION_ROLE] if account.spec.denies_access else [FUNCTION_ROLE, ROLE]
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
