"""The doctor's findings. An examination that fails is one more of them, and the next one begins."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from scanner.aws.errors import BrokenAnswer, Throttled, TimedOut, Unreachable, describe
from scanner.core.errors import AutoDefenderError, InternalError

log = logging.getLogger(__name__)

T = TypeVar("T")
Level = Literal["ok", "warning", "problem"]
# What Aws.call raises where AWS refused, or gave no good answer.
CALL_FAILED = (ClientError, Throttled, TimedOut, Unreachable, BrokenAnswer)
_NOT_CHECKED = "Fix this, then run doctor again: what depends on it was not checked."


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do about it ("" where nothing)."""

    level: Level
    what: str
    found: str
    remedy: str = ""


class Findings:
    """The findings so far, in order."""

    def __init__(self) -> None:
        """Start without any."""
        self.all: list[Finding] = []
        self._defects = 0

    @property
    def problems(self) -> int:
        """Return the number of problems."""
        return sum(finding.level == "problem" for finding in self.all)

    @property
    def exit_code(self) -> int:
        """Return 1 after an internal error, 3 with problems (units would not be read), 0 without."""
        if self._defects:
            return 1
        return 3 if self.problems else 0

    def examine(self, what: str, examination: Callable[[], Iterable[Finding]]) -> None:
        """Add an examination's findings; where it fails, those until then and the error."""

        def collect() -> None:
            for finding in examination():
                self.all.append(finding)

        self.open(what, collect)

    def open(self, what: str, part: Callable[[], T]) -> T | None:
        """Return what examinations need; where that fails, add the error and return None."""
        try:
            return part()
        except Exception as error:  # noqa: BLE001 - each error is a finding, and the rest is examined
            self._add_error(what, error)
            return None

    def _add_error(self, what: str, error: Exception) -> None:
        known = isinstance(error, (AutoDefenderError, ClientError, BotoCoreError))
        if known and not isinstance(error, InternalError):
            self.all.append(Finding("problem", what, describe(error), _NOT_CHECKED))
            return
        log.error("internal error", exc_info=error)
        self._defects += 1
        found = f"internal error: {describe(error)}"
        self.all.append(Finding("problem", what, found, "Please report it with the log above."))
