"""The opt-out file: which accounts, regions and functions are not changed, why, and until when."""

import fnmatch
import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from scanner.core.errors import BadInput
from scanner.core.settings import AccountId, Many, RegionName, Settings, validated
from scanner.core.strict_yaml import read_yaml

ALL_REGIONS = "*"
_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class OptOut(Settings):
    """One entry: an account ("*" for all), optionally some regions, optionally some functions (globs).

    remove: what we added to these functions is taken off.
    """

    account: AccountId | Literal["*"]
    regions: Annotated[Many[RegionName], Field(min_length=1)] | None = None
    functions: Annotated[Many[_Text], Field(min_length=1)] | None = None
    reason: _Text
    owner: _Text
    expires: date | None = None
    remove: bool = False

    def in_force(self, today: date) -> bool:
        """Return whether the entry applies; the day it expires on is its last."""
        return self.expires is None or today <= self.expires

    def covers_unit(self, account_id: str, region: str) -> bool:
        """Return whether the entry names this account and region."""
        return self.account in ("*", account_id) and (self.regions is None or region in self.regions)

    def removes_in(self, account_id: str, region: str) -> bool:
        """Return whether something may have to be removed in this account and region, or in one of ALL_REGIONS."""
        return self.remove and (
            self.covers_unit(account_id, region)
            or (region == ALL_REGIONS and self.account in ("*", account_id))
        )


class _File(Settings):
    optouts: Many[OptOut]


@dataclass(frozen=True)
class OptOuts:
    """All entries of the file, the expired ones included (reports show them)."""

    entries: tuple[OptOut, ...] = ()

    def unit(self, account_id: str, region: str, today: date) -> OptOut | None:
        """Return the entry that takes a whole unit out of the sweep, if there is one.

        None where another one removes: functions must be read for that. One for all accounts reads none that an entry of
        its own takes out: the central account may have no role there. region: ALL_REGIONS for those of an account.
        """
        in_force = [entry for entry in self.entries if entry.in_force(today)]
        whole = [
            entry
            for entry in in_force
            if entry.functions is None and not entry.remove and entry.covers_unit(account_id, region)
        ]
        by_name = any(entry.account == account_id for entry in whole)
        removes = any(
            entry.removes_in(account_id, region) and not (by_name and entry.account == "*")
            for entry in in_force
        )
        return None if removes else next(iter(whole), None)

    def patterns(self, account_id: str, region: str, today: date) -> tuple[str, ...]:
        """Return the globs of function names that are opted out in a unit ('*' for a whole unit)."""
        return tuple(
            pattern
            for entry in self.entries
            if entry.in_force(today) and entry.covers_unit(account_id, region)
            for pattern in entry.functions or ("*",)
        )


def glob_regex(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Compile globs into one expression for fullmatch; names are case-sensitive."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def read_optouts(text: bytes, source: str) -> OptOuts:
    """Read an opt-out file.

    Raises BadInput where it is empty or malformed: an opt-out file that can't be read never means
    "nobody opted out", which is written `optouts: []`.
    """
    document = read_yaml(text, source)
    if document.data is None:
        raise BadInput(f"{source}: empty; write 'optouts: []' if nobody has opted out")
    return OptOuts(validated(_File, document).optouts)
