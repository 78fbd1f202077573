"""The configuration sections that the scanner reads; docs/configuration.md documents each key."""

import itertools
import re
from dataclasses import replace
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Discriminator, Field, SecretStr, StringConstraints, field_validator, model_validator

from scanner.core.arns import ANY_VERSION, LayerVersion
from scanner.core.errors import BadInput
from scanner.core.settings import AccountId, Many, OuId, RegionName, Settings, Tag

EXEC_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"

Family = Literal["python", "nodejs"]
# The name of each variable that a change would set, with its template; None for the wrapper, which depends on the family.
Variables = tuple[tuple[str, SecretStr | None], ...]
# CreateFunction API reference, Environment.Variables: the pattern of a key.
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]+$")]


class OrganizationSettings(Settings):
    """Who is swept, through which role, in which regions."""

    role_name: Annotated[str, StringConstraints(pattern=r"^[\w+=,.@/-]{1,64}$")]
    external_id: (
        Annotated[str, StringConstraints(pattern=r"^[\w+=,.@:/-]+$", min_length=2, max_length=1224)] | None
    ) = None
    regions: Literal["enabled"] | Many[RegionName]
    include_ous: Many[OuId] = ()
    exclude_ous: Many[OuId] = ()
    exclude_accounts: Many[AccountId] = ()
    # CreateStackSet API reference, StackSetName. `doctor` alone looks at it.
    stack_set: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9-]{0,127}$")] | None = (
        "auto-defender-member"
    )

    @field_validator("regions")
    @classmethod
    def _some_regions_once(cls, regions: Any) -> Any:
        if not regions:
            raise ValueError("name at least one region, or write: enabled")
        if regions != "enabled" and len(set(regions)) < len(regions):
            raise ValueError("a region stands twice; keep one")
        return regions


# Distinguished by a function, so that a mistake in one kind is not reported as one in both.
Layer = Annotated[
    Annotated[str, pydantic.Tag("everywhere")] | Annotated[dict[RegionName, str], pydantic.Tag("by_region")],
    Discriminator(lambda given: "by_region" if isinstance(given, dict) else "everywhere"),
]


class PreviousSettings(Settings):
    """What earlier configurations attached: layers (a version left out or `*`: any) and wrappers, replaced in place."""

    layers: Many[str] = ()
    wrappers: Many[str] = ()

    @field_validator("layers")
    @classmethod
    def _layer_arns(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        for template in layers:
            if LayerVersion.parse_pattern(fill(template, region="us-east-1", account_id="0" * 12)) is None:
                raise ValueError(
                    f"'{template}' is no layer ARN; expected one such as "
                    "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:*"
                )
        return layers

    @field_validator("wrappers")
    @classmethod
    def _paths(cls, wrappers: tuple[str, ...]) -> tuple[str, ...]:
        for path in wrappers:
            if not _is_path(path):
                raise ValueError(f"'{path}' is no absolute path such as /opt/twistlock/wrapper")
        return wrappers


class DefenderSettings(Settings):
    """What is attached: a layer a runtime family (one ARN, or one a region), the wrapper, further variables, a tag.

    version_policy: whether a newer version of the layer is replaced by the configured one (exact) or kept (at_least).
    """

    layers: Annotated[dict[Family, Layer], Field(min_length=1)]
    wrapper: str | dict[Family, str]
    environment: dict[VariableName, SecretStr] = Field(default_factory=dict)
    tag: Tag | None = Tag(key="SecurityProtected", value="True")
    version_policy: Literal["exact", "at_least"] = "exact"
    previous: PreviousSettings = PreviousSettings()

    @field_validator("layers")
    @classmethod
    def _layer_arns(cls, layers: dict[Family, Layer]) -> dict[Family, Layer]:
        for family, given in layers.items():
            if not given:
                raise ValueError(f"{family} names no region; write a layer version ARN, or one a region")
            for region, template in given.items() if isinstance(given, dict) else (("", given),):
                layer = LayerVersion.parse(fill(template, region=region or "us-east-1", account_id="0" * 12))
                if layer is None:
                    raise ValueError(
                        "expected a layer version ARN such as "
                        "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"
                    )
                if region and layer.region != region:
                    raise ValueError(
                        f"{family}.{region} has a layer of {layer.region}; functions take their own region's"
                    )
        return layers

    @field_validator("environment")
    @classmethod
    def _not_reserved(cls, environment: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in environment:
            if name == EXEC_WRAPPER:
                raise ValueError(f"{EXEC_WRAPPER} is set by defender.wrapper")
            if name.startswith(("AWS_", "_", "LAMBDA_")):
                raise ValueError(f"{name} is a name that AWS Lambda keeps for itself")
        return environment

    @model_validator(mode="after")
    def _wrapper_for_each_layer(self) -> "DefenderSettings":
        for family in self.layers:
            if isinstance(self.wrapper, dict) and family not in self.wrapper:
                raise ValueError(f"defender.wrapper has no entry for '{family}', which defender.layers names")
            if not _is_path(self.wrapper_for(family)):
                raise ValueError("defender.wrapper must be an absolute path such as /opt/twistlock/wrapper")
        return self

    def regions_of(self, family: Family) -> tuple[str, ...] | None:
        """Return the regions that have a layer of this family; None for every region."""
        layers = self.layers[family]
        return tuple(layers) if isinstance(layers, dict) else None

    def template_for(self, family: Family, region: str) -> str:
        """Return the ARN of a family's layer in a region with its placeholders, "" where the region has none."""
        layers = self.layers[family]
        return layers.get(region, "") if isinstance(layers, dict) else layers

    @property
    def layer_templates(self) -> tuple[str, ...]:
        """Return the ARN of every layer that is ours, with its placeholders: configured, or used before."""
        configured = (
            given.values() if isinstance(given, dict) else (given,) for given in self.layers.values()
        )
        return (*itertools.chain.from_iterable(configured), *self.previous.layers)

    def layer_for(self, family: Family, region: str, account_id: str) -> LayerVersion:
        """Return the layer version for a family, region and account. Raises BadInput where there is none."""
        template = self.template_for(family, region)
        layer = LayerVersion.parse(fill(template, region=region, account_id=account_id))
        if layer is None:
            raise BadInput(f"defender.layers.{family}: no layer version ARN for {region} and {account_id}")
        return layer

    def previous_layers(self, region: str, account_id: str) -> tuple[LayerVersion, ...]:
        """Return the layers of earlier configurations for a region and account; ANY_VERSION where any version counts."""
        filled = (fill(template, region=region, account_id=account_id) for template in self.previous.layers)
        return tuple(layer for layer in map(LayerVersion.parse_pattern, filled) if layer)

    def all_layers(self, region: str, account_id: str) -> tuple[LayerVersion, ...]:
        """Return what is ours on functions of a region and account: the configured layers in any version, and earlier ones."""
        configured = (
            self.layer_for(family, region, account_id)
            for family in self.layers
            if self.template_for(family, region)
        )
        any_version = (replace(layer, version=ANY_VERSION) for layer in configured)
        return (*any_version, *self.previous_layers(region, account_id))

    def wrapper_for(self, family: Family) -> str:
        """Return the value of AWS_LAMBDA_EXEC_WRAPPER for a family."""
        return self.wrapper if isinstance(self.wrapper, str) else self.wrapper[family]

    def our_wrappers(self, family: Family) -> frozenset[str]:
        """Return the wrappers that are ours on functions of a family: the configured one, and those used before."""
        return frozenset((self.wrapper_for(family), *self.previous.wrappers))

    def variables_for(
        self, family: Family, function_name: str, region: str, account_id: str
    ) -> dict[str, str]:
        """Return every variable that a protected function carries. The values are secrets: they go to AWS only."""
        filled = {
            name: fill(
                value.get_secret_value(), function_name=function_name, region=region, account_id=account_id
            )
            for name, value in self.environment.items()
        }
        return {EXEC_WRAPPER: self.wrapper_for(family), **filled}

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Return the names of the variables that a protected function carries."""
        return (EXEC_WRAPPER, *self.environment)

    @property
    def watched_variables(self) -> Variables:
        """Return the variables that a protected function carries, for whoever compares a function's own with them."""
        return ((EXEC_WRAPPER, None), *self.environment.items())


class UtilizationSettings(Settings):
    """Functions that run close to their limits are not changed (mission 4.3)."""

    enabled: bool = True
    lookback_days: Annotated[int, Field(ge=1, le=90)] = 14
    threshold_pct: Annotated[int, Field(ge=1, le=100)] = 95
    when_unmeasured: Literal["allow", "skip"] = "allow"
    # Logs Insights bills every GB of log that it scans.
    memory_from_logs: bool = False


class RiskSettings(Settings):
    """The thresholds of the risk engine."""

    runtime_families: Many[Family] = ("python", "nodejs")
    architectures: Many[Literal["x86_64", "arm64"]] = ("x86_64",)
    # Lambda quotas: five layers a function, 900 s, 128 to 10,240 MB, 50 MB zipped by upload.
    max_layers: Annotated[int, Field(ge=1, le=5)] = 5
    # Room for the owner's next deployment: no fifth layer, and no environment that grows to within 5 % of 4 KB.
    keep_layer_slot: bool = False
    min_memory_mb: Annotated[int, Field(ge=0, le=10_240)] = 256
    timeout_buffer_sec: Annotated[int, Field(ge=0, le=899)] = 30
    zipped_size_threshold_mb: Annotated[int, Field(ge=1, le=250)] = 70
    # Kinds of function and fields of FunctionConfiguration that the Defender was tried on (check function_kind).
    allowed_kinds: Many[str] = ()
    # Costs calls: every published version is listed, and functions that have some are asked twice each.
    effective_coverage: bool = False
    utilization: UtilizationSettings = UtilizationSettings()

    @property
    def layer_limit(self) -> int:
        """Return how many layers a function may have after ours was added."""
        return min(self.max_layers, 4) if self.keep_layer_slot else self.max_layers


class SweepSettings(Settings):
    """How many workers the sweep has, how fast it calls, and how long it takes at most."""

    workers: Annotated[int, Field(ge=1, le=256)] = 32
    # Lambda quotas: 15 control plane requests a second in an account and region, shared with its owners.
    calls_per_second: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 10.0
    unit_timeout_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 120.0
    run_timeout_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] | None = None


def _is_path(text: str) -> bool:
    return re.fullmatch(r"/[\w./-]{1,255}", text) is not None


def fill(template: str, **values: str) -> str:
    """Return a template with the placeholders filled in for which there are values."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template
