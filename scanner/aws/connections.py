"""Connections to one endpoint, kept alive and shared by every account: one for each call under way.

botocore's own HTTP session reads the CA bundle anew for every connection (20 ms), and copies the headers of every
request and answer. Here http.client connects (TLS, a proxy's tunnel); errors are the ones that botocore raises.
"""

import ssl
from base64 import b64encode
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SO_KEEPALIVE, SOL_SOCKET, socket
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path, mask_proxy_url
from botocore.utils import get_environ_proxies

from scanner.aws.exchange import Answer, BrokenExchange, Line, request_bytes
from scanner.aws.signing import DEFAULT_PORTS, host_of
from scanner.aws.turns import elsewhere
from scanner.core.errors import BadInput

CONNECT_TIMEOUT_SEC = 5.0
READ_TIMEOUT_SEC = 30.0
# For each endpoint: as many as changes are under way at once, or else connections would be opened anew all the time.
_IDLE_KEPT = 192


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
    return context


class Connections:
    """Sends requests to one endpoint; there are as many connections as calls at once."""

    def __init__(self, origin: str, context: ssl.SSLContext) -> None:
        """Take the endpoint (https://HOST) and the TLS context; a proxy is the environment's, as botocore takes it.

        Raises BadInput for a proxy that is itself reached by TLS: http.client knows no TLS within TLS.
        """
        self._origin = origin
        self._endpoint = urlsplit(origin)
        self._context = context
        proxy: str = get_environ_proxies(origin).get(self._endpoint.scheme) or ""
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        if self._proxy and self._proxy.scheme != "http":
            raise BadInput(f"the proxy {mask_proxy_url(proxy)} can't be used; name one by http://HOST:PORT")
        self._idle: deque[Line] = deque()
        self._host = host_of(self._endpoint.scheme, self._endpoint.netloc)

    def send(self, request: AWSPreparedRequest) -> Answer:
        """Send a request once and read its answer to the end. Raises BadInput for a header that can't be sent."""
        target = request.url.removeprefix(self._origin)
        headers: Any = request.headers
        body = cast("bytes", request.body or b"")
        try:
            sent = request_bytes(request.method, target, self._host, headers, body)
        except ValueError:
            # The error quotes the header, keys and all.
            raise BadInput("a header holds a line break or the like; look at the AWS credentials") from None
        line = self._kept() or Line(elsewhere(self._opened), READ_TIMEOUT_SEC)
        try:
            answer = line.exchange(sent)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except (OSError, BrokenExchange) as error:
            raise ConnectionClosedError(endpoint_url=request.url, request=request, error=error) from error
        if answer.keep_alive and len(self._idle) < _IDLE_KEPT:
            self._idle.append(line)
        else:
            line.close()
        return answer

    def _kept(self) -> Line | None:
        """Take the connection that was used last; one with something to read was closed by the other end."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread took the last one
                return None
            if not line.readable():
                return line
            line.close()
        return None

    def _opened(self) -> socket:
        connection = self._made()
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._origin, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._origin, error=error) from error
        except (OSError, HTTPException) as error:
            if self._proxy:
                proxy_url = mask_proxy_url(self._proxy.geturl())
                raise ProxyConnectionError(proxy_url=proxy_url, error=error) from error
            raise EndpointConnectionError(endpoint_url=self._origin, error=error) from error
        sock: socket = connection.sock
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        return sock

    def _made(self) -> HTTPConnection:
        there = self._proxy or self._endpoint
        host, port = str(there.hostname), there.port or DEFAULT_PORTS[there.scheme]
        connection = (
            HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_SEC, context=self._context)
            if self._endpoint.scheme == "https"
            else HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_SEC)
        )
        if self._proxy:
            port = self._endpoint.port or DEFAULT_PORTS[self._endpoint.scheme]
            connection.set_tunnel(str(self._endpoint.hostname), port, _authorization(self._proxy))
        return connection


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"}
