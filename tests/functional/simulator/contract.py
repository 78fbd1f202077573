"""What AWS does, case by case; each runs against the simulator's core and against the emulators.

A case raises AssertionError where the target is laxer than AWS. Sources: the Lambda API reference (errors of each
operation), the Lambda quotas page, the developer guide (environment variables, layers, versions, aliases, function
states), and LocalStack's services/lambda_/provider.py, whose answers its snapshot tests compare with AWS.
"""

import io
import itertools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError


@dataclass
class Target:
    """client: boto3's, of Lambda; layer: makes a layer version and returns its ARN; wait: until updates are done."""

    client: Any
    role: str
    code: dict[str, Any]
    layer: Callable[[str], str]
    wait: Callable[[str], None]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def function(self, **more: Any) -> str:
        """Create a function and return its name, once it is active."""
        name = f"f{next(self.numbers)}"
        asked = {
            "Runtime": "python3.12",
            "Handler": "app.handler",
            "Role": self.role,
            "Code": self.code,
            **more,
        }
        self.client.create_function(FunctionName=name, **asked)
        self.wait(name)
        return name

    def update(self, name: str, **changes: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.update_function_configuration(FunctionName=name, **changes)
        return answer

    def read(self, name: str, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get_function_configuration(FunctionName=name, **more)
        return answer


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("app.py", "def handler(event, context): pass")
    return buffer.getvalue()


def refused(code: str, status: int, call: Callable[..., Any], *arguments: Any, **parameters: Any) -> str:
    """Return AWS's message; AssertionError where the call is accepted, or refused with something else."""
    try:
        call(*arguments, **parameters)
    except ClientError as error:
        got = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert got == (code, status)
        return error.response["Error"]["Message"]
    raise AssertionError(f"accepted; AWS refuses it with {code}")


def six_layers_are_refused(target: Target) -> None:
    layers = [target.layer(f"six-{n}") for n in range(6)]
    refused("InvalidParameterValueException", 400, target.update, target.function(), Layers=layers)


def two_versions_of_a_layer_are_refused(target: Target) -> None:
    layers = [target.layer("twice"), target.layer("twice")]
    refused("InvalidParameterValueException", 400, target.update, target.function(), Layers=layers)


def a_layer_that_does_not_exist_is_refused(target: Target) -> None:
    missing = target.layer("there").rpartition(":")[0] + ":99"
    refused("InvalidParameterValueException", 400, target.update, target.function(), Layers=[missing])


def a_layer_of_another_account_needs_a_grant(target: Target) -> None:
    name, account = target.function(), target.layer("own").split(":")[4]
    other = target.layer("own").replace(account, "210987654321")
    refused("AccessDeniedException", 403, target.update, name, Layers=[other])


def more_than_4_kb_of_environment_are_refused(target: Target) -> None:
    big = {"Variables": {"BIG": "x" * 4096}}
    refused("InvalidParameterValueException", 400, target.update, target.function(), Environment=big)


def just_4_kb_of_environment_are_accepted(target: Target) -> None:
    most = {"Variables": {"B1": "x" * (4096 - len('{"B1":""}'))}}
    name = target.function()
    target.update(name, Environment=most)
    target.wait(name)
    assert target.read(name)["Environment"] == most


def reserved_variables_are_refused(target: Target) -> None:
    reserved = {"Variables": {"AWS_REGION": "us-east-1"}}
    refused("InvalidParameterValueException", 400, target.update, target.function(), Environment=reserved)


def a_malformed_variable_name_is_refused(target: Target) -> None:
    malformed = {"Variables": {"1-2": "x"}}
    refused("ValidationException", 400, target.update, target.function(), Environment=malformed)


def an_unknown_runtime_is_refused(target: Target) -> None:
    refused("InvalidParameterValueException", 400, target.update, target.function(), Runtime="python1.5")


def too_long_a_timeout_is_refused(target: Target) -> None:
    refused("ValidationException", 400, target.update, target.function(), Timeout=5000)


def another_revision_is_refused(target: Target) -> None:
    wrong = "11111111-2222-4333-8444-555555555555"
    refused("PreconditionFailedException", 412, target.update, target.function(), RevisionId=wrong, Timeout=9)


def an_update_renews_the_revision(target: Target) -> None:
    name = target.function()
    before = target.read(name).get("RevisionId", "")
    assert before
    target.update(name, RevisionId=before, Timeout=9)
    target.wait(name)
    assert target.read(name)["RevisionId"] != before
    refused("PreconditionFailedException", 412, target.update, name, RevisionId=before, Timeout=10)


def tagging_renews_the_revision(target: Target) -> None:
    name = target.function()
    before = target.read(name)
    target.client.tag_resource(Resource=before["FunctionArn"], Tags={"TEAM": "x"})
    assert target.read(name).get("RevisionId") != before.get("RevisionId")


def an_update_is_in_progress_at_first(target: Target) -> None:
    assert target.update(target.function(), Timeout=9)["LastUpdateStatus"] == "InProgress"


def an_update_during_an_update_is_refused(target: Target) -> None:
    name = target.function()
    target.update(name, Timeout=9)
    refused("ResourceConflictException", 409, target.update, name, Timeout=10)


def a_new_function_is_pending(target: Target) -> None:
    name = "pending"
    asked = {"Runtime": "python3.12", "Handler": "app.handler", "Role": target.role, "Code": target.code}
    created = target.client.create_function(FunctionName=name, **asked)
    assert created["State"] == "Pending"
    refused("ResourceConflictException", 409, target.update, name, Timeout=9)
    target.wait(name)
    assert target.read(name)["State"] == "Active"


def a_function_that_does_not_exist_is_not_found(target: Target) -> None:
    refused("ResourceNotFoundException", 404, target.update, "missing", Timeout=9)
    refused("ResourceNotFoundException", 404, target.read, "missing")


def a_name_is_taken_once(target: Target) -> None:
    name = target.function()
    asked = {"Runtime": "python3.12", "Handler": "app.handler", "Role": target.role, "Code": target.code}
    refused("ResourceConflictException", 409, target.client.create_function, FunctionName=name, **asked)


def a_function_made_again_is_another_one(target: Target) -> None:
    name = target.function(Tags={"TEAM": "x"})
    before = target.read(name)
    target.client.delete_function(FunctionName=name)
    refused("ResourceNotFoundException", 404, target.read, name)
    asked = {"Runtime": "python3.12", "Handler": "app.handler", "Role": target.role, "Code": target.code}
    target.client.create_function(FunctionName=name, **asked)
    target.wait(name)
    after = target.read(name)
    assert after.get("RevisionId") != before.get("RevisionId")
    assert target.client.list_tags(Resource=after["FunctionArn"])["Tags"] == {}


def a_version_keeps_what_was_published(target: Target) -> None:
    name = target.function()
    assert target.client.publish_version(FunctionName=name)["Version"] == "1"
    target.update(name, MemorySize=1024)
    target.wait(name)
    kept = target.read(name, Qualifier="1")
    assert (kept["MemorySize"], kept["Version"], kept["FunctionArn"].rpartition(":")[2]) == (128, "1", "1")
    assert target.read(name)["MemorySize"] == 1024


def an_unchanged_function_is_published_once(target: Target) -> None:
    name = target.function()
    numbers = [target.client.publish_version(FunctionName=name)["Version"] for _ in range(2)]
    assert numbers == ["1", "1"]


def a_version_can_not_be_changed(target: Target) -> None:
    name = target.function()
    arn = target.client.publish_version(FunctionName=name)["FunctionArn"]
    refused("InvalidParameterValueException", 400, target.update, arn, Timeout=9)


def an_alias_needs_its_version(target: Target) -> None:
    asked = {"FunctionName": target.function(), "Name": "live", "FunctionVersion": "7"}
    refused("ResourceNotFoundException", 404, target.client.create_alias, **asked)


def an_alias_routes_to_two_published_versions(target: Target) -> None:
    name = target.function()
    target.client.publish_version(FunctionName=name)
    target.update(name, MemorySize=1024)
    target.wait(name)
    target.client.publish_version(FunctionName=name)
    routing = {"AdditionalVersionWeights": {"2": 0.1}}
    alias = {"FunctionName": name, "Name": "live"}
    target.client.create_alias(**alias, FunctionVersion="1", RoutingConfig=routing)
    assert target.client.get_alias(**alias)["RoutingConfig"] == routing
    refused(
        "InvalidParameterValueException", 400, target.client.update_alias, **alias, FunctionVersion="$LATEST"
    )


def a_version_that_an_alias_names_is_kept(target: Target) -> None:
    name = target.function()
    target.client.publish_version(FunctionName=name)
    target.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    refused("ResourceConflictException", 409, target.client.delete_function, FunctionName=name, Qualifier="1")


def a_listing_shows_no_state(target: Target) -> None:
    target.function()
    listed = target.client.list_functions()["Functions"]
    assert not [one for one in listed if one.keys() & {"State", "LastUpdateStatus"}]


def an_alias_is_moved_on_condition_of_its_revision(target: Target) -> None:
    name = target.function()
    target.client.publish_version(FunctionName=name)
    alias = {"FunctionName": name, "Name": "live"}
    made = target.client.create_alias(**alias, FunctionVersion="1")
    target.client.update_alias(**alias, Description="x", RevisionId=made["RevisionId"])
    wrong = {"Description": "y", "RevisionId": made["RevisionId"]}
    refused("PreconditionFailedException", 412, target.client.update_alias, **alias, **wrong)


CASES: list[Callable[[Target], None]] = [
    six_layers_are_refused,
    two_versions_of_a_layer_are_refused,
    a_layer_that_does_not_exist_is_refused,
    a_layer_of_another_account_needs_a_grant,
    more_than_4_kb_of_environment_are_refused,
    just_4_kb_of_environment_are_accepted,
    reserved_variables_are_refused,
    a_malformed_variable_name_is_refused,
    an_unknown_runtime_is_refused,
    too_long_a_timeout_is_refused,
    another_revision_is_refused,
    an_update_renews_the_revision,
    tagging_renews_the_revision,
    an_update_is_in_progress_at_first,
    an_update_during_an_update_is_refused,
    a_new_function_is_pending,
    a_function_that_does_not_exist_is_not_found,
    a_name_is_taken_once,
    a_function_made_again_is_another_one,
    a_version_keeps_what_was_published,
    an_unchanged_function_is_published_once,
    a_version_can_not_be_changed,
    an_alias_needs_its_version,
    an_alias_routes_to_two_published_versions,
    a_version_that_an_alias_names_is_kept,
    a_listing_shows_no_state,
    an_alias_is_moved_on_condition_of_its_revision,
]
