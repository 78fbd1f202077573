"""Lambda's control plane on loopback: throttles, checks revisions and settles as AWS does.

A function is created when first asked for. A name's prefix makes a function misbehave once: `lost-done-` and
`lost-undone-` (the connection is reset after or before its update is done), `error-done-` (status 500 after it is
done), `deployed-` (another deployment comes between read and update), `failing-` (its update settles as Failed).
"""

import asyncio
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from simulator.wire import CONTENT_LENGTH

# Lambda quotas: 15 control plane requests a second in an account and region.
RATE = 15.0
SETTLES_IN_SECONDS = 2.0
_SCOPE = re.compile(rb"Credential=[A-Z]{4}(\d{12})[^/]*/\d+/([a-z0-9-]+)/")
_DATE = "2026-11-24T00:00:00.000+0000"
Answer = tuple[int, dict[str, Any] | str]


@dataclass
class Unit:
    """An account in a region: its token bucket and its functions."""

    rate: float
    tokens: float = RATE
    filled: float = field(default_factory=time.monotonic)
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: int = 0
    throttled: int = 0
    first: float = 0.0
    last: float = 0.0

    def admits(self) -> bool:
        """Take a token; return whether there was one."""
        now = time.monotonic()
        self.tokens = min(self.rate, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        self.calls += 1
        self.first = self.first or now
        self.last = now
        if self.tokens < 1:
            self.throttled += 1
            return False
        self.tokens -= 1
        return True


class ControlPlane:
    """All accounts and regions."""

    def __init__(
        self, rate: float = RATE, settles_in: float = SETTLES_IN_SECONDS, latency: float = 0.0
    ) -> None:
        self.rate = rate
        self.settles_in = settles_in
        self.latency = latency
        self.units: dict[tuple[str, str], Unit] = {}
        self.updates: Counter[str] = Counter()
        self.tags: dict[str, dict[str, str]] = {}

    def unit(self, account: str, region: str) -> Unit:
        if (account, region) not in self.units:
            self.units[account, region] = Unit(self.rate)
        return self.units[account, region]

    def function(self, account: str, region: str, name: str) -> dict[str, Any]:
        functions = self.unit(account, region).functions
        if name not in functions:
            functions[name] = {
                "FunctionName": name,
                "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:{name}",
                "Runtime": "python3.12",
                "CodeSize": 1000,
                "Timeout": 30,
                "MemorySize": 512,
                "LastModified": _DATE,
                "RevisionId": "0",
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "PackageType": "Zip",
                "Architectures": ["x86_64"],
                "Environment": {"Variables": {"STAGE": "production"}},
                "settles_at": 0.0,
            }
        return functions[name]

    def answer(self, method: str, path: str, body: bytes, account: str, region: str) -> Answer | None:
        """Return the answer to a signed request; None resets the connection."""
        if path == "/":
            return _sts(body, account)
        if path == "/figures":
            return 200, self.figures()
        if not self.unit(account, region).admits():
            return 429, {"__type": "TooManyRequestsException", "message": "Rate exceeded"}
        arn = unquote(path.split("/")[3])
        name = arn.rsplit(":", 1)[-1]
        if path.startswith("/2017-03-31/tags/"):
            return self._tags(method, arn, body)
        function = self._settled(self.function(account, region, name))
        if method == "GET":
            return 200, _shown(function)
        return self._update(name, function, orjson.loads(body))

    def figures(self) -> dict[str, Any]:
        """Return what was seen, by unit: calls, throttled, and the seconds from the first call to the last."""
        return {
            f"{account}/{region}": [unit.calls, unit.throttled, unit.last - unit.first]
            for (account, region), unit in self.units.items()
        }

    def _settled(self, function: dict[str, Any]) -> dict[str, Any]:
        if function["LastUpdateStatus"] == "InProgress" and time.monotonic() >= function["settles_at"]:
            failed = (
                function["FunctionName"].startswith("failing-") and self.updates[function["FunctionArn"]] == 1
            )
            function["LastUpdateStatus"] = "Failed" if failed else "Successful"
            function["LastUpdateStatusReasonCode"] = "EniLimitExceeded" if failed else ""
            function["RevisionId"] = str(int(function["RevisionId"]) + 1)
        return function

    def _update(self, name: str, function: dict[str, Any], request: dict[str, Any]) -> Answer | None:
        self.updates[function["FunctionArn"]] += 1
        fault = name.rpartition("-")[0] if self.updates[function["FunctionArn"]] == 1 else ""
        if fault == "lost-undone":
            return None
        if fault == "deployed":
            function["Environment"]["Variables"]["STAGE"] = "deployed"
            function["RevisionId"] = str(int(function["RevisionId"]) + 1)
        refusal = _refusal(function, request)
        if refusal is None:
            self._take(function, request)
        if fault == "lost-done":
            return None
        if fault == "error-done":
            return 500, {"__type": "ServiceException", "Message": "internal"}
        return refusal or (200, _shown(function))

    def _take(self, function: dict[str, Any], request: dict[str, Any]) -> None:
        if "Layers" in request:
            function["Layers"] = [{"Arn": layer, "CodeSize": 1} for layer in request["Layers"]]
        if "Environment" in request:
            function["Environment"] = request["Environment"]
        function["RevisionId"] = str(int(function["RevisionId"]) + 1)
        function["LastModified"] = f"{_DATE}-{function['RevisionId']}"
        function["LastUpdateStatus"] = "InProgress"
        function["settles_at"] = time.monotonic() + self.settles_in

    def _tags(self, method: str, arn: str, body: bytes) -> Answer:
        tags = self.tags.setdefault(arn, {})
        if method == "GET":
            return 200, {"Tags": tags}
        if method == "POST":
            tags |= orjson.loads(body)["Tags"]
        else:
            tags.clear()
        return 204, {}


def _refusal(function: dict[str, Any], request: dict[str, Any]) -> Answer | None:
    if function["LastUpdateStatus"] == "InProgress":
        return 409, {"__type": "ResourceConflictException", "Message": "An update is in progress"}
    if request.get("RevisionId", function["RevisionId"]) != function["RevisionId"]:
        return 412, {"__type": "PreconditionFailedException", "message": "The Revision Id does not match"}
    return None


def _shown(function: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in function.items() if key != "settles_at"}


def _sts(body: bytes, account: str) -> Answer:
    request = parse_qs(body.decode())
    namespace = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
    if request["Action"] == ["GetCallerIdentity"]:
        arn = f"arn:aws:iam::{account}:role/central"
        result = f"<Arn>{arn}</Arn><UserId>x</UserId><Account>{account}</Account>"
        action = "GetCallerIdentity"
    else:
        member = request["RoleArn"][0].split(":")[4]
        result = (
            f"<Credentials><AccessKeyId>ASIA{member}</AccessKeyId><SecretAccessKey>x</SecretAccessKey>"
            "<SessionToken>x</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>"
        )
        action = "AssumeRole"
    return 200, f"<{action}Response {namespace}><{action}Result>{result}</{action}Result></{action}Response>"


class Connection(asyncio.Protocol):
    """Just enough HTTP/1.1 to cost the server little."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = CONTENT_LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            if b"100-continue" in head:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.buffer = rest[size:]
        method, target, _ = head.split(b" ", 2)
        account, region = _signer(head)
        path = target.partition(b"?")[0].decode()
        answer = self.plane.answer(method.decode(), path, rest[:size], account, region)
        if answer is None:
            self.transport.abort()
        elif self.plane.latency:
            asyncio.get_running_loop().call_later(self.plane.latency, self.transport.write, _written(*answer))
        else:
            self.transport.write(_written(*answer))


def _written(status: int, document: dict[str, Any] | str) -> bytes:
    body = document.encode() if isinstance(document, str) else orjson.dumps(document)
    body = b"" if status == 204 else body
    error = document.get("__type", "") if isinstance(document, dict) else ""
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
        f"x-amzn-errortype: {error}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _signer(head: bytes) -> tuple[str, str]:
    """Return the account and the region that a request was signed for: ASIA<account>/<day>/<region>."""
    scope = _SCOPE.search(head)
    return (scope[1].decode(), scope[2].decode()) if scope else ("", "")


async def serve(plane: ControlPlane, started: "asyncio.Future[int] | None" = None) -> None:
    """Serve on a free port of loopback; set it as the result of `started`, or print it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(plane), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    if started is None:
        print(port, flush=True)
    else:
        started.set_result(port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(ControlPlane(*map(float, sys.argv[1:]))))
