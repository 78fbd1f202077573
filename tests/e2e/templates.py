"""The templates of stacksets/ as the emulator can read them."""

import json

from tools.templates import read


def deployable(name: str, account_id: str) -> str:
    """Return a template's text, changed where ministack 1.5.33 falls short of CloudFormation.

    It refuses alarms over metric math, and in conditions it takes a pseudo parameter's name for its value.
    """
    template = read(name)
    for logical_id, resource in list(template["Resources"].items()):
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            del template["Resources"][logical_id]
    conditions = json.dumps(template["Conditions"]) if "Conditions" in template else "{}"
    template["Conditions"] = json.loads(conditions.replace('{"Ref": "AWS::AccountId"}', f'"{account_id}"'))
    return json.dumps(template)
