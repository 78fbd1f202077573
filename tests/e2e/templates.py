"""The templates of stacksets/ as the emulator can read them."""

import json
from typing import Any

from tools.templates import read


def deployable(name: str, account_id: str) -> str:
    """Return a template's text, changed where ministack 1.5.33 falls short of CloudFormation.

    It refuses alarms over metric math, and in conditions it takes a pseudo parameter's name for its value. In policies,
    aws:PrincipalArn is a role's session there, not the role, and a request never carries s3:if-none-match.
    """
    template = read(name)
    for logical_id, resource in list(template["Resources"].items()):
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            del template["Resources"][logical_id]
    if "ReportsPolicy" in template["Resources"]:
        _adapt(template["Resources"]["ReportsPolicy"]["Properties"]["PolicyDocument"])
    conditions = json.dumps(template["Conditions"]) if "Conditions" in template else "{}"
    template["Conditions"] = json.loads(conditions.replace('{"Ref": "AWS::AccountId"}', f'"{account_id}"'))
    return json.dumps(template)


def _adapt(policy: dict[str, Any]) -> None:
    """Let the central role's sessions write to the report bucket, and create journals."""
    session = {"Fn::Sub": "arn:${AWS::Partition}:sts::${AWS::AccountId}:assumed-role/${RoleName}/*"}
    policy["Statement"] = [
        statement for statement in policy["Statement"] if statement["Sid"] != "JournalsAreCreatedOnce"
    ]
    (writers,) = (s for s in policy["Statement"] if s["Sid"] == "WrittenByAutoDefenderAlone")
    writers["Condition"] = {"ArnNotLike": {"aws:PrincipalArn": session}}
