"""Reads the functions of one unit, and stops calling a region that answers nobody."""

import threading
from collections import Counter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer, TimedOut, Unreachable, error_code
from scanner.aws.pagination import MARKER, pages
from scanner.core.errors import AutoDefenderError
from scanner.inventory.functions_frame import facts
from scanner.inventory.ledger import Unit
from scanner.organization.regions import TOKEN_UNKNOWN, RegionDisabled, is_disabled
from scanner.settings import Variables

# Lambda API reference, ListFunctions: at most 50 functions a page.
MAX_ITEMS = 50
# A region is silent once it has answered none of so many units in a row. One slow account, or a few, are not enough.
SILENT_UNITS = 20
# How long a unit waits for its first page: two attempts of 30 s. Each unit in a row that a region did not answer
# divides that by three, down to the shortest wait, so that few workers reach SILENT_UNITS soon, too.
FIRST_PAGE_SECONDS, SHORTEST_WAIT_SECONDS = 60.0, 3.0

Rows = list[tuple[Any, ...]]


class RegionSilent(TimedOut):
    """The region answered none of many units in a row; this unit was not called."""


class UnitReader:
    """Reads units on any thread, and counts for each region the units in a row that got no answer."""

    def __init__(self, aws: Aws, watched_variables: Variables) -> None:
        """Take the caller, and the variables that a change would set."""
        self._aws = aws
        self._watched = watched_variables
        self._silent: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read(self, unit: Unit, deadline: float) -> Rows:
        """Return the facts of every function of a unit (functions_frame.facts).

        deadline: a Clock.monotonic() moment. Raises RegionDisabled, RegionSilent, BrokenAnswer, and as Aws.call.
        """
        silent = self._silent[unit.region]
        if silent >= SILENT_UNITS:
            raise RegionSilent(
                f"{unit.region} did not answer for {SILENT_UNITS} accounts in a row; not asked any more in this run"
            )
        wait = max(FIRST_PAGE_SECONDS / 3**silent, SHORTEST_WAIT_SECONDS)
        try:
            rows = self._read_or_explain(unit, min(deadline, self._aws.clock.monotonic() + wait), deadline)
        except (AutoDefenderError, ClientError) as error:
            self._count(unit.region, error)
            raise
        self._count(unit.region, None)
        return rows

    def _count(self, region: str, error: Exception | None) -> None:
        """Count a unit without an answer; an answer of any kind from Lambda resets the count.

        An error before Lambda was called (no credentials, no time left) does neither.
        """
        silent = isinstance(error, (TimedOut, Unreachable)) and isinstance(error.__cause__, BotoCoreError)
        # Throttled and Unreachable have AWS's answer as their cause.
        answer = error.__cause__ if error and error.__cause__ else error
        answered = error is None or getattr(answer, "operation_name", "") == "ListFunctions"
        with self._lock:
            if silent:
                self._silent[region] += 1
            elif answered:
                self._silent[region] = 0

    def _read_or_explain(self, unit: Unit, first_deadline: float, deadline: float) -> Rows:
        """Read a unit; where its region does not know the token, find out whether the account has disabled it."""
        try:
            return self._read_pages(unit, first_deadline, deadline)
        except ClientError as error:
            if error_code(error) not in TOKEN_UNKNOWN or error.operation_name == "AssumeRole":
                raise
            if is_disabled(self._aws, unit.account_id, unit.region):
                raise RegionDisabled("the account has not enabled this region") from None
            raise

    def _read_pages(self, unit: Unit, first_deadline: float, deadline: float) -> Rows:
        functions: dict[str, tuple[Any, ...]] = {}
        where = (unit.account_id, unit.region, "lambda", "list_functions")
        listing = pages(
            self._aws,
            *where,
            token=MARKER,
            deadline=deadline,
            first_deadline=first_deadline,
            MaxItems=MAX_ITEMS,
        )
        for page in listing:
            # By name: a function that moves between pages while they are read must not count twice.
            functions.update((row[0], row) for row in self._facts(unit, page))
        return list(functions.values())

    def _facts(self, unit: Unit, page: dict[str, Any]) -> Rows:
        if not isinstance(page["Functions"], list):
            raise BrokenAnswer("list_functions: Functions is no list")
        return facts(page["Functions"], self._aws.partition, unit.account_id, unit.region, self._watched)
