"""What is so, by the simulator's record and the life's own: shares no code with the product."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from simulator.calls import Configuration
from simulator.core import Call, Core
from simulator.state import Function
from tests.months import organization as org
from tests.months.life import PILOT, WAVES, OptOut, Release

Layers = tuple[str, ...]


def layers_of(configuration: Configuration | None) -> Layers:
    return tuple(layer["Arn"] for layer in (configuration or {}).get("Layers") or ())


def of_others(layers: Layers) -> Layers:
    return tuple(arn for arn in layers if not org.is_ours(arn))


def of_us(layers: Layers) -> Layers:
    return tuple(arn for arn in layers if org.is_ours(arn))


def variables_of(configuration: Configuration | None) -> dict[str, str]:
    return dict(((configuration or {}).get("Environment") or {}).get("Variables") or {})


def desired_layer(configuration: Configuration, release: Release) -> str:
    """Return the layer that a function is to carry, "" where there is none for it."""
    family = org.FAMILIES.get(str(configuration.get("Runtime")), "")
    return org.ours(configuration["FunctionArn"].split(":")[3], release.version, family) if family else ""


def carries(configuration: Configuration, release: Release) -> bool:
    """Return whether nothing differs from a release."""
    variables = variables_of(configuration)
    mine = of_us(layers_of(configuration))
    return mine == (desired_layer(configuration, release),) and all(
        variables.get(name) == value for name, value in release.variables.items()
    )


def lacks(configuration: Configuration) -> bool:
    """Return whether our layer or our wrapper is not there at all."""
    wrapper = variables_of(configuration).get(org.WRAPPER, "")
    return not of_us(layers_of(configuration)) or not wrapper.startswith("/opt/twistlock/")


def refusals(function: Function, configuration: Configuration, release: Release) -> list[str]:
    """Return why the rules forbid a change of a function, by what it is; nothing where they allow it."""
    variables, layers = variables_of(configuration), layers_of(configuration)
    mine = of_us(layers)
    size = len(_measured({**variables, **release.variables}))
    wrapper = variables.get(org.WRAPPER, "/opt/twistlock/wrapper")
    found = {
        "package_type": configuration.get("PackageType") == "Image",
        "architecture": configuration.get("Architectures") != ["x86_64"],
        "runtime": str(configuration.get("Runtime")) not in org.FAMILIES,
        "memory": configuration.get("MemorySize", 0) <= 256,
        "timeout": configuration.get("Timeout", 0) >= 870,
        "layers": len(layers) >= 5 and not mine,
        "wrapper": not wrapper.startswith("/opt/twistlock/"),
        "policy": not mine
        and variables.get(org.POLICY, release.variables[org.POLICY]) != release.variables[org.POLICY],
        "unreadable": function.key_denied and bool(variables),
        "overflow": size > 4_096,
        "signed": "SigningJobArn" in configuration,
        "state": configuration.get("State") not in {"Active", "Inactive"},
        "status": configuration.get("LastUpdateStatus") != "Successful",
        "excluded": str(configuration["FunctionName"]).startswith("excluded-"),
    }
    return [name for name, so in found.items() if so]


def _measured(variables: dict[str, str]) -> bytes:
    pairs = ",".join(f'"{name}":"{value}"' for name, value in variables.items())
    return f"{{{pairs}}}".encode()


def opted_out(function: Function, optouts: Iterable[OptOut], days: Iterable[date]) -> bool:
    """Return whether an entry covers a function on all of these days."""
    entries = list(optouts)
    return all(any(entry.covers(function, day) for entry in entries) for day in days)


def to_be_removed(function: Function, optouts: Iterable[OptOut], day: date) -> bool:
    """Return whether an entry has what is ours removed from a function."""
    return any(entry.remove and entry.covers(function, day) for entry in optouts)


def wave_of(core: Core, account: str) -> int:
    """Return the number of an account's wave; len(WAVES) for none."""
    if account in PILOT:
        return 0
    member = core.organization.accounts.get(account)
    path = core.organization.path(member.parent) if member else ""
    for number, unit in ((1, "Workloads/Dev"), (2, "Workloads/Prod")):
        if core.organization.unit(unit) in path.split("/"):
            return number
    return len(WAVES)


@dataclass(frozen=True)
class Reach:
    """Whether a run can read an account's region, and change a function there."""

    core: Core

    def unit(self, account: str, region: str) -> bool:
        member = self.core.organization.member(account)
        if member is None or member.role_denied or region in member.disabled_regions:
            return False
        return not self._denied(account, region, "ListFunctions", {})

    def change(self, arn: str) -> bool:
        account, region = arn.split(":")[4], arn.split(":")[3]
        named = {"FunctionName": arn}
        calls = ("GetFunctionConfiguration", "UpdateFunctionConfiguration")
        return not any(self._denied(account, region, operation, named) for operation in calls)

    def _denied(self, account: str, region: str, operation: str, parameters: dict[str, Any]) -> bool:
        call = Call(account, region, "lambda", operation, parameters)
        return any(denial.covers(call) for denial in self.core.denials)
