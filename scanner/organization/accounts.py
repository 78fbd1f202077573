"""The organization's accounts, their OU paths, and which of them are in scope."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer, Throttled, TimedOut, Unreachable, describe, error_code
from scanner.aws.pagination import EndlessPages, pages
from scanner.core.errors import BadInput
from scanner.settings import OrganizationSettings

ACTIVE = "ACTIVE"
COLUMNS = ("account_id", "account_name", "ou_path", "state", "in_scope", "detail", "ou_ids")


@dataclass(frozen=True)
class _Ou:
    """An OU or the root: its names from the root down, and the ids of itself and all above it."""

    names: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass
class _Tree:
    """The organization's OUs by id, and each account's parent."""

    ous: dict[str, _Ou] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)


def list_accounts(aws: Aws, settings: OrganizationSettings, deadline: float | None = None) -> pd.DataFrame:
    """Return every account of the organization, one row each, by account id.

    Columns: account_id, account_name, ou_path (names from the root down, joined by "/"), state (Organizations'
    AccountState), in_scope (bool), detail (why an account is out of scope), ou_ids (ids from the root down, joined by
    one space).

    deadline: a Clock.monotonic() moment. Raises BadInput where Organizations refuses, where no account is in scope, or where the configuration names an
    OU that the organization does not have: a misspelt exclusion must not mean that nothing is excluded.
    """
    try:
        listed = list(_pages(aws, "list_accounts", "Accounts", deadline))
        tree = _tree(aws, listed, deadline)
    except ClientError as error:
        raise BadInput(_refused(error)) from None
    except (Throttled, TimedOut, Unreachable, BrokenAnswer) as error:
        raise BadInput(f"the organization's accounts could not be listed: {error}; try again later") from None
    _check_ous(settings, tree)
    rows = [_row(account, tree, settings) for account in listed]
    accounts = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("account_id", ignore_index=True)
    if not (accounts["in_scope"] & (accounts["state"] == ACTIVE)).any():
        raise BadInput(
            f"no active account is in scope ({len(accounts)} listed); look at organization.include_ous and exclude_*"
        )
    return accounts


def out_of_scope(
    units: Iterable[tuple[str, str]], accounts: pd.DataFrame, settings: OrganizationSettings
) -> dict[tuple[str, str], str]:
    """Return why no run sweeps or changes a unit, for those of the units (account id, region) that are out of scope.

    accounts: from list_accounts. Opt-outs are not looked at: the risk engine does that.
    """
    listed = {account.account_id: account for account in accounts.itertuples(index=False)}
    reasons = {unit: _outside(*unit, listed.get(unit[0]), settings) for unit in units}
    return {unit: reason for unit, reason in reasons.items() if reason}


def _outside(account_id: str, region: str, account: Any, settings: OrganizationSettings) -> str:
    """Return why a unit is out of scope, "" where it is not. account: its row of list_accounts, None where it has none."""
    if account is None:
        return f"the organization has no account {account_id}"
    if not account.in_scope:
        return str(account.detail)
    if account.state != ACTIVE:
        return f"account state {account.state}"
    if settings.regions != "enabled" and region not in settings.regions:
        return f"organization.regions has no {region}"
    return ""


def _refused(error: ClientError) -> str:
    if error_code(error) == "AWSOrganizationsNotInUseException":
        return (
            "this account is in no organization; run from the management account or a delegated administrator"
        )
    return (
        f"the organization's accounts could not be listed: {describe(error)}; allow organizations:List* here"
    )


def _pages(
    aws: Aws, method: str, key: str, deadline: float | None, **parameters: Any
) -> Iterator[dict[str, Any]]:
    """Yield the items of every page."""
    where = (aws.central_account_id, aws.home_region, "organizations", method)
    try:
        for page in pages(aws, *where, deadline=deadline, **parameters):
            yield from page[key]
    except EndlessPages:
        raise BadInput(f"organizations {method}: the same page came twice; try again later") from None


def _tree(aws: Aws, listed: list[dict[str, Any]], deadline: float | None) -> _Tree:
    """Read the OUs from the root down, and their accounts only where ListAccounts did not return their Paths."""
    tree = _Tree()
    for account in listed:
        if account.get("Paths"):
            tree.parents[account["Id"]] = _parent_in(account["Paths"][0])
    list_members = len(tree.parents) < len(listed)
    todo = deque(
        (root["Id"], _Ou((root["Name"],), (root["Id"],)))
        for root in _pages(aws, "list_roots", "Roots", deadline)
    )
    while todo:
        ou_id, ou = todo.popleft()
        tree.ous[ou_id] = ou
        for child in _pages(
            aws, "list_organizational_units_for_parent", "OrganizationalUnits", deadline, ParentId=ou_id
        ):
            todo.append((child["Id"], _Ou((*ou.names, child["Name"]), (*ou.ids, child["Id"]))))
        if list_members:
            for account in _pages(aws, "list_accounts_for_parent", "Accounts", deadline, ParentId=ou_id):
                tree.parents[account["Id"]] = ou_id
    return tree


def _parent_in(path: str) -> str:
    """Return the account's parent from a path: o-…/r-…/ou-…/…/account/."""
    return next((part for part in reversed(path.split("/")) if part.startswith(("ou-", "r-"))), "")


def _check_ous(settings: OrganizationSettings, tree: _Tree) -> None:
    for key in ("include_ous", "exclude_ous"):
        for ou_id in getattr(settings, key):
            if ou_id not in tree.ous:
                raise BadInput(f"organization.{key}: the organization has no OU {ou_id}; fix or remove it")


def _row(account: dict[str, Any], tree: _Tree, settings: OrganizationSettings) -> tuple[Any, ...]:
    ou = tree.ous.get(tree.parents.get(account["Id"], ""), _Ou((), ()))
    # AWS retired Status on 2026-09-09; State took its place, and older endpoints know only Status.
    state = account.get("State") or account.get("Status") or "UNKNOWN"
    detail = _out_of_scope(account["Id"], ou, settings)
    name, path = account.get("Name", ""), "/".join(ou.names)
    return account["Id"], name, path, state, not detail, detail, " ".join(ou.ids)


def _out_of_scope(account_id: str, ou: _Ou, settings: OrganizationSettings) -> str:
    if account_id in settings.exclude_accounts:
        return "organization.exclude_accounts"
    if settings.exclude_ous and not ou.ids:
        return "its OU could not be found, and organization.exclude_ous may name it"
    for ou_id in ou.ids:
        if ou_id in settings.exclude_ous:
            return f"organization.exclude_ous: {ou_id}"
    if settings.include_ous and not set(ou.ids) & set(settings.include_ous):
        return "outside organization.include_ous"
    return ""
