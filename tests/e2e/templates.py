"""The templates of stacksets/, as CloudFormation reads them and as the emulator can."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

STACKSETS = Path(__file__).parents[2] / "stacksets"


def read(name: str) -> dict[str, Any]:
    """Read a template; short functions (!Ref) come as long ones (Ref, Fn::Sub)."""
    template: dict[str, Any] = json.loads(_as_json(name))
    return template


@cache
def _as_json(name: str) -> str:
    template, problems = decode(str(STACKSETS / name))
    if problems:
        raise ValueError(f"{name}: {problems}")
    return json.dumps(template)


def deployable(name: str, account_id: str) -> str:
    """Give a template's text, changed where ministack 1.5.33 falls short of CloudFormation.

    It refuses alarms over metric math, and in conditions it takes a pseudo parameter's name for its value.
    """
    template = read(name)
    for logical_id, resource in list(template["Resources"].items()):
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            del template["Resources"][logical_id]
    conditions = json.dumps(template["Conditions"]) if "Conditions" in template else "{}"
    template["Conditions"] = json.loads(conditions.replace('{"Ref": "AWS::AccountId"}', f'"{account_id}"'))
    return json.dumps(template)
