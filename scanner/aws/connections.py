"""Connections whose every wait ends at the deadline of the call that waits, and that give one answer at a time."""

import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from errno import EAGAIN
from http.client import HTTPException, HTTPResponse
from typing import Any

from botocore.httpsession import get_cert_path
from urllib3.connection import HTTPConnection, HTTPSConnection

from scanner.core.errors import BadInput

CONNECT_SECONDS = 5.0
# A call may end so much later than its deadline: to set a timeout is a system call.
_LATE_SECONDS = 0.1
_BUFFER_BYTES = 64 * 1024

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_received_only: ContextVar[bool] = ContextVar("received_only", default=False)


@contextmanager
def ending_within(seconds: float) -> Iterator[None]:
    """Let every wait of this context end within so long, or by an earlier moment that is set already."""
    token = _deadline.set(min(time.monotonic() + seconds, _deadline.get()))
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
            f"the CA bundle {ca_bundle} can't be used ({error}); fix ca_bundle or AWS_CA_BUNDLE"
        ) from None
    # Python 3.13 sets it; the CAs of companies that look into TLS often lack an extension. botocore does not set it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = _TlsSocket
    return context


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


class NotConnected(Exception):
    """No connection was made, so nothing was sent; the cause says why."""


class Connection(HTTPConnection):
    """urllib3's connection over a socket whose waits end at the deadline."""

    response_class = _OneAnswer

    def connect(self) -> None:
        """Connect, to the proxy and through TLS where there are any; raise NotConnected where that fails."""
        try:
            super().connect()
        except Exception as error:
            raise NotConnected from error

    def _new_conn(self) -> socket.socket:
        self.timeout = min(CONNECT_SECONDS, _seconds_left())
        self.socket_options = _SOCKET_OPTIONS
        connected = _Socket(fileno=super()._new_conn().detach())
        connected.settimeout(self.timeout)
        return connected


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS."""
