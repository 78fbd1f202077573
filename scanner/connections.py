"""Connections to one endpoint, kept alive and shared by every account: a pool of urllib3, the library under botocore.

botocore's own HTTP session reads the CA bundle anew for every connection (20 ms), and copies the headers of every
request and answer. Errors are the ones that botocore raises.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_NODELAY
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import urllib3
from botocore import exceptions
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import get_cert_path, mask_proxy_url
from botocore.utils import get_environ_proxies
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from scanner.errors import BadInput

_NO_RETRY = urllib3.Retry(False)
# As botocore sets them for Config(tcp_keepalive=True).
_SOCKET_OPTIONS = [(IPPROTO_TCP, TCP_NODELAY, 1), (SOL_SOCKET, SO_KEEPALIVE, 1)]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, with the attributes that botocore reads."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Make the TLS context of all connections; BadInput where the CA bundle that is configured can't be read."""
    try:
        return ssl.create_default_context(cafile=ca_bundle or get_cert_path(True))
    except OSError as error:
        raise BadInput(
            f"the CA bundle {ca_bundle} can't be used ({error}); mend ca_bundle or AWS_CA_BUNDLE"
        ) from None


class Connections:
    """Sends requests to one endpoint, as many at once as it may have connections."""

    def __init__(
        self,
        endpoint_url: str,
        context: ssl.SSLContext,
        *,
        connections: int,
        connect_sec: float,
        read_sec: float,
    ) -> None:
        """Take the endpoint, the TLS context, the number of connections that are kept, and the time-outs."""
        scheme = urlsplit(endpoint_url).scheme
        self._proxy: str | None = get_environ_proxies(endpoint_url).get(scheme)
        settings: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=connect_sec, read=read_sec),
            "socket_options": _SOCKET_OPTIONS,
            "ssl_context": context,
        }
        manager = _through(self._proxy, settings) if self._proxy else urllib3.PoolManager(**settings)
        self._pool = manager.connection_from_url(endpoint_url)
        # A proxy that forwards plain HTTP is told the whole URL; TLS is tunnelled through it.
        self._cut = 0 if self._proxy and scheme == "http" else len(_origin(endpoint_url))

    def send(self, request: AWSPreparedRequest) -> Answer:
        """Send a request once and read its answer to the end."""
        url = request.url
        body, headers = cast("bytes | None", request.body), cast("dict[str, str]", request.headers)
        try:
            answer = self._pool.urlopen(
                request.method,
                url[self._cut :],
                body=body,
                headers=headers,
                retries=_NO_RETRY,
                redirect=False,
                assert_same_host=False,
                decode_content=False,
            )
        except (NewConnectionError, ConnectTimeoutError, ReadTimeoutError, ProxyError, SSLError) as error:
            raise self._named(error, url) from error
        except ProtocolError as error:
            raise exceptions.ConnectionClosedError(error=error, request=request, endpoint_url=url) from error
        except HTTPError as error:
            raise exceptions.HTTPClientError(error=error) from error
        return Answer(answer.status, answer.headers, answer.data)

    def _named(self, error: HTTPError, url: str) -> Exception:
        """Give botocore's name of an error; a NewConnectionError is a ConnectTimeoutError to urllib3, so it is first."""
        if isinstance(error, NewConnectionError):
            return exceptions.EndpointConnectionError(endpoint_url=url, error=error)
        if isinstance(error, ConnectTimeoutError):
            return exceptions.ConnectTimeoutError(endpoint_url=url, error=error)
        if isinstance(error, ReadTimeoutError):
            return exceptions.ReadTimeoutError(endpoint_url=url, error=error)
        if isinstance(error, ProxyError):
            return exceptions.ProxyConnectionError(proxy_url=mask_proxy_url(self._proxy or ""), error=error)
        return exceptions.SSLError(endpoint_url=url, error=error)


def _through(proxy: str, settings: Mapping[str, Any]) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    headers = {}
    if parts.username:
        basic = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=basic)
    return urllib3.proxy_from_url(proxy, proxy_headers=headers, **settings)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
