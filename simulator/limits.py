"""What Lambda refuses in a configuration; the messages are AWS's.

Sources: the Lambda quotas page, the developer guide's page on environment variables, and LocalStack's
services/lambda_/provider.py, whose messages its snapshot tests compare with AWS.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from botocore.loaders import Loader

from simulator.calls import AwsError, Call, Configuration, invalid
from simulator.state import LayerVersion

MAX_LAYERS = 5
UNZIPPED_BYTES = 262_144_000
ENVIRONMENT_BYTES = 4_096
MAX_TAGS = 50
MEMORY_MB = range(128, 10_240 + 1)
TIMEOUT_SECONDS = range(1, 900 + 1)
# Developer guide, "Defined runtime environment variables": the reserved ones.
RESERVED = frozenset(
    "_HANDLER _X_AMZN_TRACE_ID AWS_DEFAULT_REGION AWS_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_NAME "
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE "
    "AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY "
    "AWS_SESSION_TOKEN AWS_LAMBDA_RUNTIME_API LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR".split()
)
_UNABLE = "Lambda was unable to configure your environment variables because the environment variables you have provided "
_VARIABLE_NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9_])+")
_LAYER_ARN = re.compile(r"arn:aws[a-z-]*:lambda:([a-z0-9-]+):(\d{12}):layer:[a-zA-Z0-9-_]+:\d+")
_HANDLER = re.compile(r"[^\s]{1,128}")


@cache
def runtimes() -> frozenset[str]:
    """Return every runtime that botocore's model of Lambda knows."""
    shapes = Loader().load_service_model("lambda", "service-2")["shapes"]
    return frozenset(shapes["Runtime"]["enum"])


def check_request(asked: Mapping[str, Any]) -> None:
    """Raise AwsError where a parameter is out of its own range, whatever the function is."""
    _check_range("memorySize", asked.get("MemorySize"), MEMORY_MB)
    _check_range("timeout", asked.get("Timeout"), TIMEOUT_SECONDS)
    architectures = asked.get("Architectures")
    if architectures is not None and list(architectures) not in (["x86_64"], ["arm64"]):
        constraint = "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
        _constraint(architectures, "architectures", f"Member must satisfy constraint: {constraint}")
    if "Environment" in asked:
        check_environment((asked["Environment"] or {}).get("Variables") or {})


def _check_range(name: str, value: int | None, allowed: range) -> None:
    if value is None or value in allowed:
        return
    bound = f"greater than or equal to {allowed[0]}" if value < allowed[0] else ""
    _constraint(value, name, f"Member must have value {bound or f'less than or equal to {allowed[-1]}'}")


def _constraint(value: Any, name: str, constraint: str) -> None:
    text = (
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {constraint}"
    )
    raise AwsError("ValidationException", text)


def check_environment(variables: Mapping[str, str]) -> None:
    """Raise AwsError for names that are reserved or malformed, and for more than 4 KB."""
    for name in variables:
        if name not in RESERVED and not _VARIABLE_NAME.fullmatch(name):
            constraint = f"Member must satisfy regular expression pattern: {_VARIABLE_NAME.pattern}"
            _constraint(
                f"{{{name}=}}", "environment.variables", f"Map keys must satisfy constraint: [{constraint}]"
            )
    reserved = sorted(RESERVED & variables.keys())
    if reserved:
        contained = "contains reserved keys that are currently not supported for modification. "
        invalid(f"{_UNABLE}{contained}Reserved keys used in this request: {', '.join(reserved)}")
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > ENVIRONMENT_BYTES:
        invalid(f"{_UNABLE}exceeded the 4KB limit. String measured: {measured}")


def check_layers(call: Call, arns: Iterable[str], known: Mapping[str, LayerVersion]) -> list[LayerVersion]:
    """Return the layer versions of these ARNs; raise AwsError where Lambda would not let a function have them."""
    arns = list(arns)
    if len(arns) > MAX_LAYERS:
        invalid("Cannot reference more than 5 layers.")
    by_layer: dict[str, str] = {}
    found = []
    for arn in arns:
        found.append(_layer(call, arn, known))
        layer = arn.rpartition(":")[0]
        if layer in by_layer:
            different = "Two different versions of the same layer are not allowed to be referenced in the same function."
            invalid(f"{different} {by_layer[layer]} and {arn} are versions of the same layer.")
        by_layer[layer] = arn
    return found


def _layer(call: Call, arn: str, known: Mapping[str, LayerVersion]) -> LayerVersion:
    parts = _LAYER_ARN.fullmatch(arn)
    if not parts:
        pattern = f"Member must satisfy regular expression pattern: {_LAYER_ARN.pattern}"
        _constraint(f"[{arn}]", "layers", f"Member must satisfy constraint: [{pattern}]")
        raise AssertionError
    region, owner = parts.groups()
    layer = known.get(arn)
    if owner != call.account and (
        layer is None or region != call.region or not layer.readable_by(call.account)
    ):
        raise layer_denied(call, arn)
    if region != call.region:
        expected = f"Layers are expected to be in region {call.region}."
        invalid(f"Layers are not in the same region as the function. {expected}")
    if layer is None:
        invalid(f"Layer version {arn} does not exist.")
    return layer


def layer_denied(call: Call, arn: str) -> AwsError:
    """Return the refusal of another account's layer; one that does not exist gets the same."""
    text = f"User: {call.caller} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because "
    text += "no resource-based policy allows the lambda:GetLayerVersion action"
    return AwsError("AccessDeniedException", text, 403)


def check_whole(configuration: Configuration, unzipped: int, layers: Iterable[LayerVersion]) -> None:
    """Raise AwsError where the parts of a configuration do not go together."""
    if configuration.get("PackageType", "Zip") == "Image":
        if configuration.get("Layers") or configuration.get("Runtime") or configuration.get("Handler"):
            invalid(
                "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
            )
        return
    runtime, handler = configuration.get("Runtime"), configuration.get("Handler", "index.handler")
    if runtime not in runtimes():
        members = ", ".join(sorted(runtimes()))
        text = (
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        )
        invalid(f"{text}[{members}] or be a valid ARN")
    if not _HANDLER.fullmatch(handler):
        _constraint(handler, "handler", r"Member must satisfy regular expression pattern: [^\s]+")
    size = unzipped + sum(layer.unzipped for layer in layers)
    if size > UNZIPPED_BYTES:
        exceeded = f"exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes"
        invalid(f"Function code combined with layers {exceeded}. The actual size is {size} bytes.")
