"""The answers of AWS: realistic Lambda, STS and Organizations bodies for a made-up organization.

Everything derives from numbers, so that the server needs no state: account ``n`` has the id ``n + 100000000000``,
and each function's name, ARN and revision carry its account, so that no two functions of the organization
share a string that real ones would not share.
"""

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CENTRAL_ACCOUNT = "999988887777"
FIRST_ACCOUNT = 100_000_000_000
PLACEHOLDER = "000000000000"  # stands for the account in a rendered page; one bytes.replace fills it in
LAMBDA_PAGE = 50  # ListFunctions gives at most 50 a page, whatever MaxItems says

_RUNTIMES = ["python3.12", "python3.9", "nodejs20.x", "nodejs18.x", "java21", "go1.x", "dotnet8"]
_TEAMS = ["payments", "orders", "identity", "search", "billing", "audit", "catalog", "shipping"]
_JOBS = ["api-handler", "stream-worker", "nightly-export", "webhook", "thumbnailer", "reconciler"]


@dataclass(frozen=True)
class Organization:
    """The size of the made-up organization.

    accounts: member accounts, beside the central one; functions: in each account and region.
    """

    accounts: int
    functions: int
    page_size: int = LAMBDA_PAGE
    accounts_per_ou: int = 100


def account_id(number: int) -> str:
    """The id of the member account with this number."""
    return str(FIRST_ACCOUNT + number)


def function_configuration(region: str, number: int, account: str = PLACEHOLDER) -> dict[str, Any]:
    """One FunctionConfiguration as ListFunctions returns it: about 1.2 kB of JSON."""
    dice = random.Random(f"{region}/{number}")
    runtime = dice.choice(_RUNTIMES)
    name = f"{dice.choice(_TEAMS)}-{dice.choice(_JOBS)}-{number}-{account}"
    layers = [
        {
            "Arn": f"arn:aws:lambda:{region}:{account}:layer:shared-{index}:{dice.randint(1, 40)}",
            "CodeSize": 1234567,
        }
        for index in range(dice.choice([0, 0, 1, 2]))
    ]
    return {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:{name}",
        "Runtime": runtime,
        "Role": f"arn:aws:iam::{account}:role/service-role/{name}-role",
        "Handler": "app.handler",
        "CodeSize": dice.randint(800, 90_000_000),
        "Description": "Deployed by the platform's pipeline",
        "Timeout": dice.choice([3, 15, 30, 60, 300, 900]),
        "MemorySize": dice.choice([128, 256, 512, 1024, 3008]),
        "LastModified": "2026-10-01T08:15:30.000+0000",
        "CodeSha256": "Hb1pSLmyXz2i1R3zqJm0xYjzDkF0nX0Wm6gYp7JdFfQ=",
        "Version": "$LATEST",
        "VpcConfig": {
            "SubnetIds": ["subnet-0a1b2c3d4e5f60718", "subnet-1a1b2c3d4e5f60718"],
            "SecurityGroupIds": ["sg-0a1b2c3d4e5f60718"],
            "VpcId": "vpc-0a1b2c3d4e5f60718",
            "Ipv6AllowedForDualStack": False,
        },
        "Environment": {
            "Variables": {"STAGE": "production", "LOG_LEVEL": "INFO", "TABLE_NAME": f"table-{name}"}
        },
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": str(uuid.UUID(int=dice.getrandbits(128)))[:24] + account,
        **({"Layers": layers} if layers else {}),
        "PackageType": "Zip",
        "Architectures": [dice.choice(["x86_64", "x86_64", "arm64"])],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }


def functions_page(region: str, first: int, count: int, total: int) -> bytes:
    """One ListFunctions answer with functions ``first`` to ``first + count``; a NextMarker when more follow."""
    page: dict[str, Any] = {"Functions": [function_configuration(region, first + n) for n in range(count)]}
    if first + count < total:
        page["NextMarker"] = str(first + count)
    return to_json(page)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Compact JSON, as AWS sends it."""
    return json.dumps(document, separators=(",", ":")).encode()
