"""The organization that lives: its units, accounts and functions of every kind, drawn from a seed."""

from collections.abc import Mapping
from random import Random
from typing import Any

from simulator.core import HOME, Core
from simulator.state import Function

REGIONS = ("us-east-1", "eu-west-1", "eu-central-1")
LATE_REGION = REGIONS[-1]  # most accounts enable it later, or never
PUBLISHER, STRANGER = "111122223333", "444455556666"
WRAPPER, POLICY = "AWS_LAMBDA_EXEC_WRAPPER", "TW_POLICY"
UNITS = ("Workloads/Dev", "Workloads/Prod", "Workloads/Prod/Critical", "Sandbox")
OWNERS_SECRET = "s3cret-of-an-owner"
FAMILIES = {"python3.12": "python", "python3.13": "python", "nodejs22.x": "nodejs"}
VERSIONS = range(1, 41)
# The kinds that no run may change, by what they are.
_UNFIT: Mapping[str, Mapping[str, Any]] = {
    "arm": {"Architectures": ["arm64"]},
    "small": {"MemorySize": 128},
    "slow": {"Timeout": 900},
    "java": {"Runtime": "java21"},
    "wrapped": {"Environment": {"Variables": {WRAPPER: "/opt/other/wrapper"}}},
    "policied": {"Environment": {"Variables": {POLICY: "the owner's own"}}},
    "crowded": {"Environment": {"Variables": {"BIG": "x" * 4070}}},
    "image": {"PackageType": "Image", "Runtime": "", "Handler": ""},
    "signed": {"SigningJobArn": "arn:aws:signer:us-east-1:222233334444:/signing-jobs/x"},
    "excluded": {},
    "failed": {"State": "Failed", "StateReasonCode": "EniLimitExceeded"},
}


def ours(region: str, version: int, family: str) -> str:
    """Return the ARN of our layer."""
    return f"arn:aws:lambda:{region}:{PUBLISHER}:layer:twistlock-{family}:{version}"


def is_ours(arn: str) -> bool:
    """Return whether a layer is one of ours, of whatever version."""
    return f":{PUBLISHER}:layer:twistlock-" in arn


def foreign_layers(rng: Random, region: str, most: int) -> list[str]:
    """Draw layers of others; one of them looks nearly like ours."""
    names = rng.sample(
        ["datadog", "shared-libs", "twistlock-python", "insights", "ffmpeg"], rng.randint(0, most)
    )
    return [f"arn:aws:lambda:{region}:{STRANGER}:layer:{name}:{rng.randint(1, 40)}" for name in names]


def owners_variables(rng: Random) -> dict[str, str]:
    """Draw variables of an owner's, each value a secret."""
    names = rng.sample(["STAGE", "TABLE", "DB_URL", "API_KEY", "LOG_LEVEL"], rng.randint(0, 4))
    return {name: f"{OWNERS_SECRET}-{rng.getrandbits(64):x}" for name in names}


def carried(function: Function) -> tuple[str, ...]:
    """Return a function's layers."""
    return tuple(layer["Arn"] for layer in function.configuration.get("Layers") or ())


def with_layers(arns: list[str]) -> list[dict[str, Any]]:
    """Return layers as Lambda shows them."""
    return [{"Arn": arn, "CodeSize": 1} for arn in arns]


def place(core: Core, rng: Random, account: str, region: str, number: int) -> Function:
    """Put a new function there; its name begins with its kind."""
    kind = rng.choice(["plain"] * 30 + sorted(_UNFIT))
    fields: dict[str, Any] = {
        "Runtime": rng.choice(sorted(FAMILIES)),
        "CodeSize": rng.randint(800, 40_000_000),
        "Timeout": rng.choice([3, 30, 300]),
        "MemorySize": rng.choice([512, 1024]),
        "Layers": with_layers(foreign_layers(rng, region, 4)),
        "Environment": {"Variables": owners_variables(rng)},
        **_UNFIT.get(kind, {}),
    }
    if kind == "image":
        fields = {
            name: value for name, value in fields.items() if name not in {"Runtime", "Handler", "Layers"}
        }
    function = core.place(account, region, f"{kind}-{number}", **fields)
    if kind == "image":
        function.configuration = {
            k: v for k, v in function.configuration.items() if k not in {"Runtime", "Handler"}
        }
    return function


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"{200_000_000_000 + number * 1_001}"


def settle(core: Core, rng: Random, accounts: int, functions: int) -> None:
    """Let an organization be there: the central account, members in nested units, their functions."""
    core.organization.regions = REGIONS
    for version in VERSIONS:
        for region in REGIONS:
            for family in ("python", "nodejs"):
                core.publish_layer(ours(region, version, family))
    core.organization.accounts[HOME].disabled_regions.add(LATE_REGION)
    for number in range(accounts):
        join(core, rng, number, functions)


def join(core: Core, rng: Random, number: int, functions: int) -> str:
    """Let an account join with its functions; return its id."""
    account = core.organization.join(account_id(number), UNITS[number % len(UNITS)])
    if rng.random() < 0.8:
        account.disabled_regions.add(LATE_REGION)
    for region in REGIONS:
        for one in range(functions if region not in account.disabled_regions else 0):
            place(core, rng, account.id, region, one)
    if number == 0:  # first by name, and more than a run may change of an account
        for one in range(8):
            core.place(
                account.id, REGIONS[0], f"aa-failed-{one}", State="Failed", StateReasonCode="EniLimitExceeded"
            )
    return account.id
