"""The input of the risk engine besides the frame: the configuration's rules, the opt-outs and the quarantine."""

from dataclasses import dataclass, field, replace

from scanner.core.settings import Tag
from scanner.organization.optouts import OptOuts
from scanner.settings import DefenderSettings, RiskSettings


@dataclass(frozen=True)
class Rules:
    """Everything besides the frame and the day that decides a verdict."""

    partition: str
    risk: RiskSettings
    defender: DefenderSettings
    optouts: OptOuts = field(default_factory=OptOuts)
    require_tag: Tag | None = None
    optout_tag: Tag | None = None
    exclusion_list: tuple[str, ...] = ()
    quarantined: frozenset[str] = frozenset()

    @property
    def need_tags(self) -> bool:
        """Return whether a verdict depends on the functions' tags."""
        return self.require_tag is not None or self.optout_tag is not None

    def for_reread(self) -> "Rules":
        """Return the rules for a function read again before its change: its utilization was checked for the plan."""
        utilization = self.risk.utilization.model_copy(update={"enabled": False})
        return replace(self, risk=self.risk.model_copy(update={"utilization": utilization}))
