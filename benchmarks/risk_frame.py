"""A functions frame of any size for a made-up organization, and rules under which every check has something to say."""

import random
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from scanner.frame import FunctionsFrame, measured_bytes
from scanner.optouts import OptOut, OptOuts
from scanner.rules import Rules
from scanner.settings import EXEC_WRAPPER, DefenderSettings, RiskSettings, Tag

TODAY = date(2026, 11, 24)
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-2")
FUNCTIONS_A_UNIT = 250
PUBLISHER, WRAPPER = "111122223333", "/opt/twistlock/wrapper"
_RUNTIMES = (
    "python3.12", "python3.13", "python3.9", "python3.11", "nodejs20.x", "nodejs22.x", "nodejs18.x", "java21",
    "dotnet8", "go1.x", "provided.al2023", "",
)  # fmt: skip
_WORDS = (
    "billing",
    "orders",
    "ingest",
    "export",
    "thumbnail",
    "notify",
    "audit",
    "search",
    "webhook",
    "sync",
)


def account_id(number: int) -> str:
    """The id of the account with this number."""
    return f"{100_000_000_000 + number}"


def rules() -> Rules:
    """The documented configuration with a policy of each kind."""
    layers = {
        family: f"arn:aws:lambda:{{region}}:{PUBLISHER}:layer:twistlock-{family}:4"
        for family in ("python", "nodejs")
    }
    out = [
        OptOut(
            account=account_id(number * 7), functions=("billing-*", "audit-1"), reason="CHG-4711",
            owner="payments@example.com", expires=TODAY + timedelta(days=number - 5),
        )
        for number in range(100)
    ]  # fmt: skip
    return Rules(
        partition="aws",
        risk=RiskSettings(),
        defender=DefenderSettings.model_validate(
            {
                "layers": layers,
                "wrapper": WRAPPER,
                "environment": {"TW_POLICY": '{"function":"{function_name}"}'},
            }
        ),
        optouts=OptOuts(tuple(out)),
        optout_tag=Tag(key="AutoDefender", value="off"),
        exclusion_list=("search-7", "sync-11", "thumbnail-??"),
        quarantined=frozenset(
            f"arn:aws:lambda:us-east-1:{account_id(number)}:function:orders-{number}" for number in range(50)
        ),
    )


def functions_frame(rows: int) -> pd.DataFrame:
    """Make the frame as the sweep makes it, unit after unit; seeded, so that two runs judge the same functions."""
    dice = random.Random(20261124)
    frame = FunctionsFrame("aws", (EXEC_WRAPPER, "TW_POLICY"))
    for unit in range(-(-rows // FUNCTIONS_A_UNIT)):
        region = REGIONS[unit % len(REGIONS)]
        some = min(FUNCTIONS_A_UNIT, rows - unit * FUNCTIONS_A_UNIT)
        account = account_id(unit // len(REGIONS))
        frame.add(account, region, [_function(dice, number, account, region) for number in range(some)])
    chance = np.random.default_rng(20261124)
    percent = (chance.random((2, rows), dtype=np.float32) * 98).astype("float32")
    percent[:, chance.random(rows) < 0.6] = np.nan
    return frame.finish().assign(
        memory_utilization_pct=percent[0],
        timeout_utilization_pct=percent[1],
        required_tag=False,
        optout_tag=chance.random(rows) < 0.01,
        tags_read=chance.random(rows) < 0.995,
    )


def _function(dice: random.Random, number: int, account: str, region: str) -> tuple[Any, ...]:
    """One row as frame.facts gives it."""
    runtime = dice.choice(_RUNTIMES)
    variables = {"STAGE": "x" * dice.choice((4, 40, 400, 4000))}
    layers = [f"arn:aws:lambda:{region}:{account}:layer:shared-{dice.randrange(6)}:3"] * dice.choice(
        (0, 0, 1, 1, 4, 5)
    )
    if dice.random() < 0.5:
        layers = [
            *layers[:4],
            f"arn:aws:lambda:{region}:{PUBLISHER}:layer:twistlock-python:{dice.choice((3, 4, 4, 4))}",
        ]
        variables |= {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "x" * 40}
    elif dice.random() < 0.05:
        variables[EXEC_WRAPPER] = "/opt/other/wrapper"
    return (
        f"{_WORDS[number % len(_WORDS)]}-{number}", runtime, "Zip" if runtime else "Image",
        dice.choice(("x86_64", "x86_64", "arm64")), dice.choice((128, 256, 512, 1024, 3008)),
        dice.choice((3, 30, 60, 300, 870, 900)), dice.randrange(1000, 100_000_000), " ".join(layers), len(layers),
        variables.get(EXEC_WRAPPER, ""), ";".join(name for name in (EXEC_WRAPPER, "TW_POLICY") if name in variables),
        measured_bytes(variables), dice.random() > 0.01, f"{dice.getrandbits(128):032x}", "", "", False,
        dice.random() < 0.01, "durable" if dice.random() < 0.01 else "",
    )  # fmt: skip
