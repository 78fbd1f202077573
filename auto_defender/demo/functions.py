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

from auto_defender.demo.function_kinds import INSIGHTS, KINDS, NEWER, TEAM_LAYERS, Kind
from auto_defender.demo.organization import FUNCTION_ROLE, REGIONS, Account, Organization

# Functions per account and region: some 500 in 24 accounts.
SMALLEST, LARGEST = 4, 20
# No part of it may appear in a report, a log line or an error.
SECRET = "demo-secret-that-must-stay-here"  # noqa: S105
_RUNTIMES = ("python3.12", "python3.13", "python3.14", "nodejs22.x", "nodejs24.x")
_HOSTILE_DESCRIPTION = "</td><script>alert('description')</script> =cmd|' /C calc'!A0 \u202e"


@dataclass(frozen=True)
class _Unit:
    account: Account
    region: str


def fill(organization: Organization) -> None:
    """Create layers and functions in every account that is not suspended; record those to be quarantined."""
    rng = random.Random(2026)  # noqa: S311 - the same organization each time; nothing secret comes from it
    active = [account for account in organization.accounts if not account.spec.suspended]
    readable = [a for a in active if not a.spec.denies_access and not a.spec.opted_out]
    for account in active:
        for region in REGIONS:
            _publish_layers(account.id, region)
    for unit, kinds in _assign_kinds(readable, rng).items():
        for name, kind in _named(unit.account, kinds, rng):
            arn = _create(unit, name, kind, rng)
            if kind.name == "quarantined":
                organization.quarantined.append(arn)


def _assign_kinds(accounts: Sequence[Account], rng: random.Random) -> dict[_Unit, list[Kind]]:
    """Assign each kind once, then kinds by their weight until every unit has a random number of functions."""
    assigned: dict[_Unit, list[Kind]] = {_Unit(a, region): [] for a in accounts for region in REGIONS}
    for kind in KINDS:
        fitting = [unit for unit in assigned if unit.region in kind.regions]
        assigned[min(fitting, key=lambda unit: len(assigned[unit]))].append(kind)
    for unit, of_unit in assigned.items():
        usual = [kind for kind in KINDS if unit.region in kind.regions]
        missing = max(0, rng.randint(SMALLEST, LARGEST) - len(of_unit))
        of_unit.extend(rng.choices(usual, [kind.weight for kind in usual], k=missing))
    return assigned


def _named(account: Account, kinds: Sequence[Kind], rng: random.Random) -> list[tuple[str, Kind]]:
    """Return functions by name, as their teams would name them; a suffix makes a name unique."""
    named: dict[str, Kind] = {}
    for kind in kinds:
        job = rng.choice(kind.jobs)
        name = job if job.startswith("aws-") else f"{account.spec.domain}-{job}"
        number = 2
        while name in named:
            name = f"{name.removesuffix(f'-v{number - 1}')}-v{number}"
            number += 1
        named[name] = kind
    return list(named.items())


def _create(unit: _Unit, name: str, kind: Kind, rng: random.Random) -> str:
    request = _request(unit, name, kind, rng)
    arn = f"arn:aws:lambda:{unit.region}:{unit.account.id}:function:{name}"
    backend = lambda_backends[unit.account.id][unit.region]
    backend.create_function(request)
    if kind.alias:
        backend.publish_version(arn, "")
        backend.create_alias("live", name, "1", "", "")
    _measure(unit, name, request["Timeout"], kind, rng)
    return arn


def _request(unit: _Unit, name: str, kind: Kind, rng: random.Random) -> dict[str, Any]:
    """Return the CreateFunction request."""
    runtime = kind.request.get("Runtime", rng.choice(_RUNTIMES))
    image = kind.request.get("PackageType") == "Image"
    layers = list(kind.layers)
    if kind.defender:
        layers.append(f"twistlock-{'python' if runtime.startswith('python') else 'nodejs'}:{kind.defender}")
    variables = {key: value.replace("{function_name}", name) for key, value in kind.variables.items()}
    return {
        "FunctionName": name,
        "Role": f"arn:aws:iam::{unit.account.id}:role/{FUNCTION_ROLE}",
        "Code": {"ImageUri": f"{unit.account.id}.dkr.ecr.{unit.region}.amazonaws.com/{name}:1"}
        if image
        else {"ZipFile": _ZIP},
        "Runtime": runtime,
        "Handler": "app.handler",
        "Description": _HOSTILE_DESCRIPTION,
        "MemorySize": rng.choice((512, 512, 1024, 1024, 2048, 3008)),
        "Timeout": rng.choice((15, 30, 30, 60, 120, 300)),
        "Layers": [_layer_arn(unit, layer) for layer in layers],
        "Environment": {"Variables": {"STAGE": "prod", "DB_PASSWORD": SECRET, **variables}},
        "Tags": {"team": unit.account.spec.domain, **kind.tags},
        **kind.request,
        "Unmodelled": {"CodeSize": rng.randrange(50_000, 30_000_000), **kind.unmodelled},
    }


def _layer_arn(unit: _Unit, layer: str) -> str:
    name, _, version = layer.partition(":")
    return f"arn:aws:lambda:{unit.region}:{unit.account.id}:layer:{name}:{version or 1}"


def _measure(unit: _Unit, name: str, timeout_sec: int, kind: Kind, rng: random.Random) -> None:
    """Put the function's metrics: its longest duration, and with Lambda Insights its memory."""
    cloudwatch = cloudwatch_backends[unit.account.id][unit.region]
    duration_pct = rng.uniform(1, 60) if kind.duration_pct is None else kind.duration_pct
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
    """Publish the layers in the account itself: moto has no layers shared across accounts."""
    backend = lambda_backends[account_id][region]
    for name in ("twistlock-python", "twistlock-nodejs"):
        for _ in range(NEWER):
            backend.publish_layer_version({"LayerName": name, "Content": {"ZipFile": _ZIP}})
    for name in (*TEAM_LAYERS, INSIGHTS):
        backend.publish_layer_version({"LayerName": name, "Content": {"ZipFile": _ZIP}})


def _zipped() -> str:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return event\n")
    return base64.b64encode(file.getvalue()).decode()


_ZIP = _zipped()
