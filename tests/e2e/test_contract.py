"""The cases of the simulator's contract against ministack."""

import json
import time
from collections.abc import Callable

import pytest

from tests.e2e.emulator import Emulator
from tests.functional.simulator.contract import CASES, Target, archive

ACCOUNT = "345678901234"
_ANY_CONFIGURATION = "_update_config: values are taken as they come"
# Where ministack 1.5.33 is laxer than AWS: the case, and the place in ministack/services/lambda_svc.py.
MINISTACK = {
    "six_layers_are_refused": "_normalize_layer_attachments: no limit",
    "two_versions_of_a_layer_are_refused": "_normalize_layer_attachments: names are not compared",
    "a_layer_of_another_account_needs_a_grant": "_normalize_layer_attachments: takes a layer that it does not know",
    "more_than_4_kb_of_environment_are_refused": _ANY_CONFIGURATION,
    "reserved_variables_are_refused": _ANY_CONFIGURATION,
    "a_malformed_variable_name_is_refused": _ANY_CONFIGURATION,
    "an_unknown_runtime_is_refused": _ANY_CONFIGURATION,
    "too_long_a_timeout_is_refused": _ANY_CONFIGURATION,
    "tagging_renews_the_revision": "tags do not touch the configuration",
    "an_update_during_an_update_is_refused": "_update_config: asks for no state",
    "a_new_function_is_pending": "_update_config: asks for no state",
    "an_alias_needs_its_version": "_create_alias: versions are not looked up",
    "an_alias_routes_to_two_published_versions": "_update_alias: routes to $LATEST as well",
    "a_listing_shows_no_state": "_list_functions: the whole configuration",
}


@pytest.fixture(scope="module")
def target(aws: Emulator) -> Target:
    client = aws.root(ACCOUNT, "lambda")
    trusts = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trusts]})
    role = aws.root(ACCOUNT, "iam").create_role(RoleName="function", AssumeRolePolicyDocument=policy)["Role"]

    def layer(name: str) -> str:
        published = client.publish_layer_version(LayerName=name, Content={"ZipFile": archive()})
        return str(published["LayerVersionArn"])

    def wait(name: str) -> None:
        while client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "InProgress":
            time.sleep(0.02)

    return Target(client, role["Arn"], {"ZipFile": archive()}, layer, wait)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(case: Callable[[Target], None], target: Target) -> None:
    if case.__name__ not in MINISTACK:
        case(target)
        return
    with pytest.raises(AssertionError):
        case(target)


def test_what_is_listed_as_laxer_is_a_case() -> None:
    assert MINISTACK.keys() <= {case.__name__ for case in CASES}
