"""Reads what the functions of one unit serve: their published versions, aliases and provisioned concurrency.

Versions come from one listing of the unit (ListFunctions, FunctionVersion=ALL); only functions that have published
versions are then asked for their aliases and provisioned concurrency, two calls each. Reads only.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import error_code
from scanner.aws.pagination import MARKER, pages
from scanner.core.errors import InternalError
from scanner.inventory.alias_traffic import (
    LATEST,
    Qualifiers,
    VersionProtection,
    published,
    versions_of,
    versions_protection,
)
from scanner.inventory.functions_frame import BrokenAnswer, FunctionsFrame, facts
from scanner.inventory.ledger import Outcome, Unit
from scanner.inventory.sweep import outcome_of
from scanner.inventory.unit_reader import MAX_ITEMS
from scanner.risk.protection import DefenderMatch
from scanner.risk.rules import Rules

# ListAliases and ListProvisionedConcurrencyConfigs API references: the most items a page.
_ALIASES_A_PAGE, _CONFIGS_A_PAGE = 10_000, 50


@dataclass(frozen=True)
class AliasTraffic:
    """What was read of one function; qualifiers None where its versions are known and what serves them is not.

    carries: published versions, and whether they carry the Defender. snap_start: SnapStart.ApplyOn ("" not told).
    provisioned: provisioned concurrency asked for, over all qualifiers.
    """

    carries: Mapping[str, VersionProtection]
    snap_start: str
    qualifiers: Qualifiers | None = None
    provisioned: int = -1


@dataclass(frozen=True)
class UnitAliasTraffic:
    """What was read of a unit, by function name; outcome is not "read" where a fault ended the reading before its end."""

    functions: Mapping[str, AliasTraffic]
    outcome: Outcome = "read"
    detail: str = ""


@dataclass
class _Listed:
    """One listing: each function's SnapStart, and its published versions with their facts."""

    snap_start: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)

    def add(self, configurations: Any, rules: Rules, unit: Unit) -> None:
        plain = [_unqualified(configuration) for configuration in configurations]
        rows = facts(plain, rules.partition, unit.account_id, unit.region, rules.defender.variable_names)
        for configuration, row in zip(plain, rows, strict=True):
            version = configuration["Version"]
            if version == LATEST:
                self.snap_start[row[0]] = _snap_start(configuration)
            else:
                self.versions[row[0], version] = row

    def carries(self, rules: Rules, unit: Unit) -> dict[str, dict[str, VersionProtection]]:
        """Tell of each function's published versions whether they carry the Defender."""
        frame = FunctionsFrame(rules.partition, rules.defender.variable_names)
        frame.add(unit.account_id, unit.region, list(self.versions.values()))
        states = versions_protection(DefenderMatch(frame.finish(), rules))
        of_function: defaultdict[str, dict[str, VersionProtection]] = defaultdict(dict)
        for (name, version), state in zip(self.versions, states, strict=True):
            of_function[name][version] = state
        return of_function


def read_alias_traffic(aws: Aws, unit: Unit, rules: Rules, seconds: float) -> UnitAliasTraffic:
    """Read what the functions of a unit serve, for `seconds` at most.

    A fault in the listing is raised as Aws.call raises it. One after it ends the reading, and what was not read by
    then is told as such. A function that was deleted meanwhile, or whose answer makes no sense, is passed over alone.
    """
    deadline = time.monotonic() + seconds
    listed = _Listed()
    for page in _pages(aws, unit, "list_functions", "Functions", MAX_ITEMS, deadline, FunctionVersion="ALL"):
        listed.add(page, rules, unit)
    carries = listed.carries(rules, unit)
    found = {
        name: AliasTraffic({}, snap_start, qualifiers={}, provisioned=0)
        if name not in carries
        else AliasTraffic(carries[name], snap_start)
        for name, snap_start in listed.snap_start.items()
    }
    try:
        for name in [name for name in found if name in carries]:
            found[name] = _asked(aws, unit, name, found[name], deadline)
    except InternalError:
        raise
    except Exception as error:  # noqa: BLE001 - outcome_of decides what it means
        return UnitAliasTraffic(found, *outcome_of(error))
    return UnitAliasTraffic(found)


def read_function_alias_traffic(
    aws: Aws, unit: Unit, rules: Rules, seconds: float, *, configuration: Mapping[str, Any]
) -> UnitAliasTraffic:
    """Read what one function of a unit serves, for `seconds` at most. configuration: FunctionConfiguration of $LATEST.

    Raises as Aws.call, and BrokenAnswer; a function that was deleted meanwhile is told as read_serving() tells it.
    """
    deadline = time.monotonic() + seconds
    listed = _Listed()
    listed.add([configuration], rules, unit)
    [(name, snap_start)] = listed.snap_start.items()
    found = _asked(aws, unit, name, AliasTraffic({}, snap_start), deadline)
    for version in sorted(published(found.qualifiers or {})):
        answer = aws.call(
            unit.account_id, unit.region, "lambda", "get_function_configuration", deadline=deadline,
            FunctionName=name, Qualifier=version,
        )  # fmt: skip
        listed.add([answer], rules, unit)
    return UnitAliasTraffic({name: replace(found, carries=listed.carries(rules, unit).get(name, {}))})


def _asked(aws: Aws, unit: Unit, name: str, known: AliasTraffic, deadline: float) -> AliasTraffic:
    """Ask one function for its aliases and its provisioned concurrency."""
    try:
        qualifiers = {
            str(alias["Name"]): versions_of(alias)
            for alias in _of_function(aws, unit, "list_aliases", "Aliases", _ALIASES_A_PAGE, name, deadline)
        }
        provisioned = 0
        for config in _of_function(
            aws, unit, "list_provisioned_concurrency_configs", "ProvisionedConcurrencyConfigs", _CONFIGS_A_PAGE,
            name, deadline,
        ):  # fmt: skip
            provisioned += int(config["RequestedProvisionedConcurrentExecutions"])
            qualifier = str(config["FunctionArn"]).rpartition(":")[2]
            # Provisioned on an alias: its versions are known. On a version: that one is called by its number.
            qualifiers.setdefault(qualifier, (qualifier,))
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return known
        raise
    except (BrokenAnswer, KeyError, TypeError, ValueError):
        return known
    return AliasTraffic(known.carries, known.snap_start, qualifiers, provisioned)


def _of_function(
    aws: Aws, unit: Unit, method: str, items: str, page_size: int, name: str, deadline: float
) -> Iterator[dict[str, Any]]:
    for page in _pages(aws, unit, method, items, page_size, deadline, FunctionName=name):
        yield from page


def _pages(
    aws: Aws, unit: Unit, method: str, items: str, page_size: int, deadline: float, **parameters: Any
) -> Iterator[list[dict[str, Any]]]:
    """Give each page's items of one of Lambda's listings."""
    where = (unit.account_id, unit.region, "lambda", method)
    for page in pages(aws, *where, token=MARKER, deadline=deadline, MaxItems=page_size, **parameters):
        if not isinstance(page[items], list):
            raise BrokenAnswer(f"{method}: {items} is no list")
        yield page[items]


def _unqualified(configuration: Any) -> dict[str, Any]:
    """Give an item under its function's own ARN: ALL ends each ARN with the version."""
    try:
        arn = configuration["FunctionArn"].removesuffix(":" + configuration["Version"])
    except (AttributeError, KeyError, TypeError):
        raise BrokenAnswer("list_functions: an item without Version or FunctionArn") from None
    return {**configuration, "FunctionArn": arn}


def _snap_start(configuration: Mapping[str, Any]) -> str:
    snap_start = configuration.get("SnapStart")
    applied = snap_start.get("ApplyOn") if isinstance(snap_start, dict) else None
    return applied if isinstance(applied, str) else ""
