"""The organization's accounts: state, OU path, scope; and refusals in one line."""

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scanner.aws.errors import BrokenAnswer, Throttled
from scanner.core.errors import BadInput
from scanner.organization.accounts import list_accounts, out_of_scope
from scanner.settings import OrganizationSettings

ROOT = "r-root"
OUS = {
    ROOT: [("ou-root-workload", "Workloads"), ("ou-root-sandbox1", "Sandbox")],
    "ou-root-workload": [("ou-root-prodprod", "Prod")],
}
MEMBERS = {
    ROOT: ["000000000001"],
    "ou-root-prodprod": ["000000000002", "000000000003"],
    "ou-root-sandbox1": ["000000000004"],
}
PATHS = {
    "000000000001": "o-org/r-root/000000000001/",
    "000000000002": "o-org/r-root/ou-root-workload/ou-root-prodprod/000000000002/",
    "000000000003": "o-org/r-root/ou-root-workload/ou-root-prodprod/000000000003/",
    "000000000004": "o-org/r-root/ou-root-sandbox1/000000000004/",
}


class Organization:
    """Answers as Organizations does, a page of two accounts at a time."""

    home_region = "us-east-1"
    central_account_id = "000000000001"

    def __init__(
        self, *, paths: bool = False, status_only: bool = False, states: dict[str, str] | None = None
    ) -> None:
        self.paths = paths
        self.status_only = status_only
        self.states = states or {}
        self.asked: Counter[str] = Counter()

    def call(
        self, account_id: str, region: str, service: str, method: str, *, deadline: None, **parameters: Any
    ) -> dict[str, Any]:
        assert (account_id, service) == (self.central_account_id, "organizations")
        self.asked[method] += 1
        return getattr(self, method)(**parameters)

    def list_accounts(self, NextToken: str = "0") -> dict[str, Any]:
        start = int(NextToken)
        page = [self.account(account_id) for account_id in sorted(PATHS)[start : start + 2]]
        more = {"NextToken": str(start + 2)} if start + 2 < len(PATHS) else {}
        return {"Accounts": page, **more}

    def account(self, account_id: str) -> dict[str, Any]:
        state = self.states.get(account_id, "ACTIVE")
        status = {"Status": state} if self.status_only else {"State": state}
        return {
            "Id": account_id,
            "Name": f"name {account_id}",
            **status,
            **({"Paths": [PATHS[account_id]]} if self.paths else {}),
        }

    def list_roots(self) -> dict[str, Any]:
        return {"Roots": [{"Id": ROOT, "Name": "Root"}]}

    def list_organizational_units_for_parent(self, ParentId: str) -> dict[str, Any]:
        return {"OrganizationalUnits": [{"Id": i, "Name": n} for i, n in OUS.get(ParentId, [])]}

    def list_accounts_for_parent(self, ParentId: str) -> dict[str, Any]:
        return {"Accounts": [{"Id": i} for i in MEMBERS.get(ParentId, [])]}


def settings(**keys: Any) -> OrganizationSettings:
    return OrganizationSettings(role_name="R", regions=("us-east-1",), **keys)


@pytest.mark.parametrize("paths", [True, False])
def test_every_account_with_its_ou_path(paths: bool) -> None:
    organization = Organization(paths=paths)
    accounts = list_accounts(organization, settings())
    assert accounts["account_id"].tolist() == sorted(PATHS)
    assert accounts["ou_path"].tolist() == [
        "Root",
        "Root/Workloads/Prod",
        "Root/Workloads/Prod",
        "Root/Sandbox",
    ]
    assert accounts["in_scope"].all()
    assert organization.asked["list_accounts_for_parent"] == (0 if paths else 4)


@pytest.mark.parametrize("status_only", [True, False])
def test_accounts_that_are_not_active_stay_in_the_list(status_only: bool) -> None:
    organization = Organization(status_only=status_only, states={"000000000004": "SUSPENDED"})
    accounts = list_accounts(organization, settings())
    assert accounts["state"].tolist() == ["ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDED"]


def test_an_ou_includes_and_excludes_what_is_nested_in_it() -> None:
    included = list_accounts(Organization(), settings(include_ous=("ou-root-workload",)))
    assert included.loc[included["in_scope"], "account_id"].tolist() == ["000000000002", "000000000003"]
    excluded = list_accounts(Organization(paths=True), settings(exclude_ous=("ou-root-workload",)))
    assert excluded.loc[excluded["in_scope"], "account_id"].tolist() == ["000000000001", "000000000004"]
    assert excluded.loc[1, "detail"] == "organization.exclude_ous: ou-root-workload"


def test_an_exclusion_wins_over_an_inclusion() -> None:
    keys = {"include_ous": ("ou-root-workload",), "exclude_accounts": ("000000000002",)}
    accounts = list_accounts(Organization(), settings(**keys))
    assert accounts.loc[accounts["in_scope"], "account_id"].tolist() == ["000000000003"]


@pytest.mark.parametrize("key", ["include_ous", "exclude_ous"])
def test_an_ou_that_does_not_exist_is_refused(key: str) -> None:
    with pytest.raises(BadInput, match=rf"organization\.{key}: the organization has no OU ou-root-misspelt"):
        list_accounts(Organization(), settings(**{key: ("ou-root-misspelt",)}))


def test_what_is_out_of_scope_is_named_with_the_reason() -> None:
    excluding = settings(exclude_accounts=("000000000002",), exclude_ous=("ou-root-sandbox1",))
    accounts = list_accounts(Organization(states={"000000000003": "SUSPENDED"}), excluding)
    everywhere = settings().model_copy(update={"regions": "enabled"})
    units = [(account_id, "us-east-1") for account_id in (*PATHS, "999999999999")]
    assert out_of_scope([*units, ("000000000001", "us-west-2")], accounts, excluding) == {
        ("000000000002", "us-east-1"): "organization.exclude_accounts",
        ("000000000003", "us-east-1"): "account state SUSPENDED",
        ("000000000004", "us-east-1"): "organization.exclude_ous: ou-root-sandbox1",
        ("999999999999", "us-east-1"): "the organization has no account 999999999999",
        ("000000000001", "us-west-2"): "organization.regions has no us-west-2",
    }
    assert out_of_scope([("000000000001", "us-west-2")], accounts, everywhere) == {}


def test_no_active_account_in_scope_is_refused() -> None:
    with pytest.raises(BadInput, match="no active account is in scope"):
        list_accounts(Organization(states=dict.fromkeys(PATHS, "SUSPENDED")), settings())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListAccounts"),
            "allow organizations:List",
        ),
        (
            ClientError(
                {"Error": {"Code": "AWSOrganizationsNotInUseException", "Message": ""}}, "ListAccounts"
            ),
            "in no organization",
        ),
        (Throttled("ListAccounts: slow down"), "try again later"),
        (BrokenAnswer("list_accounts: the answer lacks Accounts"), "try again later"),
    ],
)
def test_a_refusal_is_one_line(error: Exception, said: str) -> None:
    class Refusing(Organization):
        def list_accounts(self, NextToken: str = "0") -> dict[str, Any]:
            raise error

    with pytest.raises(BadInput, match=said):
        list_accounts(Refusing(), settings())


def test_a_page_that_repeats_for_ever_ends() -> None:
    class Endless(Organization):
        def list_accounts(self, NextToken: str = "0") -> dict[str, Any]:
            return {"Accounts": [], "NextToken": "again"}

    with pytest.raises(BadInput, match="the same page came twice"):
        list_accounts(Endless(), settings())


def test_an_account_whose_ou_is_not_known_does_not_escape_an_exclusion() -> None:
    class Moving(Organization):
        def list_accounts_for_parent(self, ParentId: str) -> dict[str, Any]:
            return {"Accounts": []}

    accounts = list_accounts(Moving(), settings())
    assert accounts["in_scope"].all()
    with pytest.raises(BadInput, match="no active account is in scope"):
        list_accounts(Moving(), settings(exclude_ous=("ou-root-sandbox1",)))
