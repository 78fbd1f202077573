"""Functions as Lambda describes them, and their assessment by the risk engine."""

from datetime import date
from typing import Any

import pandas as pd

from scanner.inventory.functions_frame import frame_of
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import DefenderSettings, RiskSettings

ACCOUNT, REGION, TODAY = "222233334444", "us-east-1", date(2026, 11, 24)
PUBLISHER = "111122223333"
LAYERS = {
    "python": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4",
    "nodejs": "arn:aws:lambda:{region}:111122223333:layer:twistlock-nodejs:4",
}
WRAPPER = "/opt/twistlock/wrapper"


def layer(
    name: str = "twistlock-python", version: int = 4, publisher: str = PUBLISHER, region: str = REGION
) -> str:
    return f"arn:aws:lambda:{region}:{publisher}:layer:{name}:{version}"


def function(
    name: str = "app", *, account: str = ACCOUNT, region: str = REGION, **fields: Any
) -> dict[str, Any]:
    """An eligible Python function; a field given as None is left out, `layers` and `variables` are short forms."""
    layers, variables = fields.pop("layers", ()), fields.pop("variables", None)
    configuration = {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:{name}",
        "Runtime": "python3.12",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "MemorySize": 512,
        "Timeout": 30,
        "CodeSize": 5_000_000,
        "RevisionId": "a-revision",
        "Layers": [{"Arn": arn, "CodeSize": 1} for arn in layers] or None,
        "Environment": None if variables is None else {"Variables": variables},
        **fields,
    }
    return {name: value for name, value in configuration.items() if value is not None}


def rules(risk: dict[str, Any] | None = None, defender: dict[str, Any] | None = None, **others: Any) -> Rules:
    """The documented configuration, with changes to its sections."""
    return Rules(
        partition="aws",
        risk=RiskSettings.model_validate(risk or {}),
        defender=DefenderSettings.model_validate({"layers": LAYERS, "wrapper": WRAPPER, **(defender or {})}),
        **others,
    )


def frame(
    *configurations: dict[str, Any], by: Rules | None = None, account: str = ACCOUNT, region: str = REGION
) -> pd.DataFrame:
    by = by or rules()
    return frame_of(configurations, "aws", account, region, by.defender.watched_variables)


def assess(
    *configurations: dict[str, Any], by: Rules | None = None, today: date = TODAY, **added: Any
) -> pd.DataFrame:
    """Assess functions of one unit; `added` columns are put into the frame before."""
    by = by or rules()
    return assess_risk(frame(*configurations, by=by).assign(**added), by, today)


def reasons(configuration: dict[str, Any], by: Rules | None = None, **how: Any) -> list[str]:
    """Return the reason codes of one function."""
    text = str(assess(configuration, by=by, **how)["reasons"].iloc[0])
    return text.split(";") if text else []


def verdict(configuration: dict[str, Any], by: Rules | None = None, **how: Any) -> str:
    return str(assess(configuration, by=by, **how)["verdict"].iloc[0])


def protection(configuration: dict[str, Any], by: Rules | None = None, **how: Any) -> str:
    return str(assess(configuration, by=by, **how)["protection"].iloc[0])
