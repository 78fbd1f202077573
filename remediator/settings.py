"""The configuration section `rollout`: what may be changed, and how much of it at once."""

from typing import Annotated

from pydantic import Field, StringConstraints

from scanner.settings import Many, Settings, Tag

_Glob = Annotated[str, StringConstraints(min_length=1, max_length=140)]


class RolloutSettings(Settings):
    """Limits on changes. `dry_run` is on until someone turns it off."""

    dry_run: bool = True
    require_tag: Tag | None = None
    optout_tag: Tag | None = None
    exclusion_list: Many[_Glob] = ()
    max_changes_per_run: Annotated[int, Field(ge=1, le=100_000)] = 500
    max_changes_per_account: Annotated[int, Field(ge=1, le=100_000)] = 50
    stop_after_failure_pct: Annotated[float, Field(ge=0, le=100, strict=False)] = 5.0
