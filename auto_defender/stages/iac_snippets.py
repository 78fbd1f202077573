"""Template lines for a function's owner, so that the Defender outlives the next deployment."""

import re
from collections.abc import Mapping
from typing import Literal

from remediator.change.desired_state import DesiredState
from scanner.settings import EXEC_WRAPPER

Tool = Literal["CloudFormation/SAM", "CDK", "Serverless Framework", "Terraform"]


def tool_of(tags: Mapping[str, str]) -> Tool:
    """Return what deploys a function, from its tags; Terraform sets none of its own.

    CloudFormation tags what it makes with aws:cloudformation:*. The Serverless Framework adds STAGE to those; CDK's
    logical ids end in a hash of eight hexadecimal digits.
    """
    if "aws:cloudformation:stack-name" not in tags:
        return "Terraform"
    if "STAGE" in tags:
        return "Serverless Framework"
    logical_id = tags.get("aws:cloudformation:logical-id", "")
    return "CDK" if re.fullmatch(r"\w+[0-9A-F]{8}", logical_id) else "CloudFormation/SAM"


def snippet(tool: Tool, ours: DesiredState) -> str:
    """Return the lines for a tool. Values other than the wrapper's are secrets: placeholders with their names replace them."""
    variables = {name: ours.wrapper if name == EXEC_WRAPPER else f"<{name}>" for name in ours.names}
    return _WRITERS[tool](str(ours.layer), variables)


def _cloudformation(layer: str, variables: Mapping[str, str]) -> str:
    lines = [f'        {name}: "{value}"' for name, value in variables.items()]
    return "\n".join(
        ["Properties:", "  Layers:", f"    - {layer}", "  Environment:", "    Variables:", *lines]
    )


def _serverless(layer: str, variables: Mapping[str, str]) -> str:
    lines = [f'  {name}: "{value}"' for name, value in variables.items()]
    return "\n".join(["layers:", f"  - {layer}", "environment:", *lines])


def _terraform(layer: str, variables: Mapping[str, str]) -> str:
    lines = [f'    {name} = "{value}"' for name, value in variables.items()]
    return "\n".join([f'layers = ["{layer}"]', "environment {", "  variables = {", *lines, "  }", "}"])


def _cdk(layer: str, variables: Mapping[str, str]) -> str:
    add = f'fn.addLayers(LayerVersion.fromLayerVersionArn(this, "Defender", "{layer}"));'
    return "\n".join(
        [add, *(f'fn.addEnvironment("{name}", "{value}");' for name, value in variables.items())]
    )


_WRITERS = {
    "CloudFormation/SAM": _cloudformation,
    "CDK": _cdk,
    "Serverless Framework": _serverless,
    "Terraform": _terraform,
}
