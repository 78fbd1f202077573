"""HTTP/1.1 on loopback: requests read with as little work as can be, and answers."""

import asyncio
import hashlib
import json
import re
import socket
import struct
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import Protocol, cast
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape

from simulator import sigv4
from simulator.organization import secret_key

_CREDENTIAL = re.compile(r"Credential=([A-Z]{4}(\d{12})\d{4})/(\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request)")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SIGNED = re.compile(r"SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})")
_XML_SERVICES = ("sts", "ec2")
_JSON_SERVICES = ("organizations", "tagging", "monitoring")


class Request:
    """One request. account, region and service are the signer's; all "" where no key of an account signed."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head.decode("latin-1")
        self.body = body
        self.method, target, _ = self.head.split("\r\n", 1)[0].split(" ")
        self.path, _, self.query = target.partition("?")
        self.key = self.account = self.scope = self.region = self.service = ""
        signer = _CREDENTIAL.search(self.head)
        if signer:
            self.key, self.account, self.scope, self.region, self.service = signer.groups()

    def header(self, name: str) -> str:
        """A header's value, "" where it is absent; name in lower case."""
        found = re.search(rf"\r\n{name}: *([^\r]*)", self.head, re.IGNORECASE)
        return found[1] if found else ""

    def query_value(self, name: str) -> str:
        """A query parameter, "" where it is absent."""
        found = re.search(rf"(?:^|&){name}=([^&]*)", self.query)
        return unquote_plus(found[1]) if found else ""

    def content_type(self) -> str:
        """How this service answers."""
        if self.service in _XML_SERVICES:
            return "text/xml"
        return "application/x-amz-json-1.1" if self.service in _JSON_SERVICES else "application/json"

    def key_is_whole(self) -> bool:
        """Whether an account's key signed, and the session token is the same key's."""
        return bool(self.key) and f"{self.key}//" in self.head

    def signature_matches(self) -> bool:
        """Whether the signature is what this key's secret makes."""
        found = _SIGNED.search(self.head)
        if not found:
            return False
        headers = {name: " ".join(self.header(name).split()) for name in found[1].split(";")}
        query = "&".join(sorted(self.query.split("&")))
        path = quote(self.path, safe="/~")
        body_hash = hashlib.sha256(self.body).hexdigest()
        secret = secret_key(self.key)
        return sigv4.signature(secret, self.scope, self.method, path, query, headers, body_hash) == found[2]


@dataclass
class Answer:
    """What to send. ``cut``: send so many bytes of the body, then reset; ``pace``: seconds before each byte."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    clock: float = 0
    cut: int | None = None
    pace: float = 0
    never: bool = False

    @classmethod
    def error(cls, request: Request, status: int, code: str, message: str) -> "Answer":
        """AWS's error answer, in the service's own format."""
        body = _error_body(code, message, request.service in _XML_SERVICES)
        return cls(body, status, request.content_type(), {"x-amzn-ErrorType": code})

    @classmethod
    def unknown_token(cls, request: Request) -> "Answer":
        """The refusal of a key that nobody here has; a region that is not enabled says the same."""
        code = "InvalidClientTokenId" if request.service == "sts" else "UnrecognizedClientException"
        return cls.error(request, 403, code, "The security token included in the request is invalid.")

    def render(self) -> bytes:
        """The whole answer, head and body."""
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return (
            f"HTTP/1.1 {self.status} -\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
            f"Date: {formatdate(time() + self.clock, usegmt=True)}\r\n{more}\r\n"
        ).encode() + self.body


def _error_body(code: str, message: str, as_xml: bool) -> bytes:
    if as_xml:
        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        return f"<ErrorResponse>{error}</ErrorResponse>".encode()
    return json.dumps({"Type": "User", "__type": code, "message": message}).encode()


class Answers(Protocol):
    """What a connection asks: the server. connected: a connection's first request has come."""

    latency: float

    def connected(self) -> None: ...
    def answer(self, request: Request) -> Answer: ...
    def control(self, request: Request) -> Answer: ...


class Connection(asyncio.Protocol):
    """One kept-alive connection; its requests come one at a time."""

    def __init__(self, server: Answers) -> None:
        self._server = server
        self._received = b""
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, end)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= whole:
            request = Request(self._received[:end], self._received[end + 4 : whole])
            self._received = self._received[whole:]
            self._handle(request)

    def _handle(self, request: Request) -> None:
        if request.path.startswith("/__"):
            self._transport.write(self._server.control(request).render())
            return
        if not self._counted:
            self._counted = True
            self._server.connected()
        answer = self._server.answer(request)
        if self._server.latency:
            asyncio.get_running_loop().call_later(self._server.latency, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.never or self._transport.is_closing():
            return
        whole = answer.render()
        if answer.cut is not None:
            self._transport.write(whole[: len(whole) - len(answer.body) + answer.cut])
            self._reset()
        elif answer.pace:
            self._transport.write(whole[: len(whole) - len(answer.body)])
            self._trickle(answer.body, answer.pace)
        else:
            self._transport.write(whole)

    def _reset(self) -> None:
        """Close with a TCP reset, once what was written has left."""
        loop = asyncio.get_running_loop()
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        loop.call_later(0.05, self._transport.abort)

    def _trickle(self, rest: bytes, pace: float) -> None:
        if rest and not self._transport.is_closing():
            self._transport.write(rest[:1])
            asyncio.get_running_loop().call_later(pace, self._trickle, rest[1:], pace)
