"""TLS, proxies and time-outs of the connections that every account shares."""

import base64
import re
import socket
import socketserver
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import Credentials
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from benchmarks.answers import account_id
from benchmarks.server_process import RunningServer, write_certificate
from scanner.aws.clients import Clients
from scanner.aws.connections import Connections, tls_context
from scanner.aws.credentials import acting_as
from scanner.core.errors import BadInput
from scanner.settings import SweepSettings
from tests.functional.loopback import REGIONS, aws_for, loopback

ACCOUNT = account_id(0)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with loopback(1, functions=1, tls=True) as server:
        yield server


def functions() -> int:
    answer = aws_for(SweepSettings(workers=2)).call(ACCOUNT, REGIONS[0], "lambda", "list_functions")
    return len(answer["Functions"])


def test_the_configured_ca_bundle_is_trusted(server: RunningServer) -> None:
    assert functions() == 1


def test_another_certificate_is_not(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(write_certificate(tmp_path)[0]))
    with pytest.raises(BadInput, match="the AWS credentials do not work: SSLError"):
        functions()


def test_a_ca_bundle_that_is_not_there_is_told(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(BadInput, match=r"the CA bundle .*missing\.pem can't be used .*; mend ca_bundle"):
        functions()


def test_the_bundle_of_a_profile_is_trusted(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(f"[profile central]\nca_bundle = {server.ca_bundle}\n")
    monkeypatch.setenv("AWS_PROFILE", "central")
    assert functions() == 1


def test_a_proxy_carries_the_tls_through(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        assert functions() == 1
    assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in asked)
    assert all(base64.b64encode(b"user:p@ss") in head for head in asked)
    assert len(asked) >= 2, "STS and Lambda, each through the proxy"


def test_a_proxy_that_is_reached_by_tls_is_told(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://user:secret@proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(
        BadInput, match=r"^the proxy https://\*\*\*:\*\*\*@proxy\.example\.com:3128 can't be used; name one"
    ):
        functions()


def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    with closing_server() as (url, closed):
        connections = Connections(url, tls_context(None))
        request: Any = AWSPreparedRequest("GET", f"{url}/x", {}, None, stream_output=False)
        for _ in range(3):
            assert connections.send(request).content == b"{}"
            assert closed.wait(30)
            closed.clear()


@pytest.mark.parametrize(
    ("region", "fips", "host"),
    [
        ("us-gov-east-1", "false", "account.us-gov-west-1.amazonaws.com"),
        ("eu-west-1", "true", "account-fips.us-east-1.amazonaws.com"),
        ("cn-north-1", "true", "account-fips.cn-northwest-1.amazonaws.com.cn"),
        ("eu-west-1", "false", "account.us-east-1.amazonaws.com"),
    ],
)
def test_a_request_goes_to_the_host_of_its_own_address(
    monkeypatch: pytest.MonkeyPatch, region: str, fips: str, host: str
) -> None:
    """Not to what the client calls its endpoint, which for these is a host that does not exist."""
    called = []

    def refuse(address: tuple[str, int], *_: Any) -> None:
        called.append(address)
        raise ConnectionRefusedError

    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", fips)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("socket.create_connection", refuse)
    client: Any = Clients(boto3.Session(), "test").get("account", region)
    with (
        acting_as(Credentials("ASIA", "secret")),
        pytest.raises(EndpointConnectionError, match=f"https://{host}"),
    ):
        client.list_regions()
    assert called == [(host, 443)]


def test_keys_that_no_header_can_carry_are_told_and_not_quoted(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-nobody-else\n")
    with pytest.raises(
        BadInput, match=r"^a header holds a line break .*; look at the AWS credentials"
    ) as told:
        functions()
    assert "of-nobody-else" not in "".join(traceback.format_exception(told.value))


def test_an_interim_answer_is_none_and_its_connection_is_not_used_again() -> None:
    """The real one, still to come, would answer another account's call."""
    with raw_server([b"HTTP/1.1 103 Early Hints\r\n\r\n"]) as (url, asked):
        connections = Connections(url, tls_context(None))
        request: Any = AWSPreparedRequest("GET", f"{url}/x", {}, None, stream_output=False)
        for _ in range(2):
            with pytest.raises(ConnectionClosedError):
                connections.send(request)
    assert len(asked) == 2


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "connections"),
    [
        ([LENGTH + b"\r\n{}"], 1),
        ([LENGTH[:9], LENGTH[9:] + b"\r", b"\n{", b"}"], 1),
        ([CHUNKED + b"1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"], 1),
        ([LENGTH + b"Connection: close\r\n\r\n{}"], 2),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"], 2),
        ([b"HTTP/1.1 200 OK\r\n\r\n{}", b""], 2),
    ],
    ids=["whole", "in pieces", "chunked", "closing", "old", "until it is closed"],
)
def test_an_answer_is_read_to_its_end_and_its_connection_kept_where_it_can_be(
    pieces: list[bytes], connections: int
) -> None:
    with raw_server(pieces) as (url, asked):
        shared = Connections(url, tls_context(None))
        for _ in range(2):
            answer = shared.send(request_to(url))
            assert (answer.status_code, answer.content) == (200, b"{}")
    assert len(asked) == connections


@pytest.mark.parametrize(
    "pieces",
    [
        [LENGTH + b"\r\n{", b""],
        [CHUNKED + b"1\r\n{\r\n", b""],
        [LENGTH, b""],
        [b""],
        [LENGTH + b"\r\n{}" + LENGTH + b"\r\n[]"],
        [LENGTH + b"\r\n{}and more"],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH + b"\r\n{}"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
    ],
    ids=["cut", "cut chunks", "cut head", "closed", "two", "more", "interim", "upgrade", "no HTTP"],
)
def test_what_is_not_exactly_one_answer_is_none(pieces: list[bytes]) -> None:
    with raw_server(pieces) as (url, _), pytest.raises(ConnectionClosedError):
        Connections(url, tls_context(None)).send(request_to(url))


def test_a_silent_other_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.aws.connections.READ_TIMEOUT_SEC", 0.2)
    with raw_server([LENGTH + b"\r\n{"]) as (url, _), pytest.raises(ReadTimeoutError):
        Connections(url, tls_context(None)).send(request_to(url))


def test_a_large_body_is_sent_whole() -> None:
    body = bytes(range(256)) * 40_000
    with raw_server([LENGTH + b"\r\n{}"]) as (url, asked):
        Connections(url, tls_context(None)).send(request_to(url, body))
    assert asked[0].endswith(body)


def request_to(url: str, body: bytes = b"") -> Any:
    return AWSPreparedRequest(
        "POST" if body else "GET", f"{url}/x", cast("Any", {}), body, stream_output=False
    )


@contextmanager
def raw_server(pieces: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each request with these bytes, a packet each, and closes at an empty one.

    Gives its address, and of each connection all that came.
    """
    asked: list[bytes] = []

    class Raw(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            number = len(asked)
            asked.append(b"")
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = 0
            while received := self.request.recv(65536):
                asked[number] += received
                head, found, body = asked[number][seen:].partition(b"\r\n\r\n")
                length = int((re.search(rb"Content-Length: (\d+)", head) or [0, 0])[1])
                if not found or len(body) < length:
                    continue
                seen = len(asked[number])
                for piece in pieces:
                    if not piece:
                        return
                    self.request.sendall(piece)
                    time.sleep(0.02)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Raw) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


@contextmanager
def closing_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that closes a connection after its first answer, and does not say so before."""

    class Closing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    closed = threading.Event()

    class Server(ThreadingHTTPServer):
        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            closed.set()

    with Server(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", closed
        server.shutdown()


@contextmanager
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """A proxy on loopback that tunnels; its port, and the head of each request for a tunnel."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(4096)
            asked.append(head)
            host, _, port = head.split(b" ")[1].partition(b":")
            there = socket.create_connection((host.decode(), int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for ends in ((client, there), (there, client)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65536):
        sink.sendall(data)
    sink.close()
