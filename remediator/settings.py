"""The configuration section `rollout`: what may be changed, how much of it at once, in which order, and what is watched."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from scanner.core.settings import AccountId, Many, OuId, Settings, Tag

_Glob = Annotated[str, StringConstraints(min_length=1, max_length=140)]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
_Pct = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_Parameter = Annotated[str, StringConstraints(pattern=r"^ssm:[a-zA-Z0-9_./-]+$", max_length=1015)]


class WaveSettings(Settings):
    """Functions that are changed together: those of the accounts, below the OUs, or with the tag; any of these is enough.

    The next wave opens soak_hours after this one's last function was changed, and only if it is in good health: at most
    these shares of its changes failed or regressed, and at least min_healthy functions were seen healthy.
    """

    name: _Name
    accounts: Many[AccountId] = ()
    ous: Many[OuId] = ()
    tag: Tag | None = None
    soak_hours: Annotated[float, Field(ge=0, le=8_760, allow_inf_nan=False)] = 24.0
    max_failed_pct: _Pct = 5.0
    max_regressed_pct: _Pct = 0.0
    min_healthy: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not (self.accounts or self.ous or self.tag):
            raise ValueError(f"wave '{self.name}' selects no function; give it accounts, ous or a tag")
        return self


class HealthSettings(Settings):
    """How changed functions are watched. CloudWatch bills eight metrics a watched function and run."""

    enabled: bool = True
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    min_invocations: Annotated[int, Field(ge=1)] = 50
    # More regressed functions than this within `hours`, and nothing more is changed.
    max_regressed: Annotated[int, Field(ge=0)] = 3


class RolloutSettings(Settings):
    """Limits on changes. `dry_run` is on until someone turns it off."""

    dry_run: bool = True
    require_tag: Tag | None = None
    optout_tag: Tag | None = None
    exclusion_list: Many[_Glob] = ()
    max_changes_per_run: Annotated[int, Field(ge=1, le=100_000)] = 500
    max_changes_per_account: Annotated[int, Field(ge=1, le=100_000)] = 50
    stop_after_failure_pct: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 5.0
    # Read before each batch, beside state/stop; changes go on only while the parameter's value is "off".
    kill_switch: _Parameter | None = None
    health: HealthSettings = HealthSettings()
    waves: Many[WaveSettings] = ()
    # A deployment is often more than one call: an update between two of them makes AWS refuse the owner's next.
    quiet_minutes: Annotated[int, Field(ge=0, le=1_440)] = 10
    notice_days: Annotated[int, Field(ge=0, le=60)] = 0

    @property
    def notice(self) -> timedelta:
        """Return notice_days as a duration."""
        return timedelta(days=self.notice_days)

    @property
    def quiet_time(self) -> timedelta:
        """Return quiet_minutes as a duration."""
        return timedelta(minutes=self.quiet_minutes)

    @model_validator(mode="after")
    def _waves_fit(self) -> Self:
        names = [wave.name for wave in self.waves]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two waves are named '{name}'")
        for wave in self.waves:
            if wave.min_healthy and not self.health.enabled:
                raise ValueError(
                    f"wave '{wave.name}' needs healthy functions and nothing watches them; enable health, or set its "
                    "min_healthy to 0"
                )
            if self.health.enabled and wave.soak_hours > self.health.hours:
                raise ValueError(
                    f"wave '{wave.name}' soaks for longer than functions are watched; raise health.hours to "
                    f"{wave.soak_hours:g} (at most 168), or lower its soak_hours"
                )
        return self
