"""What `explain` tells of the versions that a function's traffic meets."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from auto_defender.context import Context
from scanner.inventory.alias_reader import AliasReader
from scanner.inventory.alias_traffic import LATEST, effective_protection
from scanner.inventory.effective_coverage import READ, add_effective_coverage
from scanner.risk.protection import versions_protection

_LEFT_BEHIND = (
    "its owner publishes a version of what $LATEST is once that carries the Defender, and moves the alias to it; "
    "no run does that"
)


def tell_served(
    context: Context, assessed: pd.DataFrame, configuration: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Read what the one function of a frame serves; None where the configuration does not ask for it.

    Gives the columns of functions.csv that docs/schema.md calls effective_protection to served_outcome.
    """
    settings = context.configuration
    if not settings.risk.effective_coverage:
        return None
    protection = partial(versions_protection, rules=context.rules)
    reader = AliasReader(context.aws, settings.defender.variable_names, protection)
    read = partial(reader.read_function, configuration=configuration)
    found = add_effective_coverage(assessed, read, context.aws, settings.sweep, context.deadline)
    row = found.assign(effective_protection=effective_protection(found)).iloc[0]
    provisioned = int(row["provisioned_concurrency"])
    return {
        "effective_protection": row["effective_protection"],
        "served": row["served"],
        "aliases": row["aliases"],
        "snap_start": row["snap_start"],
        "provisioned_concurrency": None if provisioned < 0 else provisioned,
        "served_outcome": row["served_outcome"],
    }


def served_lines(told: Mapping[str, Any], protection: str) -> list[str]:
    """Write it for a reader. protection: of $LATEST."""
    if told["served_outcome"] != READ:
        return [f"where its traffic goes: unknown, its aliases could not be read ({told['served_outcome']})"]
    aliases = [alias.partition("=") for alias in told["aliases"].split(";") if alias]
    lines = [f"where its traffic goes: {told['effective_protection']}"]
    lines += [f"         {name} serves {_versions(versions, protection)}" for name, _, versions in aliases]
    if not aliases:
        lines.append(f"         no alias serves a published version; $LATEST is {protection}")
    if told["served"] == "served_unprotected":
        lines.append(f"         {_LEFT_BEHIND}")
    if told["snap_start"] == "PublishedVersions":
        lines.append("         SnapStart is on for published versions")
    if told["provisioned_concurrency"]:
        lines.append(f"         provisioned concurrency: {told['provisioned_concurrency']}")
    return lines


def _versions(versions: str, latest: str) -> str:
    told = (version.partition(":") for version in versions.split(","))
    return ", ".join(f"{name}: {latest if name == LATEST else state}" for name, _, state in told)
