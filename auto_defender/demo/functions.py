"""Fills the simulated accounts with functions, layers, tags and metrics."""

import base64
import io
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.utils import utcnow

from auto_defender.demo.function_kinds import CURRENT, INSIGHTS, KINDS, TEAM_LAYERS, Kind
from auto_defender.demo.organization import FUNCTION_ROLE, REGIONS, Account, Organization

# How many functions an account has in a region: some 500 in 24 accounts.
SMALLEST, LARGEST = 4, 20
# No part of it may ever turn up in a report, a log line or an error.
SECRET = "demo-secret-that-must-stay-here"  # noqa: S105
_RUNTIMES = ("python3.12", "python3.13", "python3.14", "nodejs22.x", "nodejs24.x")
_HOSTILE_DESCRIPTION = "</td><script>alert('description')</script> =cmd|' /C calc'!A0 \u202e"


@dataclass(frozen=True)
class _Unit:
    account: Account
    region: str


def fill(organization: Organization) -> None:
    """Put layers and functions into every account that is not suspended; note those that belong in quarantine."""
    chance = random.Random(2026)  # noqa: S311 - the same organization each time; nothing secret comes from it
    active = [account for account in organization.accounts if not account.place.suspended]
    readable = [a for a in active if not a.place.refuses and not a.place.opted_out]
    for account in active:
        for region in REGIONS:
            _publish_layers(account.id, region)
    for unit, kinds in _dealt(readable, chance).items():
        for name, kind in _named(unit.account, kinds, chance):
            arn = _create(unit, name, kind, chance)
            if kind.name == "quarantined":
                organization.quarantined.append(arn)


def _dealt(accounts: Sequence[Account], chance: random.Random) -> dict[_Unit, list[Kind]]:
    """Deal each kind once, then kinds by their weight until every unit is as large as chance wants it."""
    hands: dict[_Unit, list[Kind]] = {_Unit(a, region): [] for a in accounts for region in REGIONS}
    for kind in KINDS:
        fitting = [unit for unit in hands if unit.region in kind.regions]
        hands[min(fitting, key=lambda unit: len(hands[unit]))].append(kind)
    for unit, hand in hands.items():
        usual = [kind for kind in KINDS if unit.region in kind.regions]
        missing = max(0, chance.randint(SMALLEST, LARGEST) - len(hand))
        hand.extend(chance.choices(usual, [kind.weight for kind in usual], k=missing))
    return hands


def _named(account: Account, kinds: Sequence[Kind], chance: random.Random) -> list[tuple[str, Kind]]:
    """Name functions as their teams would; a number where the name is taken."""
    named: dict[str, Kind] = {}
    for kind in kinds:
        job = chance.choice(kind.jobs)
        name = job if job.startswith("aws-") else f"{account.place.domain}-{job}"
        number = 2
        while name in named:
            name = f"{name.removesuffix(f'-v{number - 1}')}-v{number}"
            number += 1
        named[name] = kind
    return list(named.items())


def _create(unit: _Unit, name: str, kind: Kind, chance: random.Random) -> str:
    request = _request(unit, name, kind, chance)
    arn = f"arn:aws:lambda:{unit.region}:{unit.account.id}:function:{name}"
    backend = lambda_backends[unit.account.id][unit.region]
    backend.create_function(request)
    if kind.alias:
        backend.publish_version(arn, "")
        backend.create_alias("live", name, "1", "", "")
    _measure(unit, name, request["Timeout"], kind, chance)
    return arn


def _request(unit: _Unit, name: str, kind: Kind, chance: random.Random) -> dict[str, Any]:
    """Give the CreateFunction request."""
    runtime = kind.request.get("Runtime", chance.choice(_RUNTIMES))
    image = kind.request.get("PackageType") == "Image"
    layers = list(kind.layers)
    if kind.defender:
        layers.append(f"twistlock-{'python' if runtime.startswith('python') else 'nodejs'}:{kind.defender}")
    return {
        "FunctionName": name,
        "Role": f"arn:aws:iam::{unit.account.id}:role/{FUNCTION_ROLE}",
        "Code": {"ImageUri": f"{unit.account.id}.dkr.ecr.{unit.region}.amazonaws.com/{name}:1"}
        if image
        else {"ZipFile": _ZIP},
        "Runtime": runtime,
        "Handler": "app.handler",
        "Description": _HOSTILE_DESCRIPTION,
        "MemorySize": chance.choice((512, 512, 1024, 1024, 2048, 3008)),
        "Timeout": chance.choice((15, 30, 30, 60, 120, 300)),
        "Layers": [_layer_arn(unit, layer) for layer in layers],
        "Environment": {"Variables": {"STAGE": "prod", "DB_PASSWORD": SECRET, **kind.variables}},
        "Tags": {"team": unit.account.place.domain, **kind.tags},
        **kind.request,
        "Told": {"CodeSize": chance.randrange(50_000, 30_000_000), **kind.told},
    }


def _layer_arn(unit: _Unit, layer: str) -> str:
    name, _, version = layer.partition(":")
    return f"arn:aws:lambda:{unit.region}:{unit.account.id}:layer:{name}:{version or 1}"


def _measure(unit: _Unit, name: str, timeout_sec: int, kind: Kind, chance: random.Random) -> None:
    """Put what CloudWatch knows of the function: its longest run, and with Lambda Insights its memory."""
    cloudwatch = cloudwatch_backends[unit.account.id][unit.region]
    duration_pct = chance.uniform(1, 60) if kind.duration_pct is None else kind.duration_pct
    cloudwatch.put_metric_data(
        "AWS/Lambda", [_datum("Duration", "FunctionName", name, timeout_sec * 10 * duration_pct)]
    )
    if kind.memory_pct is not None:
        cloudwatch.put_metric_data(
            "LambdaInsights", [_datum("memory_utilization", "function_name", name, kind.memory_pct)]
        )


def _datum(metric: str, dimension: str, name: str, value: float) -> dict[str, Any]:
    return {
        "MetricName": metric,
        "Dimensions": [{"Name": dimension, "Value": name}],
        "Timestamp": utcnow() - timedelta(hours=6),
        "Value": value,
    }


def _publish_layers(account_id: str, region: str) -> None:
    """Publish the layers into the account itself: moto knows no others."""
    backend = lambda_backends[account_id][region]
    for name in ("twistlock-python", "twistlock-nodejs"):
        for _ in range(CURRENT):
            backend.publish_layer_version({"LayerName": name, "Content": {"ZipFile": _ZIP}})
    for name in (*TEAM_LAYERS, INSIGHTS):
        backend.publish_layer_version({"LayerName": name, "Content": {"ZipFile": _ZIP}})


def _zipped() -> str:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return event\n")
    return base64.b64encode(file.getvalue()).decode()


_ZIP = _zipped()
