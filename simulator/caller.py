"""The front without a wire: called as the product's Aws is, and answers as boto3 does."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.validate import ParamValidator

from simulator.calls import AnswerLost, AwsError, Call
from simulator.core import Core


@cache
def operations(service: str) -> dict[str, OperationModel]:
    """Return a service's operations by the name of boto3's method."""
    model = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


class Caller:
    """Calls a core as the accounts of an organization, each in a role session of the same name.

    lost: makes what is raised where an answer was lost.
    """

    def __init__(
        self, core: Core, session: str, *, role: str = "AutoDefenderMember", lost: Callable[[str], Exception]
    ) -> None:
        self.core = core
        self.session = session
        self._role = role
        self._lost = lost

    def call(
        self,
        account_id: str,
        region: str,
        service: str,
        method: str,
        *,
        deadline: float | None = None,
        write: bool = False,
        check: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Call a method of a boto3 client as an account and return its answer; `check` is called right before it.

        Raises ClientError where AWS refuses, ParamValidationError as boto3 does, and what `lost` makes.
        """
        del deadline, write
        model = operations(service)[method]
        _validate(model, parameters)
        call = Call(account_id, region, service, model.name, parameters, self.session)
        if check:
            check()
        try:
            self._assume(call)
            return copy.deepcopy(self.core.answer(call))
        except AwsError as error:
            raise client_error(error, call.operation) from None
        except AnswerLost as error:
            raise self._lost(str(error)) from None

    def _assume(self, call: Call) -> None:
        """Begin a session, as the first call of a real run does; the central account needs none."""
        if call.account == self.core.organization.management:
            return
        try:
            self.core.assume(call, f"arn:aws:iam::{call.account}:role/{self._role}")
        except AwsError as error:
            raise client_error(error, "AssumeRole") from None


def _validate(model: OperationModel, parameters: dict[str, Any]) -> None:
    if model.input_shape is None:
        return
    problems = ParamValidator().validate(parameters, model.input_shape)
    if problems.has_errors():
        raise ParamValidationError(report=problems.generate_report())


def client_error(error: AwsError, operation: str) -> ClientError:
    """Return the refusal as botocore raises it."""
    response = {
        "Error": {"Code": error.code, "Message": error.message},
        "ResponseMetadata": {"HTTPStatusCode": error.status},
    }
    return ClientError(response, operation)  # type: ignore[arg-type]
