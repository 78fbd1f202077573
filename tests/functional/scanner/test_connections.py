"""TLS, proxies, deadlines and reuse of the connections that every account shares."""

import base64
import re
import select
import socket
import socketserver
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import urllib3.util.connection
from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import Credentials
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from benchmarks.answers import account_id
from benchmarks.server_process import RunningServer, write_certificate
from scanner.aws.caller import Aws
from scanner.aws.clients import Clients
from scanner.aws.connection_pool import ConnectionPool
from scanner.aws.connections import ending_within, tls_context
from scanner.aws.credentials import acting_as
from scanner.aws.errors import LostAnswer, TimedOut, Unreachable, may_retry
from scanner.core.errors import BadInput, GuardStop
from scanner.settings import SweepSettings
from tests.functional.loopback import ORGANIZATION, REGIONS, aws_for, loopback

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
    with pytest.raises(BadInput, match=r"the CA bundle .*missing\.pem can't be used .*; fix ca_bundle"):
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
    assert asked


def test_a_proxy_that_is_reached_by_tls_carries_tls_through(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with proxy(Path(str(server.ca_bundle)).with_name("server.pem")) as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"https://user:p%40ss@127.0.0.1:{port}")
        assert functions() == 1
        aws = aws_for(SweepSettings())
        answers = [aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions") for _ in range(20)]
    assert all(len(answer["Functions"]) == 1 for answer in answers)
    assert len(asked) == 2, "a connection for each Aws, kept between its calls"
    assert all(base64.b64encode(b"user:p@ss") in head for head in asked)


def test_the_certificate_of_a_proxy_is_checked(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with proxy(write_certificate(tmp_path)[0]) as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"https://user:secret@127.0.0.1:{port}")
        with pytest.raises(BadInput, match="the AWS credentials do not work: SSLError") as raised:
            functions()
    assert "secret" not in str(raised.value)
    assert not asked


def test_a_proxy_forwards_what_is_not_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server([LENGTH + b"\r\n{}"]) as (url, asked):
        monkeypatch.setenv("HTTP_PROXY", url.replace("//", "//user:p%40ss@"))
        monkeypatch.setenv("NO_PROXY", "")
        answer = ConnectionPool(tls_context(None)).send(request_to("http://lambda.example"))
    assert answer.content == b"{}"
    assert asked[0].startswith(b"GET http://lambda.example/x HTTP/1.1\r\nHost: lambda.example\r\n")
    assert base64.b64encode(b"user:p@ss") in asked[0]


def test_no_proxy_is_asked_for_what_no_proxy_names(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        assert functions() == 1
    assert not asked


@pytest.mark.parametrize("url", ["socks5://user:secret@proxy:1080", "http://user:secret@[proxy:80"])
def test_a_proxy_that_can_not_be_used_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(BadInput, match=r"^the proxy of HTTPS_PROXY or HTTP_PROXY can't be used") as raised:
        ConnectionPool(tls_context(None)).send(request_to("https://lambda.example"))
    assert "secret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_each_variable_of_a_ca_bundle_is_read(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv(variable, str(server.ca_bundle))
    assert functions() == 1


def test_the_ca_bundle_is_read_once(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    load = ssl.SSLContext.load_verify_locations

    def counted(context: ssl.SSLContext, *args: Any, **options: Any) -> None:
        read.append(args)
        load(context, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    aws = aws_for(SweepSettings(workers=8))
    calls = [(ACCOUNT, region) for region in REGIONS] * 20
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: aws.call(*call, "lambda", "list_functions"), calls))
    assert len(answers) == len(calls)
    assert len(read) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_was_closed_meanwhile_is_not_used_again(method: str) -> None:
    with closing_server() as (url, closed):
        pool = ConnectionPool(tls_context(None))
        request = request_to(url, b"{}" if method == "POST" else b"")
        for _ in range(3):
            assert pool.send(request).content == b"{}"
            assert closed.wait(30)
            closed.clear()


def refusing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the first connections be refused."""
    connect = urllib3.util.connection.create_connection
    refusals = iter(range(times))

    def connected(*args: Any, **options: Any) -> socket.socket:
        for _ in refusals:
            raise ConnectionRefusedError
        return connect(*args, **options)

    monkeypatch.setattr("urllib3.util.connection.create_connection", connected)


def writing_aws() -> Aws:
    return Aws(boto3.Session(), ORGANIZATION, SweepSettings(), "20261124T034232Z-1a2b3c", writes=True)


def test_a_write_is_sent_again_where_the_connection_was_refused(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = writing_aws()
    server.reset()
    monkeypatch.setattr("scanner.aws.connection_pool.MAX_IDLE", 0)  # a new connection for each call
    aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=True)
    refusing(monkeypatch, 2)
    aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=True)
    assert server.stats()["operations"]["lambda.ListFunctions"] == 2
    assert aws.calls.as_dict()["lambda.list_functions"] == {"calls": 4, "retries": 2, "throttles": 0}


def test_each_attempt_of_a_write_is_checked_right_before_it_is_sent(server: RunningServer) -> None:
    aws = writing_aws()
    sent: list[int] = []

    def check() -> None:
        sent.append(server.stats()["operations"].get("lambda.ListFunctions", 0))
        if len(sent) == 3:
            raise GuardStop("kill_switch", "it is on", "Delete it to go on")

    server.reset()
    server.set_faults({f"{ACCOUNT}/*": [{"kind": "error", "status": 429}]})
    with pytest.raises(GuardStop):
        aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=True, check=check)
    assert sent == [0, 1, 2]
    assert server.stats()["operations"]["lambda.ListFunctions"] == 2
    server.reset()


@pytest.mark.parametrize("trouble", [b"HTTP/1.1 503 Busy\r\n\r\n", b""], ids=["the proxy refuses", "no TLS"])
def test_a_write_is_sent_again_where_no_connection_came_about(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, trouble: bytes
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with proxy(trouble=[trouble] * 2) as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        pool = ConnectionPool(tls_context(str(server.ca_bundle)))
        for _ in range(2):
            with pytest.raises(BotoConnectionError) as refused:
                pool.send(request_to(server.url, b"{}"))
            assert may_retry(refused.value, write=True)
        assert pool.send(request_to(server.url, b"{}")).status_code == 403  # it is not signed
    assert len(asked) == 3


def test_a_write_whose_answer_is_lost_is_not_sent_again(server: RunningServer) -> None:
    aws = writing_aws()
    aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=True)
    server.reset()
    server.set_faults({f"{ACCOUNT}/*": [{"kind": "reset"}]})
    with pytest.raises(LostAnswer):
        aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=True)
    assert server.stats()["operations"]["lambda.ListFunctions"] == 1
    with pytest.raises(Unreachable):
        aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions")
    assert server.stats()["operations"]["lambda.ListFunctions"] > 2
    server.reset()


@pytest.mark.parametrize(("write", "error"), [(False, TimedOut), (True, LostAnswer)])
def test_a_call_ends_by_its_deadline_though_the_answer_trickles(
    server: RunningServer, write: bool, error: type[Exception]
) -> None:
    aws = writing_aws()
    aws.call(ACCOUNT, REGIONS[0], "lambda", "list_functions", write=write)
    server.set_faults({f"{ACCOUNT}/*": [{"kind": "trickle"}]})  # a byte a second, of some thousands
    with pytest.raises(error):
        aws.call(
            ACCOUNT,
            REGIONS[0],
            "lambda",
            "list_functions",
            write=write,
            deadline=time.monotonic() + 1.5,
        )
    server.reset()


@pytest.mark.parametrize("trickling", range(4), ids=["status line", "headers", "body", "chunks"])
def test_no_attempt_goes_on_for_ever(monkeypatch: pytest.MonkeyPatch, trickling: int) -> None:
    """Without a call's deadline; each byte comes well before a timeout would end the silence."""
    heads = [b"", b"HTTP/1.1 200 OK\r\n", LENGTH.replace(b"2\r", b"50\r") + b"\r\n", CHUNKED]
    slow = [b"HTTP/1.1 200 " + b"O" * 50, b"X-Slow: " + b"s" * 50, b" " * 50, b"1\r\n \r\n" * 50][trickling]
    rest = [b"\r\nContent-Length: 2\r\n\r\n{}", b"\r\nContent-Length: 2\r\n\r\n{}", b"", b"0\r\n\r\n"]
    pieces = [
        heads[trickling] or b"H",
        *(bytes([byte]) for byte in slow[heads[trickling] == b"" :]),
        rest[trickling],
    ]
    monkeypatch.setattr("scanner.aws.connection_pool.ATTEMPT_SECONDS", 0.4)
    with raw_server(pieces) as (url, _), pytest.raises(ReadTimeoutError):
        ConnectionPool(tls_context(None)).send(request_to(url))


def test_a_proxy_that_trickles_does_not_hold_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.aws.connection_pool.ATTEMPT_SECONDS", 0.4)
    monkeypatch.setenv("NO_PROXY", "")
    with raw_server([b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * 50, b"\r\n\r\n"]) as (url, _):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ConnectTimeoutError):
            ConnectionPool(tls_context(None)).send(request_to("https://lambda.example"))


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    with raw_server([LENGTH + b"\r\n{}"]) as (url, asked):
        pool = ConnectionPool(tls_context(None))
        with ending_within(-1), pytest.raises(ConnectTimeoutError):
            pool.send(request_to(url))
        assert not asked


def test_no_further_address_of_a_host_is_tried_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def silent(connection: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address)
        time.sleep(connection.gettimeout() or 0)
        raise TimeoutError

    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{n}", 80)) for n in range(6)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)
    monkeypatch.setattr(socket.socket, "connect", silent)
    with ending_within(0.1), pytest.raises(ConnectTimeoutError):
        ConnectionPool(tls_context(None)).send(request_to("http://lambda.example"))
    assert len(tried) == 1


def test_idle_connections_are_few_whatever_the_number_of_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.aws.connection_pool.MAX_IDLE", 3)
    pool = ConnectionPool(tls_context(None))
    with ExitStack() as stack:
        servers = [stack.enter_context(counting_server()) for _ in range(6)]
        for url, _ in servers:
            at_once(pool, url, 5)
        assert eventually(lambda: sum(len(opened) for _, opened in servers) == 3)
        url, opened = servers[-1]
        kept = set(opened)
        at_once(pool, url, 1)
        assert set(opened) == kept, "one that was kept is used again"


def test_an_idle_connection_is_closed_once_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ConnectionPool(tls_context(None))
    with counting_server() as (old, opened), counting_server() as (other, _):
        at_once(pool, old, 5)
        assert opened
        monkeypatch.setattr("scanner.aws.connection_pool.MAX_IDLE_SECONDS", 0)
        at_once(pool, other, 1)
        assert eventually(lambda: not opened)


def test_an_endpoint_keeps_its_path_and_a_service_its_own(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (
        b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:role/x</Arn>"
    )
    document += b"<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: "
    identity = head + f"{len(document)}\r\n\r\n".encode() + document
    functions = head + b'16\r\n\r\n{"Functions":[]}'
    with raw_server([identity]) as (sts, asked_sts), raw_server([functions]) as (own, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"{sts}/gateway/aws")
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"{own}/functions-gateway")
        aws = aws_for(SweepSettings())
        for _ in range(2):
            aws.call("111122223333", REGIONS[0], "lambda", "list_functions", MaxItems=50)
    assert re.findall(rb"POST (\S+)", asked_sts[0]) == [b"/gateway/aws"]
    assert re.findall(rb"GET (\S+)", asked[0]) == [b"/functions-gateway/2015-03-31/functions?MaxItems=50"] * 2


def test_an_endpoint_may_be_an_ipv6_address(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    connect = urllib3.util.connection.create_connection

    def connected(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        called.append(address[0])
        return connect(("127.0.0.1", address[1]), *args, **options)

    monkeypatch.setattr("urllib3.util.connection.create_connection", connected)
    with raw_server([LENGTH + b"\r\n{}"]) as (url, asked):
        port = url.rpartition(":")[2]
        ConnectionPool(tls_context(None)).send(request_to(f"http://[::1]:{port}"))
    assert called == ["::1"]
    assert asked[0].startswith(f"GET /x HTTP/1.1\r\nHost: [::1]:{port}\r\n".encode())


@pytest.mark.parametrize(
    ("service", "region", "fips", "dualstack", "host"),
    [
        ("account", "us-gov-east-1", "false", "false", "account.us-gov-west-1.amazonaws.com"),
        ("account", "eu-west-1", "true", "false", "account-fips.us-east-1.amazonaws.com"),
        ("account", "cn-north-1", "true", "false", "account-fips.cn-northwest-1.amazonaws.com.cn"),
        ("account", "eu-west-1", "false", "false", "account.us-east-1.amazonaws.com"),
        ("lambda", "us-east-1", "true", "false", "lambda-fips.us-east-1.amazonaws.com"),
        ("lambda", "eu-west-1", "false", "true", "lambda.eu-west-1.api.aws"),
        ("lambda", "us-east-1", "true", "true", "lambda-fips.us-east-1.api.aws"),
    ],
)
def test_a_request_goes_to_the_host_of_its_own_address(
    monkeypatch: pytest.MonkeyPatch, service: str, region: str, fips: str, dualstack: str, host: str
) -> None:
    """Not to what the client calls its endpoint, which for these is a host that does not exist."""
    called = []

    def refuse(address: tuple[str, int], *_: Any, **__: Any) -> None:
        called.append(address)
        raise ConnectionRefusedError

    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", fips)
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", dualstack)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    client: Any = Clients(boto3.Session(), "test").get(service, region)
    with (
        acting_as(Credentials("ASIA", "secret")),
        pytest.raises(EndpointConnectionError, match=f"https://{host}"),
    ):
        client.list_regions() if service == "account" else client.list_functions()
    assert called == [(host, 443)]


def test_keys_that_no_header_can_carry_are_told_and_not_quoted(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-nobody-else\n")
    with pytest.raises(
        BadInput, match=r"^a header holds a line break .*; look at the AWS credentials"
    ) as raised:
        functions()
    assert "of-nobody-else" not in "".join(traceback.format_exception(raised.value))


def test_an_interim_answer_is_none_and_its_connection_is_not_used_again() -> None:
    """The real one, still to come, would answer another account's call."""
    with raw_server([b"HTTP/1.1 103 Early Hints\r\n\r\n"]) as (url, asked):
        pool = ConnectionPool(tls_context(None))
        for _ in range(2):
            with pytest.raises(ConnectionClosedError):
                pool.send(request_to(url))
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
        pool = ConnectionPool(tls_context(None))
        for _ in range(2):
            answer = pool.send(request_to(url))
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
        [LENGTH + b"Content-Length: 20\r\n\r\n{}"],
        [LENGTH + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
        [CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n"],
        [CHUNKED + b"2\r\n{}\r\n0\r\n\r\nHTTP/1.1"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
    ],
    ids=[
        "cut",
        "cut chunks",
        "cut head",
        "closed",
        "two",
        "more",
        "two lengths",
        "length and chunks",
        "a chunk less than empty",
        "more chunks",
        "upgrade",
        "no HTTP",
    ],
)
def test_what_is_not_exactly_one_answer_is_none(pieces: list[bytes]) -> None:
    with raw_server(pieces) as (url, _), pytest.raises(ConnectionClosedError):
        ConnectionPool(tls_context(None)).send(request_to(url))


def test_a_silent_other_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.aws.connection_pool.ATTEMPT_SECONDS", 0.2)
    with raw_server([LENGTH + b"\r\n{"]) as (url, _), pytest.raises(ReadTimeoutError):
        ConnectionPool(tls_context(None)).send(request_to(url))


def test_a_large_body_is_sent_whole() -> None:
    body = bytes(range(256)) * 40_000
    with raw_server([LENGTH + b"\r\n{}"]) as (url, asked):
        ConnectionPool(tls_context(None)).send(request_to(url, body))
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


def at_once(pool: ConnectionPool, url: str, calls: int) -> None:
    """Send so many requests, all under way together."""
    with ThreadPoolExecutor(calls) as threads:
        answers = list(threads.map(pool.send, [request_to(f"{url}/{calls}")] * calls))
    assert all(answer.content == b"{}" for answer in answers)


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@contextmanager
def counting_server() -> Iterator[tuple[str, dict[Any, None]]]:
    """A server that answers /N/x once N requests are there. Gives its address and its open connections, by the client's port."""
    opened: dict[Any, None] = {}
    waiting: dict[int, threading.Barrier] = {}

    class Counting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            opened[self.client_address[1]] = None
            while received := self.request.recv(65536):
                calls = int(received.split(b"/", 2)[1])
                waiting.setdefault(calls, threading.Barrier(calls)).wait(10)
                self.request.sendall(LENGTH + b"\r\n{}")
            del opened[self.client_address[1]]

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", opened
        server.shutdown()


@contextmanager
def closing_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that closes a connection after its first answer, and does not say so before."""

    class Closing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = True

        do_POST = do_GET  # noqa: N815 - http.server's name

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
def proxy(pem: Path | None = None, trouble: Sequence[bytes] = ()) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy on loopback that tunnels; its port, and the head of each request for a tunnel.

    pem: what it speaks TLS with; trouble: what the first requests are answered and their connections closed with, where
    it is empty after the tunnel is there.
    """
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    troubles = iter(trouble)
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)

    def serve(client: socket.socket) -> None:
        if context:
            try:
                client = context.wrap_socket(client, server_side=True)
            except OSError:
                return
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(4096)
        asked.append(head)
        for refusal in troubles:
            client.sendall(refusal or b"HTTP/1.1 200 Connection established\r\n\r\n")
            client.close()
            return
        host, _, port = head.split(b" ")[1].partition(b":")
        there = socket.create_connection((host.decode(), int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _carry(client, there)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.close()


def _carry(client: socket.socket, there: socket.socket) -> None:
    """Both ways, on one thread: a TLS connection can't be read and written at once."""
    with client, there:
        while True:
            ready = (
                [client] if getattr(client, "pending", int)() else select.select([client, there], [], [])[0]
            )
            for source in ready:
                try:
                    data = source.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                (there if source is client else client).sendall(data)
