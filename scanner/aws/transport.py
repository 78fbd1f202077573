"""Sends what a shared client has prepared: one signature, one request, one answer.

botocore builds the request (parameters, endpoint, serialization) and raises its own errors from the answer. What is
left out is its way between the two, most of a call's CPU: signing events, retries (scanner.aws.caller has its own), copies of
headers, a walk of the service model through every answer. `before-call` is the event at which botocore's Stubber
answers in place of the network.
"""

from collections.abc import Mapping
from ssl import SSLContext
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

import orjson
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.signers import RequestSigner

from scanner.aws.connections import Connections
from scanner.aws.credentials import current_credentials
from scanner.aws.exchange import Answer
from scanner.aws.signing import signed_headers

_PLAIN_TYPES = frozenset(("string", "boolean", "integer", "long", "float", "double"))


class Sent(NamedTuple):
    """Where an operation's requests are sent (https://HOST), and the scope that they are signed for."""

    origin: str
    service: str
    region: str


class Sender:
    """A handler of one client's before-call event; its connections are shared by every account."""

    def __init__(self, events: Any, tls: SSLContext) -> None:
        """Take the client's events, and the TLS context of its connections.

        sent_to: where the client's requests of each operation went, by its name.
        """
        self.sent_to: dict[str, Sent] = {}
        self._events = events
        self._tls = tls
        self._connections: dict[str, Connections] = {}
        self._plain: dict[str, bool] = {}

    def __call__(
        self,
        model: OperationModel,
        params: Mapping[str, Any],
        request_signer: RequestSigner,
        context: Mapping[str, Any],
        **_: Any,
    ) -> tuple[AWSResponse | Answer, dict[str, Any]]:
        """Give the HTTP response and the parsed answer, or raise what botocore raises for a connection."""
        signing = context.get("signing", {})
        parts = urlsplit(params["url"])
        # What the client calls its endpoint can be another one, which does not exist (GovCloud and FIPS, Account API).
        where = Sent(
            f"{parts.scheme}://{parts.netloc}",
            signing.get("signing_name", request_signer.signing_name),
            signing.get("region", request_signer.region_name),
        )
        self.sent_to[model.name] = where
        return self.send(model, params, where)

    def send(
        self, model: OperationModel, prepared: Mapping[str, Any], where: Sent
    ) -> tuple[AWSResponse | Answer, dict[str, Any]]:
        """Sign and send a request as botocore prepares it (method, url, headers, body)."""
        body = _body(prepared["body"])
        headers = signed_headers(
            current_credentials().get_frozen_credentials(),
            where.service,
            where.region,
            prepared["method"],
            prepared["url"],
            prepared["headers"],
            body,
        )
        request = AWSPreparedRequest(
            prepared["method"], prepared["url"], cast("Any", headers), body or None, stream_output=False
        )
        event = f"before-send.{model.service_model.service_id.hyphenize()}.{model.name}"
        mocked = self._events.emit_until_response(event, request=request)[1]
        answer = mocked or self._connections_to(where.origin).send(request)
        return answer, self._parsed(model, answer)

    def _connections_to(self, origin: str) -> Connections:
        if origin not in self._connections:
            self._connections.setdefault(origin, Connections(origin, self._tls))
        return self._connections[origin]

    def _parsed(self, model: OperationModel, answer: AWSResponse | Answer) -> dict[str, Any]:
        """Parse with orjson where that gives what botocore's parser would.

        A body that is no JSON object gives nothing, which the caller takes for a broken answer.
        """
        if model.name not in self._plain:
            self._plain[model.name] = is_plain_json(model)
        if answer.status_code < 300 and self._plain[model.name]:
            return parse_json(answer.content)
        parser: Any = create_parser(model.service_model.resolved_protocol)
        response = {
            "headers": HeadersDict(answer.headers),
            "status_code": answer.status_code,
            "context": {"operation_name": model.name},
            "body": answer.content,
        }
        parsed: dict[str, Any] = parser.parse(response, model.output_shape)
        return parsed


def _body(prepared: bytes | dict[str, str]) -> bytes:
    """Give the body's bytes; the query protocol (STS, EC2) prepares a form."""
    return urlencode(prepared, doseq=True).encode() if isinstance(prepared, dict) else prepared


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse an answer's body; one that is no JSON object gives nothing."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def is_plain_json(model: OperationModel) -> bool:
    """Tell whether an operation's answer is JSON that botocore's parser would hand over unchanged."""
    shape = model.output_shape
    return model.service_model.resolved_protocol in {"rest-json", "json"} and (
        shape is None or is_plain(shape)
    )


def is_plain(shape: Any, above: frozenset[str] = frozenset()) -> bool:
    """Tell whether a shape's JSON is what botocore takes and gives: no other names, no timestamps, no blobs."""
    if shape.name in above:
        return True
    above |= {shape.name}
    if shape.type_name == "structure":
        members = shape.members.items()
        return "payload" not in shape.serialization and all(
            not (member.serialization.keys() - {"name"})
            and member.serialization.get("name", name) == name
            and is_plain(member, above)
            for name, member in members
        )
    if shape.type_name == "list":
        return is_plain(shape.member, above)
    if shape.type_name == "map":
        return is_plain(shape.value, above)
    return shape.type_name in _PLAIN_TYPES
