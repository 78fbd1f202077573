"""urllib3's connection pools, shared by every account: one TLS context, a deadline for every call, few idle connections.

botocore's own HTTP session reads the CA bundle for every connection (20 ms), has no deadline for an answer that
comes one byte at a time, and bounds idle connections by endpoint only. Errors are those that botocore raises.
"""

import math
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from errno import EAGAIN
from functools import partial
from http.client import HTTPException, HTTPResponse
from queue import Empty
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError as PoolConnectTimeoutError
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import ReadTimeoutError as PoolReadTimeoutError
from urllib3.exceptions import SSLError as PoolSSLError
from urllib3.util import Retry, Url

from scanner.core.errors import BadInput

CONNECT_SECONDS = 5.0
# One attempt at a call, from its connection to the last byte of its answer.
ATTEMPT_SECONDS = 30.0
# Over all endpoints. Up to 192 calls are under way at once; a process may often open 1,024 files.
MAX_IDLE = 256
MAX_IDLE_SECONDS = 30.0
_NO_RETRIES = Retry(total=False, redirect=False)
# A call may end so much later than its deadline: to set a timeout is a system call.
_LATE_SECONDS = 0.1
_BUFFER_BYTES = 64 * 1024

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_received_only: ContextVar[bool] = ContextVar("received_only", default=False)


@contextmanager
def ending_by(deadline: float) -> Iterator[None]:
    """Bound every wait of this context by a time.monotonic() moment."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Make the TLS context of all connections; BadInput where the CA bundle that is configured can't be read."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(True))
    except OSError as error:
        raise BadInput(
            f"the CA bundle {ca_bundle} can't be used ({error}); mend ca_bundle or AWS_CA_BUNDLE"
        ) from None
    # Python 3.13 sets it; the CAs of companies that look into TLS often lack an extension. botocore does not set it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = _TlsSocket
    return context


class Answer(NamedTuple):
    """An HTTP answer, with the attributes that botocore reads."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class ConnectionPool:
    """Sends requests once each, over connections that calls of every account and endpoint share."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """Take the TLS context of all connections, those to a proxy included."""
        self._options: dict[str, Any] = {
            "num_pools": 1024,  # more than the endpoints of a run: services x regions
            "ssl_context": context,
            "timeout": ATTEMPT_SECONDS,
        }
        self._context = context
        self._pool_classes = _pool_classes(_Idle())
        self._managers: dict[str, PoolManager] = {}
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def send(self, request: AWSPreparedRequest) -> Answer:
        """Send a request and read its answer to the end, within ATTEMPT_SECONDS and the context's deadline.

        Raises BadInput for a header that can't be sent, ConnectTimeoutError, SSLError, ProxyConnectionError or
        EndpointConnectionError where nothing was sent, ReadTimeoutError or ConnectionClosedError where it may have been.
        """
        url = request.url
        headers: Any = request.headers
        body: Any = request.body
        values = "".join(headers.values())
        if not (values.isascii() and values.isprintable()):
            # No more is said: a header may be a session token.
            raise BadInput("a header holds a line break or the like; look at the AWS credentials")
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        pool = self._pools.get(origin) or self._pool(origin)
        forwarded = pool.proxy is not None and parts.scheme == "http"
        try:
            with ending_by(min(_deadline.get(), time.monotonic() + ATTEMPT_SECONDS)):
                response = pool.urlopen(
                    request.method,
                    url if forwarded else url.removeprefix(origin),
                    body,
                    headers,
                    retries=_NO_RETRIES,
                    redirect=False,
                    assert_same_host=False,
                    decode_content=False,
                )
        except _NotConnected as failed:
            raise _not_connected(failed.__cause__, url, pool.proxy) from failed.__cause__
        except (HTTPError, ValueError) as error:  # http.client has a ValueError for some broken chunks
            raise _no_answer(error, request) from error
        return Answer(response.status, response.headers, response.data)

    def _pool(self, origin: str) -> HTTPConnectionPool:
        scheme = origin.partition(":")[0]
        proxy_url: str = get_environ_proxies(origin).get(scheme) or ""
        if proxy_url and "://" not in proxy_url:
            proxy_url = f"http://{proxy_url.removeprefix('//')}"
        with self._lock:
            if proxy_url not in self._managers:
                self._managers[proxy_url] = self._manager(proxy_url)
            pool = self._managers[proxy_url].connection_from_url(origin)
            return self._pools.setdefault(origin, pool)

    def _manager(self, proxy_url: str) -> PoolManager:
        try:
            manager = (
                ProxyManager(
                    proxy_url,
                    proxy_headers=_authorization(proxy_url),
                    proxy_ssl_context=self._context,
                    **self._options,
                )
                if proxy_url
                else PoolManager(**self._options)
            )
        except (HTTPError, ValueError):
            # The error quotes the URL, its password included.
            raise BadInput(
                "the proxy of HTTPS_PROXY or HTTP_PROXY can't be used; name one by http://HOST:PORT or https://HOST:PORT"
            ) from None
        manager.pool_classes_by_scheme = self._pool_classes
        return manager


class _Idle:
    """The idle connections of all endpoints; those that are too many or too old are closed when another comes or goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of each its endpoint's own, and since when it is idle; the oldest first.
        self._since: OrderedDict[Any, tuple[deque[Any], float]] = OrderedDict()

    def add(self, connection: Any, own: deque[Any]) -> None:
        with self._lock:
            own.append(connection)
            self._since[connection] = own, time.monotonic()
            expired = self._expired()
        _close(expired)

    def newest(self, own: deque[Any]) -> Any:
        with self._lock:
            expired = self._expired()
            connection = own.pop() if own else None
            if connection is not None:
                del self._since[connection]
        _close(expired)
        return connection

    def _expired(self) -> list[Any]:
        before = time.monotonic() - MAX_IDLE_SECONDS
        expired: list[Any] = []
        for connection, (own, since) in self._since.items():
            if since > before and len(self._since) - len(expired) <= MAX_IDLE:
                break
            own.popleft()
            expired.append(connection)
        for connection in expired:
            del self._since[connection]
        return expired


class _IdleOfEndpoint:
    """One endpoint's idle connections, as urllib3 asks for them."""

    def __init__(self, idle: _Idle, _maxsize: int) -> None:
        self._idle = idle
        self._own: deque[Any] = deque()

    def get(self, **_: Any) -> Any:
        connection = self._idle.newest(self._own)
        if connection is None:
            raise Empty
        return connection

    def put(self, connection: Any, **_: Any) -> None:
        # urllib3 gives back None for a connection that failed.
        if connection is not None and not connection.is_closed:
            self._idle.add(connection, self._own)


def _pool_classes(idle: _Idle) -> dict[str, Any]:
    class Pool(HTTPConnectionPool):
        ConnectionCls: Any = _Connection
        QueueCls: Any = staticmethod(partial(_IdleOfEndpoint, idle))

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls: Any = _TlsConnection
        QueueCls: Any = staticmethod(partial(_IdleOfEndpoint, idle))

    return {"http": Pool, "https": TlsPool}


def _close(connections: list[Any]) -> None:
    for connection in connections:
        connection.close()


def _seconds_left() -> float:
    """Return how long the call may still wait; TimeoutError past its deadline."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline came before the end of the answer")
    return left


class _Socket(socket.socket):
    """Bounds each of its waits by the deadline of the call that waits: a timeout alone bounds silence, not a trickle."""

    def settimeout(self, seconds: float | None) -> None:
        # It is a system call, and urllib3 makes it twice a request.
        if seconds != self.gettimeout():
            super().settimeout(seconds)

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        self._bound()
        return super().recv(*args, **kwargs)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._bound()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._bound()
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._bound()
        super().sendall(*args, **kwargs)

    def makefile(self, *args: Any, **kwargs: Any) -> Any:
        return super().makefile(*args, **{"buffering": _BUFFER_BYTES} | kwargs)

    def pending(self) -> int:
        """Return how many bytes were received and not yet read."""
        return 0

    def _bound(self) -> None:
        if _received_only.get() and not self.pending():
            raise BlockingIOError(EAGAIN, "nothing was received")
        left = _seconds_left()
        timeout = self.gettimeout()
        if timeout is None or timeout > left + _LATE_SECONDS:
            self.settimeout(left)


class _TlsSocket(_Socket, ssl.SSLSocket):
    pending = ssl.SSLSocket.pending


class _OneAnswer(HTTPResponse):
    """Refuses what is not exactly one answer: the rest would be read as the next call's, which may be another account's."""

    _abandoned = False

    def begin(self) -> None:
        super().begin()
        if self.status < 200:
            raise HTTPException(f"an interim answer, {self.status}")
        if self.chunked and "content-length" in self.headers:
            raise HTTPException("an answer with two lengths")

    def close(self) -> None:
        self._abandoned = True
        super().close()

    def _close_conn(self) -> None:
        """Override what http.client calls at the answer's end, while what it has read ahead can still be seen."""
        more = not self._abandoned and self._has_more()
        super()._close_conn()  # type: ignore[misc]
        if more:
            raise HTTPException("more than one answer")

    def _has_more(self) -> bool:
        reader: Any = self.fp
        token = _received_only.set(True)
        try:
            return bool(reader.peek())
        finally:
            _received_only.reset(token)


class _SocketOptions(list[tuple[int, int, int | bytes]]):
    """urllib3 sets them before it tries an address, and each has a timeout: none is tried past the deadline."""

    def __iter__(self) -> Iterator[tuple[int, int, int | bytes]]:
        _seconds_left()
        return super().__iter__()


# Through a proxy, urllib3 leaves TCP_NODELAY out: a request's body would wait for the acknowledgement of its head.
_SOCKET_OPTIONS = _SocketOptions(
    [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
)


class _NotConnected(Exception):
    """No connection came about: nothing was sent. The cause says why."""


class _Connection(HTTPConnection):
    response_class = _OneAnswer

    def connect(self) -> None:
        try:
            super().connect()
        except Exception as error:
            raise _NotConnected from error

    def _new_conn(self) -> socket.socket:
        self.timeout = min(CONNECT_SECONDS, _seconds_left())
        self.socket_options = _SOCKET_OPTIONS
        connected = _Socket(fileno=super()._new_conn().detach())
        connected.settimeout(self.timeout)
        return connected


class _TlsConnection(_Connection, HTTPSConnection):
    pass


def _authorization(proxy_url: str) -> dict[str, str]:
    proxy = urlsplit(proxy_url)
    if not proxy.username:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"}


def _not_connected(cause: BaseException | None, url: str, proxy: Url | None) -> BotoCoreError:
    refused = isinstance(cause, NewConnectionError)
    if isinstance(cause, (TimeoutError, PoolConnectTimeoutError)) and not refused:
        return ConnectTimeoutError(endpoint_url=url, error=cause)
    if isinstance(cause, (ssl.SSLError, PoolSSLError)):
        return SSLError(endpoint_url=url, error=cause)
    if proxy:
        return ProxyConnectionError(proxy_url=proxy._replace(auth=None).url, error=cause)
    return EndpointConnectionError(endpoint_url=url, error=cause)


def _no_answer(error: Exception, request: AWSPreparedRequest) -> BotoCoreError:
    # urllib3 has another error for a timeout while it sends.
    if isinstance(error, PoolReadTimeoutError) or isinstance(error.__context__, TimeoutError):
        return ReadTimeoutError(endpoint_url=request.url, error=error)
    return ConnectionClosedError(endpoint_url=request.url, request=request, error=error)
