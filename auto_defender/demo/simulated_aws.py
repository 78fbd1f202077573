"""AWS simulated in this process: moto, with some of AWS's behaviour that it lacks, isolated from real credentials."""

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws
from moto.awslambda.exceptions import PreconditionFailedException
from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.awslambda.urls import url_paths
from moto.core.exceptions import AccessDeniedError
from moto.core.model import OperationModel, ServiceModel
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random
from moto.sts.models import AssumedRole, STSBackend

# The account that moto assigns to access keys that it did not issue.
CENTRAL_ACCOUNT_ID = "123456789012"
_KEYS = {"AWS_ACCESS_KEY_ID": "AKIADEMODEMODEMODEMO", "AWS_SECRET_ACCESS_KEY": "simulated"}
_NO_USER_CREDENTIALS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_assume_any_role = STSBackend.assume_role
_operation_model_unlocked = ServiceModel.operation_model
_operation_models = threading.Lock()
_PROVISIONED = "{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[^/]+)/provisioned-concurrency$"


class SimulatedFunction(LambdaFunction):
    """moto's function, with revisions and the members of FunctionConfiguration in its request's "Unmodelled"."""

    def __init__(self, account_id: str, spec: dict[str, Any], region: str, version: str | int = 1) -> None:
        """Take a CreateFunction request; "Unmodelled" in it has members that moto does not model, or models differently."""
        super().__init__(account_id, spec, region, version)
        self._unmodelled: dict[str, Any] = spec.get("Unmodelled", {})
        self._revision_id = str(uuid.uuid4())

    def get_configuration(self, on_create: bool = False) -> dict[str, Any]:
        """Return FunctionConfiguration."""
        return {**super().get_configuration(on_create), "RevisionId": self._revision_id, **self._unmodelled}

    def update_configuration(self, config_updates: dict[str, Any]) -> dict[str, Any]:
        """Reject an update that names another revision, as AWS does."""
        if config_updates.get("RevisionId", self._revision_id) != self._revision_id:
            raise PreconditionFailedException("The RevisionId provided does not match the latest RevisionId.")
        self._revision_id = str(uuid.uuid4())
        return super().update_configuration(config_updates)


def _assume_role(backend: STSBackend, *, role_arn: str, **parameters: Any) -> AssumedRole:
    """Deny a role that does not exist, as AWS does; moto lets anyone assume it."""
    try:
        iam_backends[role_arn.split(":")[4]]["aws"].get_role_by_arn(role_arn)
    except NotFoundException:
        central = f"arn:aws:iam::{CENTRAL_ACCOUNT_ID}:root"
        raise AccessDeniedError(central, f"sts:AssumeRole on resource: {role_arn}") from None
    return _assume_any_role(backend, role_arn=role_arn, **parameters)


def _operation_model(service: ServiceModel, operation_name: str) -> OperationModel:
    """Return moto's model of an operation, whichever thread asks first.

    moto keeps botocore's model under the key of its own while it makes its own: another thread's request, served in
    between, fails with an AttributeError.
    """
    with _operation_models:
        model: OperationModel = _operation_model_unlocked(service, operation_name)
    return model


def _list_provisioned_concurrency_configs(_: LambdaResponse) -> tuple[int, dict[str, str], str]:
    """Answer an operation that moto does not have: no version has provisioned concurrency."""
    return 200, {}, '{"ProvisionedConcurrencyConfigs": []}'


@contextmanager
def like_aws() -> Iterator[None]:
    """Make moto, in this process or as a server of it, behave like AWS where Auto-Defender depends on it."""
    with (
        patch("moto.awslambda.models.LambdaFunction", SimulatedFunction),
        patch.object(STSBackend, "assume_role", _assume_role),
        patch.object(ServiceModel, "operation_model", _operation_model),
        patch.dict(url_paths, {_PROVISIONED: LambdaResponse.dispatch}),
        patch.object(
            LambdaResponse,
            "list_provisioned_concurrency_configs",
            _list_provisioned_concurrency_configs,
            create=True,
        ),
    ):
        mock_random.seed(2026)  # the same account ids each time
        yield


@contextmanager
def simulated_aws() -> Iterator[boto3.Session]:
    """Yield a session of the simulated central account.

    The user's credentials, profile and endpoints are removed from the environment meanwhile: an operation that the
    simulation does not have fails and never calls AWS.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        patch.dict(os.environ, {**others, **_NO_USER_CREDENTIALS, **_KEYS}, clear=True),
        mock_aws(config={"core": {"mock_credentials": False}}),
        like_aws(),
    ):
        yield boto3.Session(
            aws_access_key_id=_KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
