"""The configuration section `security_hub`."""

from scanner.core.settings import RegionName, Settings


class SecurityHubSettings(Settings):
    """Whether findings are imported, and the region of the Security Hub (None: the region that this runs in)."""

    enabled: bool = False
    region: RegionName | None = None
