"""A functions frame of any size for a made-up organization, and rules under which every check fails for some function."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from scanner.core.settings import Tag
from scanner.inventory.functions_frame import FunctionsFrame, measured_bytes
from scanner.organization.optouts import OptOut, OptOuts
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER, DefenderSettings, RiskSettings
from tests.unit.reports.frames import REGIONS, WORDS

TODAY = date(2026, 11, 24)
FUNCTIONS_A_UNIT = 250
PUBLISHER, WRAPPER = "111122223333", "/opt/twistlock/wrapper"
_RUNTIMES = (
    "python3.12", "python3.13", "python3.9", "python3.11", "nodejs20.x", "nodejs22.x", "nodejs18.x", "java21",
    "dotnet8", "go1.x", "provided.al2023", "",
)  # fmt: skip


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
    """Make the frame as the sweep makes it, unit after unit; seeded, so that two runs assess the same functions."""
    chance = np.random.default_rng(20261124)
    frame = FunctionsFrame()
    for unit in range(-(-rows // FUNCTIONS_A_UNIT)):
        some = min(FUNCTIONS_A_UNIT, rows - unit * FUNCTIONS_A_UNIT)
        account, region = account_id(unit // len(REGIONS)), REGIONS[unit % len(REGIONS)]
        dice = [(chance.random(some) * sides).astype(int).tolist() for sides in _SIDES]
        frame.add(
            account,
            region,
            [_function(n, account, region, throw) for n, throw in enumerate(zip(*dice, strict=True))],
        )
    percent = (chance.random((2, rows), dtype=np.float32) * 98).astype("float32")
    percent[:, chance.random(rows) < 0.6] = np.nan
    return frame.finish().assign(
        memory_utilization_pct=percent[0],
        timeout_utilization_pct=percent[1],
        required_tag=False,
        optout_tag=chance.random(rows) < 0.01,
        tags_read=chance.random(rows) < 0.995,
    )


# How many ways each thing can turn out: runtime, layers, Defender, environment, memory, timeout, oddity, code size.
_SIDES = (len(_RUNTIMES), 8, 10, 4, 5, 6, 100, 100_000_000)
_STAGE = tuple("x" * size for size in (4, 40, 400, 4000))
_MEMORY_MB = (128, 256, 512, 1024, 3008)
_TIMEOUT_SEC = (3, 30, 60, 300, 870, 900)


def _function(number: int, account: str, region: str, throw: tuple[int, ...]) -> tuple[Any, ...]:
    """One row as FunctionsFrame.facts returns it."""
    kind, stack, guard, stage, memory, timeout, odd, size = throw
    runtime = _RUNTIMES[kind]
    family = "nodejs" if runtime.startswith("nodejs") else "python"
    variables = {"STAGE": _STAGE[stage]}
    # Half of the functions have no layer; the others share their account's.
    layers = [f"arn:aws:lambda:{region}:{account}:layer:shared-{n}:3" for n in range(max(0, stack - 3))]
    if guard < 6:
        version = 3 if guard == 0 else 4
        layers = [*layers[:4], f"arn:aws:lambda:{region}:{PUBLISHER}:layer:twistlock-{family}:{version}"]
    if guard < 5:
        variables |= {EXEC_WRAPPER: WRAPPER, "TW_POLICY": '{"function":"x"}'}
    elif odd < 5:
        variables[EXEC_WRAPPER] = "/opt/other/wrapper"
    return (
        f"{WORDS[number % len(WORDS)]}-{number}" + ("" if number % 2 else f"-{account[-6:]}"), runtime,
        "Zip" if runtime else "Image", "arm64" if odd % 3 == 0 else "x86_64", _MEMORY_MB[memory], _TIMEOUT_SEC[timeout],
        size, " ".join(layers), len(layers), variables.get(EXEC_WRAPPER, ""),
        ";".join(name for name in (EXEC_WRAPPER, "TW_POLICY") if name in variables), measured_bytes(variables),
        odd != 7, f"{size:08x}-{number:04x}-{account}-{odd:02x}", "", "", False, odd == 8, "durable" if odd == 9 else "",
        "", 0,
    )  # fmt: skip
