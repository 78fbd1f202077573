"""Connections to one endpoint, kept alive and shared by every account: http.client's, one for each call under way.

botocore's own HTTP session reads the CA bundle anew for every connection (20 ms), and copies the headers of every
request and answer. Errors are the ones that botocore raises.
"""

import select
import ssl
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from socket import SO_KEEPALIVE, SOL_SOCKET
from typing import Any
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

from scanner.errors import BadInput
from scanner.signing import DEFAULT_PORTS

CONNECT_TIMEOUT_SEC = 5.0
READ_TIMEOUT_SEC = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, with the attributes that botocore reads."""

    status_code: int
    headers: HTTPMessage
    content: bytes


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
    """Sends requests to one endpoint; there are as many connections as threads that call at once."""

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
        self._idle: deque[HTTPConnection] = deque()

    def send(self, request: AWSPreparedRequest) -> Answer:
        """Send a request once and read its answer to the end. Raises BadInput for a header that can't be sent."""
        connection = self._kept() or self._opened()
        body: Any = request.body
        headers: Any = request.headers
        try:
            connection.request(request.method, request.url.removeprefix(self._origin), body, headers)
            answer, content = _read(connection)
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=request.url, request=request, error=error) from error
        except ValueError:
            # A header is refused before anything is sent, and the error quotes it, keys and all.
            connection.close()
            raise BadInput("a header holds a line break or the like; look at the AWS credentials") from None
        if not answer.will_close:
            self._idle.append(connection)
        return Answer(answer.status, answer.headers, content)

    def _kept(self) -> HTTPConnection | None:
        """Take the connection that was used last; one with something to read was closed by the other end."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                return None
            if not _readable(connection):
                return connection
            connection.close()
        return None

    def _opened(self) -> HTTPConnection:
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
        connection.sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        connection.sock.settimeout(READ_TIMEOUT_SEC)
        return connection

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


def _read(connection: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    """Read an answer to its end.

    http.client passes over a 100 and takes any other interim answer for the answer: the real one would be read as the
    next call's, which may be another account's.
    """
    answer = connection.getresponse()
    content = answer.read()
    if answer.status < HTTPStatus.OK:
        raise HTTPException(f"an interim answer, {answer.status}")
    return answer, content


def _readable(connection: HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"}
