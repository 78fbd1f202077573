"""Sends what a shared client has prepared: one signature, one request, one answer.

botocore builds the request (parameters, endpoint, serialization) and raises its own errors from the answer. What is
left out is its way between the two: retries (scanner.aws.caller has its own), a CA bundle read for every connection, a
walk of the service model through every answer. `before-call` is the event at which botocore's Stubber answers in place
of the network.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse, HeadersDict
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.signers import RequestSigner

from scanner.aws.connection_pool import Answer, ConnectionPool
from scanner.aws.credentials import current_credentials
from scanner.aws.errors import ClockSkew

_PLAIN_TYPES = frozenset(("string", "boolean", "integer", "long", "float", "double"))
# AWS refuses a signature that is older or newer than five minutes (IAM User Guide, "Troubleshoot SigV4").
_MAX_SKEW = timedelta(minutes=4)
_REFUSED_SIGNATURES = frozenset(
    "AuthFailure InvalidSignatureException RequestExpired RequestInTheFuture RequestTimeTooSkewed "
    "SignatureDoesNotMatch".split()
)


class _Request(AWSRequest):
    """botocore's, with the headers as a dictionary and the body as it is sent: it would prepare both several times."""

    def __init__(self, prepared: Mapping[str, Any], context: Mapping[str, Any]) -> None:
        super().__init__(prepared["method"], prepared["url"], data=_body(prepared["body"]))
        self.headers: Any = dict(prepared["headers"].items())
        self.context = dict(context)

    @property
    def body(self) -> Any:
        return self.data

    def prepare(self) -> AWSPreparedRequest:
        return AWSPreparedRequest(
            str(self.method), str(self.url), self.headers, self.body or None, stream_output=False
        )


class _Signature(SigV4Auth):
    """botocore's, at AWS's time."""

    def __init__(self, offset: timedelta, *scope: Any) -> None:
        super().__init__(*scope)
        self._offset = offset

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = (datetime.now(UTC) + self._offset).strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


class Sender:
    """A handler of one client's before-call event."""

    def __init__(self, events: Any, pool: ConnectionPool) -> None:
        """Take the client's events, and the connections that all clients share."""
        self._events = events
        self._pool = pool
        self._plain: dict[str, bool] = {}
        # How far the endpoint's clock is ahead of this machine's, where that makes AWS refuse signatures.
        self._offset = timedelta()

    def __call__(
        self,
        model: OperationModel,
        params: Mapping[str, Any],
        request_signer: RequestSigner,
        context: Mapping[str, Any],
        **_: Any,
    ) -> tuple[AWSResponse | Answer, dict[str, Any]]:
        """Return the HTTP response and the parsed answer.

        Raises what ConnectionPool.send raises, and ClockSkew where AWS refused a signature for its time: the next one
        is made with AWS's.
        """
        request = self._signed(params, request_signer, context)
        event = f"before-send.{model.service_model.service_id.hyphenize()}.{model.name}"
        mocked = self._events.emit_until_response(event, request=request)[1]
        answer = mocked or self._pool.send(request)
        parsed = self._parsed(model, answer)
        if answer.status_code >= 400 and parsed["Error"]["Code"] in _REFUSED_SIGNATURES:
            self._correct_clock(request, answer)
        return answer, parsed

    def _signed(
        self, prepared: Mapping[str, Any], signer: RequestSigner, context: Mapping[str, Any]
    ) -> AWSPreparedRequest:
        request = _Request(prepared, context)
        signing = context.get("signing", {})
        # What the client calls its endpoint can be another one, which does not exist (GovCloud and FIPS, Account API).
        _Signature(
            self._offset,
            current_credentials().get_frozen_credentials(),
            signing.get("signing_name", signer.signing_name),
            signing.get("region", signer.region_name),
        ).add_auth(request)
        return request.prepare()

    def _correct_clock(self, request: AWSPreparedRequest, answer: AWSResponse | Answer) -> None:
        """Take over the time of an answer that is far from the time of the signature that it refuses."""
        try:
            answered = parsedate_to_datetime(answer.headers.get("Date", "")).replace(tzinfo=UTC)
        except ValueError:
            return
        signed = datetime.strptime(request.headers["X-Amz-Date"], SIGV4_TIMESTAMP).replace(tzinfo=UTC)
        if abs(answered - signed) > _MAX_SKEW:
            self._offset = answered - datetime.now(UTC)
            seconds = round(self._offset.total_seconds())
            raise ClockSkew(f"this machine's clock differs from AWS's by {seconds} seconds; set it by NTP")

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
    """Return the body's bytes; the query protocol (STS, EC2) prepares a form."""
    return urlencode(prepared, doseq=True).encode() if isinstance(prepared, dict) else prepared


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse an answer's body; one that is no JSON object gives nothing."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def is_plain_json(model: OperationModel) -> bool:
    """Return whether an operation's answer is JSON that botocore's parser would hand over unchanged."""
    shape = model.output_shape
    return model.service_model.resolved_protocol in {"rest-json", "json"} and (
        shape is None or is_plain(shape)
    )


def is_plain(shape: Any, above: frozenset[str] = frozenset()) -> bool:
    """Return whether a shape's JSON is what botocore takes and gives: no other names, no timestamps, no blobs."""
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
