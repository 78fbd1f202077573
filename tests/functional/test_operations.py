"""A request of Lambda's that is prepared without botocore's client is the one that the client prepares."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ParamValidationError

from scanner.aws.clients import Clients
from scanner.aws.credentials import acting_as
from scanner.aws.operations import Operation

ARN = "arn:aws:lambda:eu-west-1:111122223333:function:orders/ü"
LAYER = "arn:aws:lambda:eu-west-1:444455556666:layer:twistlock-python"
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("list_functions", {"MaxItems": 50}),
    ("list_functions", {"FunctionVersion": "ALL", "Marker": "a+b/c=&d", "MaxItems": 50}),
    ("list_aliases", {"FunctionName": ARN, "Marker": "m"}),
    ("list_provisioned_concurrency_configs", {"FunctionName": ARN}),
    ("list_provisioned_concurrency_configs", {"FunctionName": ARN, "Marker": "m", "MaxItems": 50}),
    ("list_tags", {"Resource": ARN}),
    ("get_function_configuration", {"FunctionName": ARN, "Qualifier": "7"}),
    ("get_function_code_signing_config", {"FunctionName": ARN}),
    ("get_layer_version", {"LayerName": LAYER, "VersionNumber": 4}),
    ("tag_resource", {"Resource": ARN, "Tags": {"SecurityProtected": "Trüe"}}),
    ("untag_resource", {"Resource": ARN, "TagKeys": ["SecurityProtected", "b c"]}),
    (
        "update_function_configuration",
        {
            "FunctionName": ARN,
            "RevisionId": "r-1",
            "Layers": [f"{LAYER}:4"],
            "Environment": {"Variables": {"A": 'ü"\n', "B": ""}},
        },
    ),
]


class Recorded:
    """Answers in place of AWS, and keeps what was sent."""

    def __init__(self, clients: Clients, service: str) -> None:
        self.sent: list[AWSPreparedRequest] = []
        self.status = 200
        events: Any = clients.get(service, "eu-west-1").meta.events
        events.register("before-send", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        self.sent.append(request)
        headers = {"x-amzn-errortype": "ResourceNotFoundException"} if self.status >= 300 else {}
        answer = AWSResponse(request.url, self.status, headers, None)
        answer._content = b'{"Message": "no such function"}'
        return answer

    def last(self) -> tuple[Any, ...]:
        request = self.sent[-1]
        kept = {k: v for k, v in request.headers.items() if k not in {"X-Amz-Date", "Authorization"}}
        scope = str(request.headers["Authorization"]).partition(", Signature")[0]
        body = json.loads(request.body) if request.body else None
        return request.method, request.url, kept, body, scope


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with acting_as(Credentials("ASIA", "secret", "token")):
        yield Clients(boto3.Session(), "test")


@pytest.mark.parametrize("fips", ["false", "true"])
def test_each_request_is_the_clients(clients: Clients, monkeypatch: pytest.MonkeyPatch, fips: str) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", fips)
    recorded = Recorded(clients, "lambda")
    for method, parameters in CALLS:
        operation = clients.operation("lambda", "eu-west-1", method)
        assert isinstance(operation, Operation)
        first = getattr(clients.get("lambda", "eu-west-1"), method)(**parameters)
        by_client = recorded.last()
        assert operation(**parameters) == first
        assert recorded.last() == by_client
        assert (f"lambda{'-fips' if fips == 'true' else ''}.eu-west-1.amazonaws.com" in by_client[1]) is True
    assert len(recorded.sent) == 2 * len(CALLS)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"Qualifier": "7"}, {"FunctionName": ARN, "RevisionID": "r-1"}, {"FunctionName": None}],
)
def test_what_the_client_would_not_send_is_not_sent(clients: Clients, parameters: dict[str, Any]) -> None:
    recorded = Recorded(clients, "lambda")
    operation = clients.operation("lambda", "eu-west-1", "get_function_configuration")
    operation(FunctionName=ARN)
    with pytest.raises(ParamValidationError):
        operation(**parameters)
    assert len(recorded.sent) == 1


def test_a_refusal_is_the_clients(clients: Clients) -> None:
    recorded = Recorded(clients, "lambda")
    recorded.status = 404
    operation = clients.operation("lambda", "eu-west-1", "get_function_configuration")
    told = []
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            operation(FunctionName=ARN)
        told.append((str(error.value), error.value.response, error.value.operation_name))
    assert told[0] == told[1]
    assert told[0][1]["Error"]["Code"] == "ResourceNotFoundException"


def test_what_is_no_plain_request_goes_through_the_client(clients: Clients) -> None:
    assert clients.operation("lambda", "eu-west-1", "invoke").__name__ == "invoke"
    assert clients.operation("lambda", "eu-west-1", "list_tags") is clients.operation(
        "lambda", "eu-west-1", "list_tags"
    )


def test_other_services_go_through_their_clients(clients: Clients) -> None:
    assert clients.operation("sts", "eu-west-1", "assume_role").__name__ == "assume_role"
