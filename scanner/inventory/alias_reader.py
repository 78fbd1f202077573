"""Reads what the functions of one unit serve: their published versions, aliases and provisioned concurrency.

Versions come from one listing of the unit (ListFunctions, FunctionVersion=ALL); only functions that have published
versions are then asked for their aliases and provisioned concurrency, two calls each. Reads only.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer, error_code
from scanner.aws.pagination import MARKER, pages
from scanner.inventory.alias_traffic import LATEST, Qualifiers, VersionProtection, published, versions_of
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.inventory.ledger import Unit
from scanner.inventory.unit_reader import MAX_ITEMS
from scanner.settings import Variables

# ListAliases and ListProvisionedConcurrencyConfigs API references: the most items a page.
_ALIASES_A_PAGE, _CONFIGS_A_PAGE = 10_000, 50


@dataclass(frozen=True)
class AliasTraffic:
    """What was read of one function; qualifiers is None where its aliases were not read.

    carries: published versions, and whether they carry the Defender. snap_start: SnapStart.ApplyOn, "" where the
    answer lacks it. provisioned: provisioned concurrency configured, over all qualifiers.
    """

    carries: Mapping[str, VersionProtection]
    snap_start: str
    qualifiers: Qualifiers | None = None
    provisioned: int = -1


@dataclass
class _Listing:
    """Each function's SnapStart, and the facts of its published versions."""

    snap_start: dict[str, str] = field(default_factory=dict)
    versions: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)


class AliasReader:
    """Reads units on any thread."""

    def __init__(
        self,
        aws: Aws,
        watched_variables: Variables,
        versions_protection: Callable[[pd.DataFrame], Sequence[VersionProtection]],
    ) -> None:
        """Take the caller, the variables that a change would set, and what decides which versions are protected.

        versions_protection: takes a functions frame whose rows are published versions, and returns a state a row.
        """
        self._aws = aws
        self._watched = watched_variables
        self._versions_protection = versions_protection

    def read_unit(self, unit: Unit, found: dict[str, AliasTraffic], deadline: float) -> None:
        """Read what the functions of a unit serve into `found`, by function name.

        deadline: a Clock.monotonic() moment. Raises as Aws.call; `found` then has what was read before. A function that
        was deleted meanwhile, or whose answer is malformed, keeps qualifiers None, and the others are read.
        """
        listing = _Listing()
        for page in self._pages(
            unit, "list_functions", "Functions", MAX_ITEMS, deadline, FunctionVersion="ALL"
        ):
            self._add(listing, page, unit)
        carries = self._carries(listing, unit)
        for name, snap_start in listing.snap_start.items():
            found[name] = (
                AliasTraffic(carries[name], snap_start)
                if name in carries
                else AliasTraffic({}, snap_start, qualifiers={}, provisioned=0)
            )
        for name in listing.snap_start:
            if name in carries:
                found[name] = self._with_qualifiers(unit, name, found[name], deadline)

    def read_function(
        self, unit: Unit, found: dict[str, AliasTraffic], deadline: float, *, configuration: Mapping[str, Any]
    ) -> None:
        """Read what one function of a unit serves into `found`, as read_unit does.

        configuration: FunctionConfiguration of $LATEST.
        """
        listing = _Listing()
        self._add(listing, [configuration], unit)
        [(name, snap_start)] = listing.snap_start.items()
        traffic = self._with_qualifiers(unit, name, AliasTraffic({}, snap_start), deadline)
        for version in sorted(published(traffic.qualifiers or {})):
            answer = self._aws.call(
                unit.account_id, unit.region, "lambda", "get_function_configuration", deadline=deadline,
                FunctionName=name, Qualifier=version,
            )  # fmt: skip
            self._add(listing, [answer], unit)
        found[name] = replace(traffic, carries=self._carries(listing, unit).get(name, {}))

    def _add(self, listing: _Listing, configurations: Any, unit: Unit) -> None:
        unqualified = [_unqualified(configuration) for configuration in configurations]
        rows = facts(unqualified, self._aws.partition, unit.account_id, unit.region, self._watched)
        for configuration, row in zip(unqualified, rows, strict=True):
            version = configuration["Version"]
            if version == LATEST:
                listing.snap_start[row[0]] = _snap_start(configuration)
            else:
                listing.versions[row[0], version] = row

    def _carries(self, listing: _Listing, unit: Unit) -> dict[str, dict[str, VersionProtection]]:
        """Return by function name whether each published version carries the Defender."""
        frame = FunctionsFrame()
        frame.add(unit.account_id, unit.region, list(listing.versions.values()))
        states = self._versions_protection(frame.finish())
        by_name: defaultdict[str, dict[str, VersionProtection]] = defaultdict(dict)
        for (name, version), state in zip(listing.versions, states, strict=True):
            by_name[name][version] = state
        return by_name

    def _with_qualifiers(self, unit: Unit, name: str, known: AliasTraffic, deadline: float) -> AliasTraffic:
        """Read the aliases and the provisioned concurrency of one function."""
        try:
            qualifiers = {
                str(alias["Name"]): versions_of(alias)
                for alias in self._items(unit, "list_aliases", "Aliases", _ALIASES_A_PAGE, name, deadline)
            }
            provisioned = 0
            for config in self._items(
                unit, "list_provisioned_concurrency_configs", "ProvisionedConcurrencyConfigs", _CONFIGS_A_PAGE,
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

    def _items(
        self, unit: Unit, method: str, items: str, page_size: int, name: str, deadline: float
    ) -> Iterator[dict[str, Any]]:
        for page in self._pages(unit, method, items, page_size, deadline, FunctionName=name):
            yield from page

    def _pages(
        self, unit: Unit, method: str, items: str, page_size: int, deadline: float, **parameters: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the items of each page of one of Lambda's listings."""
        where = (unit.account_id, unit.region, "lambda", method)
        for page in pages(
            self._aws, *where, token=MARKER, deadline=deadline, MaxItems=page_size, **parameters
        ):
            if not isinstance(page[items], list):
                raise BrokenAnswer(f"{method}: {items} is no list")
            yield page[items]


def _unqualified(configuration: Any) -> dict[str, Any]:
    """Return an item under its function's own ARN: with ALL, each ARN ends with the version."""
    try:
        arn = configuration["FunctionArn"].removesuffix(":" + configuration["Version"])
    except (AttributeError, KeyError, TypeError):
        raise BrokenAnswer("list_functions: an item without Version or FunctionArn") from None
    return {**configuration, "FunctionArn": arn}


def _snap_start(configuration: Mapping[str, Any]) -> str:
    snap_start = configuration.get("SnapStart")
    applied = snap_start.get("ApplyOn") if isinstance(snap_start, dict) else None
    return applied if isinstance(applied, str) else ""
