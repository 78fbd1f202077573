"""Reads one unit: every page of its functions, or the reason why not."""

import threading
import time
from collections import Counter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.caller import Aws
from scanner.aws.errors import TimedOut, Unreachable, error_code
from scanner.aws.pagination import MARKER, pages
from scanner.core.errors import AutoDefenderError
from scanner.inventory.functions_frame import BrokenAnswer, facts
from scanner.inventory.ledger import Unit
from scanner.organization.regions import TOKEN_UNKNOWN, is_disabled

# Lambda API reference, ListFunctions: at most 50 functions a page.
MAX_ITEMS = 50
# So many units of a region in a row without an answer, and the region itself is down: asking all the others too
# would take the run's time from the regions that answer.
SILENT_UNITS = 20

Rows = list[tuple[Any, ...]]


class RegionDisabled(AutoDefenderError):
    """The account has not enabled the region; there is nothing to read."""


class RegionSilent(TimedOut):
    """The region gave no answer to many accounts in a row; this one was not asked any more."""


class UnitReader:
    """Reads units on any thread, and remembers which regions do not answer."""

    def __init__(self, aws: Aws, watched_variables: tuple[str, ...], unit_timeout_sec: float) -> None:
        """Take who calls AWS, the variables that we would set, and how long a unit may take."""
        self._aws = aws
        self._watched = watched_variables
        self._seconds = unit_timeout_sec
        self._silent: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read(self, unit: Unit) -> Rows:
        """Give the facts of every function of a unit (frame.facts).

        Raises RegionDisabled, RegionSilent, BrokenAnswer, and what Aws.call raises.
        """
        if self._silent[unit.region] >= SILENT_UNITS:
            raise RegionSilent(
                f"{unit.region} did not answer for {SILENT_UNITS} accounts in a row; not asked any more in this run"
            )
        try:
            rows = self._read_or_explain(unit)
        except (AutoDefenderError, ClientError) as error:
            self._note(unit.region, error)
            raise
        self._note(unit.region, None)
        return rows

    def _note(self, region: str, error: Exception | None) -> None:
        """Count accounts that a region was silent to; an answer of whatever kind begins the count anew.

        What ended before Lambda was asked (no credentials, no time left) says nothing of the region.
        """
        silent = isinstance(error, (TimedOut, Unreachable)) and isinstance(error.__cause__, BotoCoreError)
        answered = error is None or getattr(error, "operation_name", "") == "ListFunctions"
        with self._lock:
            if silent:
                self._silent[region] += 1
            elif answered:
                self._silent[region] = 0

    def _read_or_explain(self, unit: Unit) -> Rows:
        """Read, and look into a token that only this region does not know."""
        try:
            return self._pages(unit)
        except ClientError as error:
            if error_code(error) not in TOKEN_UNKNOWN or error.operation_name == "AssumeRole":
                raise
            if is_disabled(self._aws, unit.account_id, unit.region):
                raise RegionDisabled("the account has not enabled this region") from None
            raise

    def _pages(self, unit: Unit) -> Rows:
        deadline = time.monotonic() + self._seconds
        functions: dict[str, tuple[Any, ...]] = {}
        where = (unit.account_id, unit.region, "lambda", "list_functions")
        for page in pages(self._aws, *where, token=MARKER, deadline=deadline, MaxItems=MAX_ITEMS):
            # By name: a function that moves between pages while they are read must not count twice.
            functions.update((row[0], row) for row in self._facts(unit, page))
        return list(functions.values())

    def _facts(self, unit: Unit, page: dict[str, Any]) -> Rows:
        if not isinstance(page["Functions"], list):
            raise BrokenAnswer("list_functions: Functions is no list")
        return facts(page["Functions"], self._aws.partition, unit.account_id, unit.region, self._watched)
