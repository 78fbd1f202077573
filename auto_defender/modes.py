"""When a run writes."""

from auto_defender.config import Configuration
from reports.data.run_result import Mode


def mode_of(settings: Configuration, *, apply: bool = False) -> Mode:
    """Give a run's mode: it writes where --apply says so, or where the configuration turns dry_run off."""
    return "apply" if apply or not settings.rollout.dry_run else "dry_run"
