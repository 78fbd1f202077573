"""Lambda's control plane: each public method is an operation, called with the core's lock held."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from simulator import limits
from simulator.calls import AwsError, Call, invalid
from simulator.state import LATEST, Function, LayerVersion

if TYPE_CHECKING:
    from simulator.core import Core

PAGE = 50  # ListFunctions returns at most 50 functions, whatever MaxItems is
_SETTINGS = frozenset(
    "Description Environment EphemeralStorage Handler KMSKeyArn LoggingConfig MemorySize Role Runtime SnapStart "
    "Timeout TracingConfig VpcConfig".split()
)
_UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)


class LambdaApi:
    """The operations on the functions and layers of a core."""

    def __init__(self, core: "Core") -> None:
        self._core = core

    # Functions

    def create_function(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        limits.check_request(asked)
        if self._core.function(call.function):
            raise AwsError(
                "ResourceConflictException", f"Function already exist: {asked['FunctionName']}", 409
            )
        layers = limits.check_layers(call, asked.get("Layers") or (), self._core.layers)
        configuration = {
            "FunctionName": call.function.rpartition(":")[2],
            "FunctionArn": call.function,
            "PackageType": "Zip",
            "Architectures": ["x86_64"],
            "MemorySize": 128,
            "Timeout": 3,
            **{
                key: value
                for key, value in asked.items()
                if key in _SETTINGS | {"PackageType", "Architectures"}
            },
            **self._code(asked.get("Code", {})),
            "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size} for layer in layers],
        }
        function = Function(configuration, dict(asked.get("Tags") or {}))
        limits.check_whole(configuration, function.unzipped, layers)
        self._core.add(function)
        pending = {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }
        self._core.change(call, function, pending, settles=True)
        return function.shown()

    def _code(self, code: Mapping[str, Any]) -> dict[str, Any]:
        digest = hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()
        return {"CodeSha256": digest, "CodeSize": max(1, len(code.get("ZipFile", b"")))}

    def update_function_configuration(self, call: Call) -> dict[str, Any]:
        function, asked = self._to_change(call), call.parameters
        limits.check_request(asked)
        if function.key_denied and "Environment" in asked:
            denied = (
                f"User: {call.caller} is not authorized to perform: kms:Encrypt on the key of {call.function}"
            )
            raise AwsError("AccessDeniedException", denied, 403)
        changes = {key: value for key, value in asked.items() if key in _SETTINGS}
        layers = self._layers_of(function)
        if "Layers" in asked:
            layers = limits.check_layers(call, asked["Layers"], self._core.layers)
            changes["Layers"] = [{"Arn": layer.arn, "CodeSize": layer.code_size} for layer in layers]
        limits.check_whole({**function.configuration, **changes}, function.unzipped, layers)
        self._core.change(call, function, changes, settles=True)
        return function.shown()

    def update_function_code(self, call: Call) -> dict[str, Any]:
        function = self._to_change(call)
        limits.check_request(call.parameters)
        about = {"FunctionName", "RevisionId", "Publish", "DryRun", "Architectures"}
        code = {key: value for key, value in call.parameters.items() if key not in about}
        changes = self._code(code)
        if "Architectures" in call.parameters:
            changes["Architectures"] = list(call.parameters["Architectures"])
        self._core.change(call, function, changes, settles=True)
        return function.shown()

    def delete_function(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        if call.qualifier == LATEST:
            invalid("$LATEST version cannot be deleted without deleting the function.")
        if not call.qualifier:
            self._core.delete(call, function)
            return {}
        users = [name for name, alias in function.aliases.items() if call.qualifier in _versions_of(alias)]
        if users:
            text = f"Unable to delete version because the following aliases reference it: {users}"
            raise AwsError("ResourceConflictException", text, 409)
        self._version(function, call.qualifier)
        with self._core.recorded(call, function):
            del function.versions[call.qualifier]
        return {}

    def get_function_configuration(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        if call.qualifier in {"", LATEST}:
            return function.shown()
        alias = function.aliases.get(call.qualifier)
        return function.shown(self._version(function, alias["FunctionVersion"] if alias else call.qualifier))

    def get_function(self, call: Call) -> dict[str, Any]:
        answer = {"Configuration": self.get_function_configuration(call), "Code": {}}
        tags = self._found(call).tags
        return {**answer, "Tags": dict(tags)} if tags else answer

    def list_functions(self, call: Call) -> dict[str, Any]:
        every_version = call.parameters.get("FunctionVersion") == "ALL"
        rows: list[dict[str, Any]] = []
        for function in self._core.functions_of(call.account, call.region):
            latest = function.listed()
            if every_version:
                latest["FunctionArn"] += f":{LATEST}"
            rows += [latest, *(map(function.listed, function.versions.values()) if every_version else ())]
        return _page(call, "Functions", rows, PAGE)

    # Versions and aliases

    def publish_version(self, call: Call) -> dict[str, Any]:
        function = self._to_change(call)
        asked = call.parameters
        if asked.get("CodeSha256", function.configuration.get("CodeSha256")) != function.configuration.get(
            "CodeSha256"
        ):
            invalid(f"CodeSHA256 ({asked['CodeSha256']}) is different from current CodeSHA256 in $LATEST")
        last = function.versions.get(str(function.last_version))
        if last is not None and function.same_as(last):
            return function.shown(last)
        function.last_version += 1
        number = str(function.last_version)
        with self._core.recorded(call, function):
            function.versions[number] = {
                **function.configuration,
                **({"Description": asked["Description"]} if asked.get("Description") else {}),
                "Version": number,
                "FunctionArn": f"{function.arn}:{number}",
                "RevisionId": self._core.revision(),
            }
            self._core.renew(function)  # as AWS does (LocalStack's snapshot tests of publish_version)
        return function.shown(function.versions[number])

    def list_versions_by_function(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        latest = {**function.listed(), "FunctionArn": f"{function.arn}:{LATEST}"}
        return _page(call, "Versions", [latest, *map(function.listed, function.versions.values())], PAGE)

    def create_alias(self, call: Call) -> dict[str, Any]:
        function, name = self._found(call), call.parameters["Name"]
        if name.isdigit():
            invalid(f"Value '{name}' at 'name' failed to satisfy constraint: it must not be a number")
        if name in function.aliases:
            arn = f"{function.arn}:{name}"
            raise AwsError("ResourceConflictException", f"Alias already exists: {arn}", 409)
        return self._put_alias(
            call, function, {"Name": name, "AliasArn": f"{function.arn}:{name}", "Description": ""}
        )

    def update_alias(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        alias = self._alias(function, call)
        _check_revision(call, alias["RevisionId"])
        return self._put_alias(call, function, alias)

    def _put_alias(self, call: Call, function: Function, before: dict[str, Any]) -> dict[str, Any]:
        keys = {"FunctionVersion", "Description", "RoutingConfig"} & call.parameters.keys()
        alias = {**before, **{key: call.parameters[key] for key in keys}, "RevisionId": self._core.revision()}
        if not (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights"):
            alias.pop("RoutingConfig", None)
        self._check_alias(function, alias)
        with self._core.recorded(call, function):
            function.aliases[alias["Name"]] = alias
        return dict(alias)

    def _check_alias(self, function: Function, alias: Mapping[str, Any]) -> None:
        weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        for version in _versions_of(alias):
            if version != LATEST:
                self._version(function, version)
        if weights and LATEST in _versions_of(alias):
            invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        if len(weights) > 1:
            invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        if alias["FunctionVersion"] in weights:
            invalid(
                f"Invalid function version {alias['FunctionVersion']}. Function version is already included."
            )
        if any(not 0 <= weight <= 1 for weight in weights.values()):
            invalid("A weight is a number from 0.0 to 1.0")

    def get_alias(self, call: Call) -> dict[str, Any]:
        return dict(self._alias(self._found(call), call))

    def list_aliases(self, call: Call) -> dict[str, Any]:
        version = call.parameters.get("FunctionVersion")
        aliases = [one for one in self._found(call).aliases.values() if version in {None, *_versions_of(one)}]
        return _page(call, "Aliases", [dict(alias) for alias in aliases], PAGE)

    def delete_alias(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        if call.parameters["Name"] in function.aliases:
            with self._core.recorded(call, function):
                del function.aliases[call.parameters["Name"]]
        return {}

    def _alias(self, function: Function, call: Call) -> dict[str, Any]:
        name = call.parameters["Name"]
        if name not in function.aliases:
            raise _not_found(f"Cannot find alias arn: {function.arn}:{name}")
        return function.aliases[name]

    def list_provisioned_concurrency_configs(self, call: Call) -> dict[str, Any]:
        self._found(call)
        return {"ProvisionedConcurrencyConfigs": []}

    def get_function_code_signing_config(self, call: Call) -> dict[str, Any]:
        function = self._found(call)
        name = {"FunctionName": function.configuration["FunctionName"]}
        return {**name, "CodeSigningConfigArn": function.signing} if function.signing else name

    # Tags

    def list_tags(self, call: Call) -> dict[str, Any]:
        return {"Tags": dict(self._found(call).tags)}

    def tag_resource(self, call: Call) -> dict[str, Any]:
        return self._put_tags(call, lambda tags: {**tags, **call.parameters["Tags"]})

    def untag_resource(self, call: Call) -> dict[str, Any]:
        gone = call.parameters["TagKeys"]
        return self._put_tags(call, lambda tags: {key: tags[key] for key in tags if key not in gone})

    def _put_tags(self, call: Call, put: Callable[[Mapping[str, str]], dict[str, str]]) -> dict[str, Any]:
        if call.qualifier:
            invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        function = self._found(call)
        tags = put(function.tags)
        if len(tags) > limits.MAX_TAGS:
            invalid("Number of tags exceeds function tag limit.")
        if any(key.startswith("aws:") for key in tags.keys() ^ function.tags.keys()):
            invalid("Tag keys that begin with aws: are reserved for AWS.")
        with self._core.recorded(call, function):
            function.tags = tags
            self._core.renew(function)  # as AWS does (LocalStack's snapshot tests of tag_resource)
        return {}

    # Layers

    def get_layer_version(self, call: Call) -> dict[str, Any]:
        named, number = str(call.parameters["LayerName"]), call.parameters["VersionNumber"]
        if not named.startswith("arn:"):
            named = f"arn:aws:lambda:{call.region}:{call.account}:layer:{named}"
        layer = self._core.layers.get(f"{named}:{number}")
        if named.split(":")[4] != call.account and (layer is None or not layer.readable_by(call.account)):
            raise limits.layer_denied(call, f"{named}:{number}")
        if layer is None:
            raise _not_found("The resource you requested does not exist.")
        content = {"CodeSize": layer.code_size, "CodeSha256": hashlib.sha256(layer.arn.encode()).hexdigest()}
        return {"LayerArn": named, "LayerVersionArn": layer.arn, "Version": number, "Content": content}

    def delete_layer_version(self, call: Call) -> dict[str, Any]:
        name = call.parameters["LayerName"].rpartition(":")[2]
        arn = f"arn:aws:lambda:{call.region}:{call.account}:layer:{name}:{call.parameters['VersionNumber']}"
        self._core.layers.pop(arn, None)
        return {}

    # What the operations share

    def _found(self, call: Call) -> Function:
        function = self._core.function(call.function)
        if function is None:
            raise _not_found(f"Function not found: {call.function}")
        return function

    def _version(self, function: Function, number: str) -> Mapping[str, Any]:
        if number not in function.versions:
            raise _not_found(f"Function not found: {function.arn}:{number}")
        return function.versions[number]

    def _layers_of(self, function: Function) -> Iterable[LayerVersion]:
        """Return the layer versions that a function carries; those deleted since it got them still count."""
        arns = [layer["Arn"] for layer in function.configuration.get("Layers") or ()]
        return [self._core.layers.get(arn) or LayerVersion(arn) for arn in arns]

    def _to_change(self, call: Call) -> Function:
        """Return the function, if nothing is under way on it and its revision is the one that is asked for."""
        function = self._found(call)
        if call.qualifier:
            invalid(_UNQUALIFIED_ONLY)
        state = function.configuration.get("State", "Active")
        refused = "The operation cannot be performed at this time."
        if state == "Pending":
            text = f"{refused} The function is currently in the following state: {state}"
            raise AwsError("ResourceConflictException", text, 409)
        if function.configuration.get("LastUpdateStatus") == "InProgress":
            text = f"{refused} An update is in progress for resource: {function.arn}"
            raise AwsError("ResourceConflictException", text, 409)
        _check_revision(call, function.configuration["RevisionId"])
        return function


def _check_revision(call: Call, revision: str) -> None:
    if call.parameters.get("RevisionId", revision) != revision:
        text = "The Revision Id provided does not match the latest Revision Id. "
        text += "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        raise AwsError("PreconditionFailedException", text, 412)


def _not_found(message: str) -> AwsError:
    return AwsError("ResourceNotFoundException", message, 404)


def _versions_of(alias: Mapping[str, Any]) -> list[str]:
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return [alias["FunctionVersion"], *weights]


def _page(call: Call, key: str, rows: list[dict[str, Any]], most: int) -> dict[str, Any]:
    first = int(call.parameters.get("Marker") or 0)
    last = first + min(most, int(call.parameters.get("MaxItems") or most))
    page: dict[str, Any] = {key: rows[first:last]}
    return {**page, "NextMarker": str(last)} if last < len(rows) else page
