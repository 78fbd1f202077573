"""One HTTP/1.1 request and its answer over a connected socket.

httptools (llhttp) reads the answer. http.client would read it through the standard library's parser of e-mail, at four
times the CPU of all else in this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from socket import socket
from ssl import SSLWantReadError, SSLWantWriteError

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from scanner.aws.turns import is_ready

_RECEIVE_BYTES = 64 * 1024
_WITH_BODY = frozenset(("PATCH", "POST", "PUT"))


class BrokenExchange(Exception):
    """The other end closed the connection, or sent what is no answer to one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, with the attributes that botocore reads; header names are in lower case.

    keep_alive: its connection can carry another.
    """

    status_code: int
    headers: dict[str, str]
    content: bytes
    keep_alive: bool


def request_bytes(method: str, target: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Give a request as it is sent; ValueError for a header that no request can carry."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in _WITH_BODY:
        lines.append(f"Content-Length: {len(body)}")
    head = "\n".join(lines)
    if "\r" in head or "\0" in head or head.count("\n") != len(lines) - 1:
        raise ValueError("a line break or NUL in a header")
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


class Line:
    """A connected socket that carries one exchange at a time."""

    def __init__(self, sock: socket, timeout_sec: float) -> None:
        """Take the socket, and the longest silence of the other end during an exchange."""
        sock.setblocking(False)
        self._sock = sock
        self._timeout_sec = timeout_sec

    def readable(self) -> bool:
        """Tell whether there is something to read although nothing was asked: it was closed by the other end."""
        return is_ready(self._sock, 0)

    def exchange(self, request: bytes) -> Answer:
        """Send a request and read its answer to the end; after an error it is closed.

        Raises BrokenExchange where what comes is not exactly one answer, and OSError (TimeoutError) from the socket.
        An interim answer (1xx) is none: the one still to come would be read as the next call's, which may be another
        account's.
        """
        try:
            return self._exchanged(request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def _exchanged(self, request: bytes) -> Answer:
        self._send(request)
        self._wait()
        reading = _Reading()
        while not reading.complete:
            received = self._received()
            if received:
                reading.feed(received)
            else:
                reading.end()
        answer = reading.answer()
        if answer.status_code < HTTPStatus.OK:
            raise BrokenExchange(f"an interim answer, {answer.status_code}")
        return answer

    def _send(self, request: bytes) -> None:
        rest = memoryview(request)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except (BlockingIOError, SSLWantWriteError):
                self._wait(writing=True)
            except SSLWantReadError:
                self._wait()

    def _received(self) -> bytes:
        while True:
            try:
                return self._sock.recv(_RECEIVE_BYTES)
            except (BlockingIOError, SSLWantReadError):
                self._wait()
            except SSLWantWriteError:
                self._wait(writing=True)

    def _wait(self, *, writing: bool = False) -> None:
        if not is_ready(self._sock, self._timeout_sec, writing=writing):
            raise TimeoutError("no answer in time")


class _Reading:
    """The answer so far; httptools calls the on_ methods."""

    def __init__(self) -> None:
        self.complete = False
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._until_closed = False
        self._keep_alive = False
        self._body: list[bytes] = []

    def feed(self, received: bytes) -> None:
        try:
            self._parser.feed_data(received)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise BrokenExchange(f"no HTTP answer: {error}") from None

    def end(self) -> None:
        """Take the other end's closing: the answer's end where it gave no length, or else a broken answer."""
        if not self._until_closed:
            raise BrokenExchange("closed before the answer's end")
        self.complete = True

    def answer(self) -> Answer:
        return Answer(
            self._parser.get_status_code(),
            self._headers,
            b"".join(self._body),
            self._keep_alive,
        )

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._until_closed = not self._headers.keys() & {"content-length", "transfer-encoding"}
        # llhttp forgets it at the answer's end.
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True
