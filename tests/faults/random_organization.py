"""What the simulated organization holds: functions of every kind, drawn from a seed, and how their owners change them."""

from pathlib import Path
from random import Random
from typing import Any

from benchmarks.answers import CENTRAL_ACCOUNT, account_id
from scanner.settings import EXEC_WRAPPER

REGIONS = ("us-east-1", "us-west-2")
PUBLISHER, STRANGER = "111122223333", "444455556666"
WRAPPER = "/opt/twistlock/wrapper"
POLICY_VARIABLE, POLICY = "TW_POLICY", "s3cret-of-the-security-team"
OWNERS_SECRET = "s3cret-of-the-owner"
OPTOUT_TAG = {"AutoDefender": "off"}

CONFIGURATION = """
organization: {{role_name: AutoDefenderMember, regions: [{regions}]}}
defender:
  layers:
    python: arn:aws:lambda:{{region}}:{publisher}:layer:twistlock-python:{version}
    nodejs: arn:aws:lambda:{{region}}:{publisher}:layer:twistlock-nodejs:{version}
  wrapper: {wrapper}
  environment: {{{policy_variable}: {policy}}}
risk: {{utilization: {{enabled: false}}}}
rollout:
  dry_run: false
  exclusion_list: ["excluded-*"]
  optout_tag: {optout_tag}
  max_changes_per_run: 1000
  max_changes_per_account: 1000
  stop_after_failure_pct: {stop_after}
  quiet_minutes: 0
sweep: {{workers: 8, calls_per_second: 100, unit_timeout_sec: 2}}
optouts: {optouts}
output: {output}
"""
OPTOUTS = """
optouts:
  - {account: "*", functions: ["optedout-*"], reason: latency, owner: owner@example.com}
"""


def write_configuration(folder: Path, version: int, *, tagged: bool, stop_after: int = 100) -> Path:
    """Write a configuration and its opt-out file; give the configuration's path."""
    optouts, path = folder / "optouts.yaml", folder / "auto-defender.yaml"
    optouts.write_text(OPTOUTS)
    text = CONFIGURATION.format(
        regions=", ".join(REGIONS),
        publisher=PUBLISHER,
        version=version,
        wrapper=WRAPPER,
        policy_variable=POLICY_VARIABLE,
        policy=POLICY,
        optout_tag='{key: AutoDefender, value: "off"}' if tagged else "null",
        stop_after=stop_after,
        optouts=optouts,
        output=folder / "out",
    )
    path.write_text(text)
    return path


def accounts_of(count: int) -> list[str]:
    """Name the accounts of an organization with so many members: the central one has functions as well."""
    return [*map(account_id, range(count)), CENTRAL_ACCOUNT]


def ours(region: str, version: int = 4, family: str = "python") -> str:
    """Name our layer."""
    return f"arn:aws:lambda:{region}:{PUBLISHER}:layer:twistlock-{family}:{version}"


def our_layers() -> list[str]:
    """Name every version of our layers that is published."""
    return [
        ours(region, version, family)
        for region in REGIONS
        for version in (3, 4, 5)
        for family in ("python", "nodejs")
    ]


def is_ours(arn: str) -> bool:
    """Return whether a layer is one of ours, of whatever version; written apart from the code under test."""
    return f":{PUBLISHER}:layer:twistlock-" in arn


def foreign_layers(rng: Random, region: str, most: int) -> list[str]:
    """Draw layers of others; one of them looks nearly like ours."""
    names = ["datadog", "shared-libs", "twistlock-python", "insights", "ffmpeg"]
    publisher = {"twistlock-python": STRANGER}
    chosen = rng.sample(names, rng.randint(0, most))
    return [
        f"arn:aws:lambda:{region}:{publisher.get(name, '222233334444')}:layer:{name}:{rng.randint(1, 40)}"
        for name in chosen
    ]


def owners_variables(rng: Random) -> dict[str, str]:
    """Draw variables of the owner's, each value a secret that must never be seen again."""
    names = rng.sample(["STAGE", "TABLE", "DB_URL", "API_KEY", "LOG_LEVEL", "CITY", "Z9"], rng.randint(0, 6))
    return {name: f"{OWNERS_SECRET}-{rng.getrandbits(64):x}-Zürich" for name in names}


def function(rng: Random, number: int, account: str, region: str) -> dict[str, Any]:
    """Draw a function; its name begins with its kind."""
    kind = rng.choice(["plain"] * 8 + ["upgrade", "partial", "late"] * 2 + sorted(_KINDS))
    name = f"{kind}-{number}" if not kind.startswith("AWS") else f"{kind}{number}"
    family, runtime = rng.choice(
        [("python", "python3.12"), ("nodejs", "nodejs20.x"), ("python", "python3.9")]
    )
    made: dict[str, Any] = {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:{name}",
        "Runtime": runtime,
        "CodeSize": rng.randint(800, 60_000_000),
        "Timeout": rng.choice([3, 30, 300]),
        "MemorySize": rng.choice([512, 1024]),
        "LastModified": "2026-10-01T08:15:30.000+0000",
        "RevisionId": f"{rng.getrandbits(64):x}",
        "State": rng.choice(["Active", "Inactive"]),
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "Layers": foreign_layers(rng, region, 4),
        "Environment": {"Variables": owners_variables(rng)},
    }
    if kind == "upgrade":
        made["Layers"].insert(rng.randint(0, len(made["Layers"])), ours(region, 3, family))
        made["Environment"]["Variables"] |= {EXEC_WRAPPER: WRAPPER, POLICY_VARIABLE: "an earlier policy"}
    if kind == "partial":
        half = rng.choice(["layer", "wrapper"])
        made["Layers"] += [ours(region, 4, family)] if half == "layer" else []
        made["Environment"]["Variables"] |= {EXEC_WRAPPER: WRAPPER} if half == "wrapper" else {}
    made |= _KINDS.get(kind, lambda region: {})(region)
    made["Layers"] = [{"Arn": arn, "CodeSize": 1} for arn in made["Layers"]]
    return made


# Kinds that nobody may touch, as far as the rules go; `plain`, `upgrade`, `partial` and `late` (slow to settle) may.
_KINDS: dict[str, Any] = {
    "arm": lambda region: {"Architectures": ["arm64"]},
    "small": lambda region: {"MemorySize": 128},
    "slow": lambda region: {"Timeout": 900},
    "image": lambda region: {"PackageType": "Image"},
    "java": lambda region: {"Runtime": "java21"},
    "wrapped": lambda region: {"Environment": {"Variables": {EXEC_WRAPPER: "/opt/other/wrapper"}}},
    "unreadable": lambda region: {"Environment": {"Error": {"ErrorCode": "AccessDenied", "Message": "kms"}}},
    "crowded": lambda region: {"Environment": {"Variables": {"BIG": "x" * 4070}}},
    "full": lambda region: {"Layers": [f"arn:aws:lambda:{region}:{STRANGER}:layer:l{n}:1" for n in range(5)]},
    "replica": lambda region: {"MasterArn": "arn:aws:lambda:us-east-1:222233334444:function:edge:1"},
    "signed": lambda region: {"SigningJobArn": "arn:aws:signer:us-east-1:222233334444:/signing-jobs/x"},
    "pending": lambda region: {"State": "Pending"},
    "optedout": lambda region: {},
    "excluded": lambda region: {},
    "tagged": lambda region: {},
    "AWSAccelerator-": lambda region: {},
}


def deploy(rng: Random, function: dict[str, Any]) -> dict[str, Any]:
    """Deploy as an owner does: sometimes it takes the Defender away, sometimes it makes the function unfit.

    Returns the fields that it sets; changes the configuration that is given.
    """
    variables = function["Environment"].setdefault("Variables", {})
    function["Environment"].pop("Error", None)
    match rng.choice(["variable", "variable", "value", "layers", "template", "small", "wrapper", "nothing"]):
        case "variable":
            variables[f"NEW_{rng.randint(0, 3)}"] = f"{OWNERS_SECRET}-{rng.getrandbits(64):x}"
        case "value":
            names = [name for name in variables if name != EXEC_WRAPPER]
            for name in (
                [POLICY_VARIABLE] if POLICY_VARIABLE in names else rng.sample(names, min(1, len(names)))
            ):
                variables[name] = f"{OWNERS_SECRET}-{rng.getrandbits(64):x}"
        case "layers":
            region = function["FunctionArn"].split(":")[3]
            mine = [layer for layer in function["Layers"] if is_ours(layer["Arn"])]
            others = [{"Arn": arn, "CodeSize": 1} for arn in foreign_layers(rng, region, 4)]
            at = rng.randint(0, len(others))
            function["Layers"] = others[:at] + mine + others[at:]
        case "template":
            function["Layers"] = [layer for layer in function["Layers"] if not is_ours(layer["Arn"])]
            function["Environment"] = {"Variables": owners_variables(rng)}
        case "small":
            function["MemorySize"] = 128
        case "wrapper":
            variables[EXEC_WRAPPER] = "/opt/other/wrapper"
        case _:
            function["Description"] = f"{rng.getrandbits(32):x}"
    fields = {"Layers", "Environment", "MemorySize", "Description"}
    return {key: value for key, value in function.items() if key in fields}
