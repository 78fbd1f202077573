"""urllib3's connection pools, shared by every account: one TLS context, a deadline for every call, few idle connections.

botocore's own HTTP session reads the CA bundle for every connection (20 ms), has no deadline for an answer that
comes one byte at a time, and bounds idle connections by endpoint only. Errors are those that botocore raises.
"""

import ssl
import threading
import time
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Mapping
from functools import partial
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
from botocore.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.exceptions import ConnectTimeoutError as PoolConnectTimeoutError
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import ReadTimeoutError as PoolReadTimeoutError
from urllib3.exceptions import SSLError as PoolSSLError
from urllib3.util import Retry, Url

from scanner.aws.connections import Connection, NotConnected, TlsConnection, ending_within
from scanner.core.errors import BadInput

# One attempt at a call, from its connection to the last byte of its answer.
ATTEMPT_SECONDS = 30.0
# Over all endpoints. sweep.workers allows up to 256 calls at once; a process may often open 1,024 files.
MAX_IDLE = 256
MAX_IDLE_SECONDS = 30.0
_NO_RETRIES = Retry(total=False, redirect=False)


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
            with ending_within(ATTEMPT_SECONDS):
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
        except NotConnected as failed:
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
        ConnectionCls: Any = Connection
        QueueCls: Any = staticmethod(partial(_IdleOfEndpoint, idle))

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls: Any = TlsConnection
        QueueCls: Any = staticmethod(partial(_IdleOfEndpoint, idle))

    return {"http": Pool, "https": TlsPool}


def _close(connections: list[Any]) -> None:
    for connection in connections:
        connection.close()


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
