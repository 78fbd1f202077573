"""Failures: a function that could not be changed is tried again after an hour, two, four, up to a week.

Whatever the cause: what AWS refuses for good by its message, an administrator may have fixed since.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.change.records import Action
from remediator.state.fields import Moment

_FIRST_BACKOFF, _LONGEST_BACKOFF = timedelta(hours=1), timedelta(days=7)


@dataclass(frozen=True)
class Failure:
    """A function that could not be changed, `times` in a row. Valid while function and configuration are as they were.

    detail: of changes.csv. revision_id: the function's since then, "" where it is not known. run_id, at (ISO 8601, UTC):
    of the last attempt.
    """

    detail: str
    action: Action
    revision_id: str
    config_digest: str
    run_id: str
    at: Moment
    times: int = 1

    @property
    def next_try(self) -> datetime:
        """Return when it is tried again (UTC)."""
        # Far more doublings than a week has would overflow.
        doubled: timedelta = _FIRST_BACKOFF * 2 ** min(self.times - 1, 10)
        return datetime.fromisoformat(self.at) + min(doubled, _LONGEST_BACKOFF)

    def is_of(self, revision_id: str, config_digest: str) -> bool:
        """Return whether function and configuration are those that it failed with."""
        return self.revision_id in {"", revision_id} and self.config_digest == config_digest

    @property
    def says(self) -> str:
        """Return it in words."""
        times = "once" if self.times == 1 else f"{self.times} times in a row"
        return f"{self.detail}; tried {times}, again from {self.next_try:%Y-%m-%d %H:%M} UTC on"
