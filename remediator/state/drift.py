"""Drift: functions that lost the Defender because their own pipeline deployed them again without it.

One that would be protected a fourth time is left alone: its owner gets a snippet that makes it permanent.
"""

from dataclasses import dataclass

GIVE_UP_AFTER = 3


@dataclass(frozen=True)
class ProtectionCount:
    """How often a function was protected, by which run and when (ISO 8601, UTC) last."""

    times: int
    run_id: str
    at: str

    @property
    def given_up(self) -> bool:
        """Return whether it was protected, and lost it, too often to go on."""
        return self.times >= GIVE_UP_AFTER
