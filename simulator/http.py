"""The front over HTTP, on loopback: any AWS SDK can call the core through it."""

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from botocore import xform_name
from botocore.model import OperationModel, Shape

from simulator.caller import operations
from simulator.calls import AnswerLost, AwsError, Call
from simulator.core import Core, unknown_token
from simulator.organization import access_key, secret_key, session_token
from simulator.wire import Answer, Answers, Connection, Request

# The name that a request is signed for, and boto3's name of the service.
_SIGNED_FOR = {"tagging": "resourcegroupstaggingapi", "monitoring": "cloudwatch"}
_REST = ("lambda", "account")
_QUERY = ("sts", "ec2")


@dataclass(frozen=True)
class _Route:
    """How a REST operation is recognized: its method, its path, and the query parameters that belong to its path."""

    model: OperationModel
    method: str
    path: re.Pattern[str]
    query: str


@cache
def _routes(service: str) -> list[_Route]:
    """Return a REST service's routes, the longest paths first: {Name} is one segment of a path."""
    found = []
    for model in operations(service).values():
        path, _, query = model.http["requestUri"].partition("?")
        pattern = re.sub(r"\{(\w+)\+?\}", r"(?P<\1>[^/]+)", path.rstrip("/"))
        found.append(_Route(model, model.http["method"], re.compile(f"{pattern}/?$"), query))
    return sorted(found, key=lambda route: (-len(route.query), -len(route.path.pattern)))


class Front:
    """Answers requests from a core. An account's session is found by its access key."""

    def __init__(self, core: Core, latency: float = 0.0) -> None:
        """latency: seconds that each answer takes."""
        self.core = core
        self.latency = latency
        self.connections = 0

    def connected(self) -> None:
        """Count a connection."""
        self.connections += 1

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            return self.respond(request, self.read(request))
        except AwsError as error:
            return Answer.error(request, error.status, error.code, error.message)

    def control(self, request: Request) -> Answer:
        """Answer a path of the server's own, which begins with /__; there is none."""
        return Answer(b"{}", status=404, content_type=request.content_type())

    def read(self, request: Request) -> Call:
        """Return the call that a request is. Raises AwsError for a key that was not issued, or has expired."""
        return parsed(request, self._session(request))

    def _session(self, request: Request) -> str:
        if not request.key_is_whole():
            raise unknown_token(request.service)
        if request.key == access_key(self.core.organization.management):
            return ""
        session = self.core.sessions.get(request.key)
        if session is None:
            raise unknown_token(request.service)
        if self.core.clock.now() >= session.expires:
            raise AwsError(
                "ExpiredTokenException", "The security token included in the request is expired", 403
            )
        return session.name

    def respond(self, request: Request, call: Call) -> Answer:
        """Carry a call out and return what is sent."""
        try:
            answer = self.core.answer(call)
        except AwsError as error:
            return Answer.error(request, error.status, error.code, error.message)
        except AnswerLost:
            return Answer(b"", cut=0)
        model = operations(call.service)[xform_name(call.operation)]
        status = int(model.http.get("responseCode", 200))
        body = b"" if status == 204 else _body(call.service, model, answer)
        return Answer(body, status, request.content_type())


def parsed(request: Request, session: str) -> Call:
    """Return the call that a request is, in a role session of this name. Raises AwsError for an unknown operation."""
    service = _SIGNED_FOR.get(request.service, request.service)
    operation, parameters = _READERS[_protocol(service)](service, request)
    agent = request.header("user-agent")
    return Call(request.account, request.region, service, operation, parameters, session, agent)


def _protocol(service: str) -> str:
    return "rest" if service in _REST else "query" if service in _QUERY else "json"


def _read_rest(service: str, request: Request) -> tuple[str, dict[str, Any]]:
    query = parse_qs(request.query, keep_blank_values=True)
    for route in _routes(service):
        found = route.path.match(request.path) if route.method == request.method else None
        if found and (not route.query or route.query in request.query):
            in_path = {name: unquote(value) for name, value in found.groupdict().items()}
            return route.model.name, _located(route.model, in_path, query, request.body)
    raise AwsError("UnknownOperationException", f"{request.method} {request.path}", 404)


def _located(
    model: OperationModel, in_path: Mapping[str, str], query: Mapping[str, list[str]], body: bytes
) -> dict[str, Any]:
    """Return an operation's parameters from the places that its model says."""
    parameters: dict[str, Any] = json.loads(body) if body else {}
    members = model.input_shape.members if model.input_shape else {}
    for name, shape in members.items():
        at, where = shape.serialization.get("name", name), shape.serialization.get("location")
        if where == "uri":
            parameters[name] = _typed(shape, [in_path[at]])
        elif where == "querystring" and at in query:
            parameters[name] = _typed(shape, query[at])
    return parameters


def _typed(shape: Shape, values: list[str]) -> Any:
    if shape.type_name == "list":
        return values
    return int(values[0]) if shape.type_name in {"integer", "long"} else values[0]


def _read_json(service: str, request: Request) -> tuple[str, dict[str, Any]]:
    del service
    return request.header("x-amz-target").rpartition(".")[2], json.loads(request.body or b"{}")


def _read_query(service: str, request: Request) -> tuple[str, dict[str, Any]]:
    del service
    form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    form.pop("Version", None)
    if form.get("AllRegions") == "false":
        del form["AllRegions"]
    return form.pop("Action", ""), form


_READERS: dict[str, Callable[[str, Request], tuple[str, dict[str, Any]]]] = {
    "rest": _read_rest,
    "json": _read_json,
    "query": _read_query,
}


def _body(service: str, model: OperationModel, answer: Mapping[str, Any]) -> bytes:
    if service not in _QUERY:
        return json.dumps(answer, separators=(",", ":"), default=datetime.timestamp).encode()
    inner = _xml(model.output_shape, answer)
    if service == "sts":
        inner = f"<{model.name}Result>{inner}</{model.name}Result>"
    return f"<{model.name}Response>{inner}</{model.name}Response>".encode()


def _xml(shape: Any, value: Any) -> str:
    """Return a value as the query protocols write it."""
    if shape.type_name == "structure":
        present = [(name, member) for name, member in shape.members.items() if name in value]
        return "".join(
            f"<{(tag := member.serialization.get('name', name))}>{_xml(member, value[name])}</{tag}>"
            for name, member in present
        )
    if shape.type_name == "list":
        tag = shape.member.serialization.get("name", "member")
        return "".join(f"<{tag}>{_xml(shape.member, one)}</{tag}>" for one in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


@contextmanager
def serving(front: Answers) -> Iterator[str]:
    """Serve on a free port of loopback, in a thread of this process; yield the URL."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(
        loop.create_server(lambda: Connection(front), "127.0.0.1", 0, backlog=512)
    )
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        listening.close()
        loop.close()


def environment(url: str, central: str, region: str = "us-east-1") -> dict[str, str]:
    """Return the environment that lets any AWS SDK call a server as the central account, and nothing else."""
    key = access_key(central)
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret_key(key),
        "AWS_SESSION_TOKEN": session_token(key),
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
