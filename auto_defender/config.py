"""The configuration: one YAML document, validated as a whole; the mission's environment variables override it."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import StringConstraints, ValidationError, model_validator

from remediator.plan.plan_file import configuration_digest
from remediator.settings import RolloutSettings
from reports.settings import SecurityHubSettings
from scanner.core.errors import BadInput
from scanner.core.settings import Settings, expected, validated
from scanner.core.strict_yaml import read_yaml
from scanner.settings import DefenderSettings, OrganizationSettings, RiskSettings, SweepSettings
from storage.settings import StorageSettings

# No FIFO topic: it requires a message group, and notifications have no order.
TopicArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", max_length=400),
]


class NotificationSettings(Settings):
    """The topic to publish to (None: none), and whether successful runs are published too."""

    topic_arn: TopicArn | None = None
    always: bool = False


class Configuration(Settings):
    """Every section; docs/configuration.md describes each key."""

    organization: OrganizationSettings
    defender: DefenderSettings
    risk: RiskSettings = RiskSettings()
    rollout: RolloutSettings = RolloutSettings()
    sweep: SweepSettings = SweepSettings()
    storage: StorageSettings = StorageSettings()
    security_hub: SecurityHubSettings = SecurityHubSettings()
    notifications: NotificationSettings = NotificationSettings()
    optouts: str | None = None
    output: str = "./out"

    @cached_property
    def release(self) -> str:
        """Return the digest of what is attached: the waves begin again where it changes."""
        return configuration_digest(self.defender)

    @cached_property
    def digest(self) -> str:
        """Return the digest of the sections that decide over changes: of a plan, a failure, the batches of a run."""
        return configuration_digest(self.organization, self.defender, self.risk, self.rollout)

    @model_validator(mode="after")
    def _a_topic_for_notices(self) -> "Configuration":
        if self.rollout.notice_days and self.notifications.topic_arn is None:
            raise ValueError(
                "rollout.notice_days needs notifications.topic_arn: without a topic no owner is notified"
            )
        return self

    @model_validator(mode="after")
    def _a_layer_in_each_region(self) -> "Configuration":
        regions = self.organization.regions
        for family in self.defender.layers:
            for region in regions if regions != "enabled" else ():
                if not self.defender.template_for(family, region):
                    raise ValueError(
                        f"defender.layers.{family} has no layer for {region}, which organization.regions lists"
                    )
        return self


def read_configuration(text: bytes, source: str, environ: Mapping[str, str]) -> Configuration:
    """Read a configuration; BadInput names the file, the line, the key and what is expected."""
    document = read_yaml(text, source)
    if document.data is None:
        raise BadInput(f"{source}: empty; expected at least organization and defender")
    return _with_environment(validated(Configuration, document), environ)


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in known:
        raise ValueError("expected true or false")
    return known[text.strip().lower()]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        # An empty value would override the configured exclusions with none.
        raise ValueError("expected names with commas between")
    return names


def _whole_number(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError("expected a whole number")
    return int(text)


def _megabytes(text: str) -> int:
    """Accept '70' and '70 MB': the mission's table has the unit."""
    return _whole_number(text.strip().removesuffix("MB"))


# The mission's script variables, and the keys that they override.
_VARIABLES: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "DRY_RUN": ("rollout", "dry_run", _boolean),
    "EXCLUSION_LIST": ("rollout", "exclusion_list", _names),
    "MAX_LAYERS": ("risk", "max_layers", _whole_number),
    "MIN_MEMORY_MB": ("risk", "min_memory_mb", _whole_number),
    "TIMEOUT_BUFFER_SEC": ("risk", "timeout_buffer_sec", _whole_number),
    "ZIPPED_SIZE_THRESHOLD_MB": ("risk", "zipped_size_threshold_mb", _megabytes),
    "ZIPPED_SIZE_THRESHOLD": ("risk", "zipped_size_threshold_mb", _megabytes),
}


def _with_environment(configuration: Configuration, environ: Mapping[str, str]) -> Configuration:
    for variable, (section, key, parse) in _VARIABLES.items():
        if variable in environ:
            settings: Settings = getattr(configuration, section)
            changed = _overridden(settings, key, variable, environ[variable], parse)
            configuration = configuration.model_copy(update={section: changed})
    return configuration


def _overridden(
    settings: Settings, key: str, variable: str, text: str, parse: Callable[[str], Any]
) -> Settings:
    try:
        return type(settings).model_validate({**dict(settings), key: parse(text)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = expected(first["type"], first["msg"])
    except ValueError as error:
        problem = str(error)
    raise BadInput(f"environment variable {variable}: {problem}; it overrides {key}")
