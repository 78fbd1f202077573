"""Checks of the Defender layers, read as a member account: published, shared, right region and architecture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from auto_defender.config import Configuration
from auto_defender.doctor.finding import CALL_FAILED, Finding
from scanner.aws.caller import Aws
from scanner.aws.errors import describe, error_code
from scanner.core.arns import LayerVersion
from scanner.organization.regions import enabled_regions
from scanner.risk.protection import family_of
from scanner.settings import Family

_ABSENT = "ResourceNotFoundException"


def layers(aws: Aws, settings: Configuration, reader: str | None) -> Iterator[Finding]:
    """Yield a finding for each layer version in each region, read as the member account `reader`.

    Member accounts need access: their updates name the layer.
    """
    if reader is None:
        remedy = "Deploy the member role in one account, then run doctor again."
        yield Finding("warning", "layers", "not checked: no member account could be used", remedy)
        return
    try:
        regions = _regions(aws, settings, reader)
    except CALL_FAILED as error:
        remedy = "Allow account:ListRegions to the member role, or list organization.regions."
        yield Finding("problem", f"regions of {reader}", describe(error), remedy)
        return
    defender = settings.defender
    for region in regions:
        for family in defender.layers:
            if defender.template_for(family, region):
                layer = defender.layer_for(family, region, reader)
                yield _layer(aws, settings, layer, family, region, reader)
            else:
                remedy = f"Nothing, or publish one there and name it in defender.layers.{family}."
                found = "none in defender.layers: its functions there are skipped (runtime)"
                yield Finding("warning", f"layer for {family} in {region}", found, remedy)


def _regions(aws: Aws, settings: Configuration, reader: str) -> list[str]:
    regions = settings.organization.regions
    return enabled_regions(aws, reader) if regions == "enabled" else list(regions)


def _layer(
    aws: Aws, settings: Configuration, layer: LayerVersion, family: Family, region: str, reader: str
) -> Finding:
    what = f"layer {layer} in {region}"
    if layer.region != region:
        remedy = "Write {region} in defender.layers: a function only uses layers of its own region."
        return Finding("problem", what, f"it is of {layer.region}", remedy)
    try:
        answer = _read(aws, layer, reader)
    except ClientError as error:
        return _unreadable(aws, what, layer, reader, error)
    except CALL_FAILED as error:
        return Finding("problem", what, describe(error), "Try again.")
    return _compatible(what, answer, family, settings.risk.architectures, reader)


def _read(aws: Aws, layer: LayerVersion, account_id: str) -> Mapping[str, Any]:
    """Pass the layer's ARN as its name: that needs lambda:GetLayerVersion on it and nothing else."""
    name = str(layer).rpartition(":")[0]
    return aws.call(
        account_id, layer.region, "lambda", "get_layer_version", LayerName=name, VersionNumber=layer.version
    )


def _unreadable(aws: Aws, what: str, layer: LayerVersion, reader: str, error: ClientError) -> Finding:
    """Distinguish a version that does not exist from one that is not shared."""
    if error_code(error) == _ABSENT:
        remedy = f"Publish version {layer.version} in this region (stacksets/layer-sharing.yaml), or fix defender.layers."
        return Finding("problem", what, "no such version", remedy)
    owner = aws.central_account_id
    if layer.account_id == owner and _is_published(aws, layer, owner) is False:
        remedy = f"Publish version {layer.version} in this region (stacksets/layer-sharing.yaml), or fix defender.layers."
        return Finding("problem", what, "not published", remedy)
    remedy = (
        f"Account {layer.account_id} must share this version with the organization (stacksets/layer-sharing.yaml), and "
        "the member stack's DefenderLayers must match it."
    )
    return Finding("problem", what, f"account {reader} may not read it: {describe(error)}", remedy)


def _is_published(aws: Aws, layer: LayerVersion, owner: str) -> bool | None:
    """Return whether the layer's own account can read it; None where that is unknown."""
    try:
        _read(aws, layer, owner)
    except ClientError as error:
        return False if error_code(error) == _ABSENT else None
    except CALL_FAILED:
        return None
    return True


def _compatible(
    what: str, answer: Mapping[str, Any], family: Family, architectures: Sequence[str], reader: str
) -> Finding:
    """Compare the layer's declared architectures and runtimes with its use; a layer may declare none."""
    built_for = answer.get("CompatibleArchitectures")
    missing = [name for name in architectures if built_for and name not in built_for]
    if missing:
        remedy = "Narrow risk.architectures, or publish another layer."
        return Finding("problem", what, f"not built for {', '.join(missing)}", remedy)
    runtimes = answer.get("CompatibleRuntimes")
    if runtimes and family not in map(family_of, runtimes):
        remedy = f"Name the layer for {family} in defender.layers.{family}, or publish it with its runtimes."
        return Finding("problem", what, f"for {', '.join(runtimes)}, and not for {family}", remedy)
    return Finding("ok", what, f"account {reader} can read it")
