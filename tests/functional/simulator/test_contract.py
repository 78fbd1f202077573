"""The cases of contract.py against the core and against moto, as it is and as the demo has it."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from auto_defender.demo.simulated_aws import like_aws
from simulator.clock import ManualClock
from simulator.core import Core
from simulator.http import Front, environment, serving
from tests.functional.simulator.contract import CASES, Target, archive

REGION = "us-east-1"
# Where moto 5.2.5 is laxer than AWS, or answers otherwise: the case, and the place in moto/awslambda.
MOTO = {
    "six_layers_are_refused": "models.py, LambdaFunction._get_layers_data: no limit",
    "two_versions_of_a_layer_are_refused": "models.py, LambdaFunction._get_layers_data: names are not compared",
    "a_layer_that_does_not_exist_is_refused": "exceptions.py, UnknownLayerVersionException: another code, 404",
    "a_layer_of_another_account_needs_a_grant": "models.py, layers_versions_by_arn: looks by name, in any account",
    "more_than_4_kb_of_environment_are_refused": "models.py, update_configuration: takes any environment",
    "reserved_variables_are_refused": "models.py, update_configuration: takes any environment",
    "a_malformed_variable_name_is_refused": "models.py, update_configuration: takes any environment",
    "an_unknown_runtime_is_refused": "models.py, update_configuration: takes any runtime",
    "too_long_a_timeout_is_refused": "models.py, update_configuration: takes any timeout",
    "another_revision_is_refused": "models.py, update_configuration: ignores RevisionId",
    "an_update_renews_the_revision": "models.py, get_configuration: has no RevisionId",
    "a_function_made_again_is_another_one": "models.py, get_configuration: has no RevisionId",
    "tagging_renews_the_revision": "models.py, get_configuration: has no RevisionId",
    "an_update_is_in_progress_at_first": "models.py, get_configuration: always Successful",
    "an_update_during_an_update_is_refused": "models.py, get_configuration: always Successful",
    "a_new_function_is_pending": "models.py, get_configuration: Active at once",
    "a_version_can_not_be_changed": "responses.py, update_function_configuration: takes a qualified ARN",
    "an_alias_routes_to_two_published_versions": "models.py, LambdaAlias.update: routes to $LATEST as well",
    "a_version_that_an_alias_names_is_kept": "models.py, LambdaStorage.del_function: aliases are not asked",
    "a_listing_shows_no_state": "responses.py, list_functions: the whole configuration",
    "an_alias_is_moved_on_condition_of_its_revision": "models.py, LambdaAlias.update: ignores RevisionId",
}
_ADDED_BY_THE_DEMO = {
    "another_revision_is_refused",
    "an_update_renews_the_revision",
    "a_function_made_again_is_another_one",
}
LIKE_AWS = {case: place for case, place in MOTO.items() if case not in _ADDED_BY_THE_DEMO}


@contextmanager
def core() -> Iterator[Target]:
    clock, versions = ManualClock(datetime(2026, 11, 24, tzinfo=UTC)), itertools.count(1)
    simulated = Core(clock, rate=None)

    def layer(name: str) -> str:
        arn = f"arn:aws:lambda:{REGION}:{simulated.organization.management}:layer:{name}:{next(versions)}"
        return simulated.publish_layer(arn).arn

    with serving(Front(simulated)) as url:
        keys = environment(url, simulated.organization.management)
        client = boto3.client(
            "lambda",
            REGION,
            endpoint_url=url,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys["AWS_SESSION_TOKEN"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        role = f"arn:aws:iam::{simulated.organization.management}:role/function"
        yield Target(client, role, {"ZipFile": archive()}, layer, lambda name: clock.sleep(3))


@contextmanager
def moto(behaviour: Callable[[], Any] = nullcontext) -> Iterator[Target]:
    with mock_aws(), behaviour(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "testing")
        client = boto3.client("lambda", REGION)
        role = boto3.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument="{}")["Role"][
            "Arn"
        ]

        def layer(name: str) -> str:
            published = client.publish_layer_version(LayerName=name, Content={"ZipFile": archive()})
            return str(published["LayerVersionArn"])

        yield Target(client, role, {"ZipFile": archive()}, layer, lambda name: None)


TARGETS: dict[str, tuple[Callable[[], AbstractContextManager[Target]], dict[str, str]]] = {
    "core": (core, {}),
    "moto": (moto, MOTO),
    "moto as the demo has it": (lambda: moto(like_aws), LIKE_AWS),
}


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[tuple[Target, dict[str, str]]]:
    start, laxer = TARGETS[request.param]
    with ExitStack() as stack:
        yield stack.enter_context(start()), laxer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(case: Callable[[Target], None], target: tuple[Target, dict[str, str]]) -> None:
    tried, laxer = target
    if case.__name__ not in laxer:
        case(tried)
        return
    with pytest.raises(AssertionError):
        case(tried)


def test_what_is_listed_as_laxer_is_a_case() -> None:
    assert MOTO.keys() <= {case.__name__ for case in CASES}
