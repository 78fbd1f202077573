"""What the errors of a call mean: whether to call again, and what the caller gets in the end."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from scanner.core.errors import AutoDefenderError

THROTTLES = frozenset(
    "Throttling ThrottlingException ThrottledException TooManyRequestsException RequestLimitExceeded "
    "RequestThrottled RequestThrottledException EC2ThrottledException SlowDown".split()
)
EXPIRED = frozenset(("ExpiredToken", "ExpiredTokenException", "RequestExpired"))


class Throttled(AutoDefenderError):
    """AWS asked to slow down until the attempts ran out."""


class TimedOut(AutoDefenderError):
    """The deadline came, the run was stopped, or AWS did not answer in time."""


class Unreachable(AutoDefenderError):
    """No answer, or a server's error, after every attempt."""


class BrokenAnswer(AutoDefenderError):
    """An answer that lacks what its operation always carries: an error, never an empty result."""


class ClockSkew(AutoDefenderError):
    """AWS refused a signature whose time is not its own; the next ones are made with the time of its answer."""


class LostAnswer(AutoDefenderError):
    """A write was sent and its answer never came: it may have happened or not. Read again to find out."""


def error_code(error: ClientError) -> str:
    """Return AWS's error code."""
    return str(error.response.get("Error", {}).get("Code", "Unknown"))


def describe(error: Exception) -> str:
    """Describe an error in one line that is safe to log and report.

    AWS quotes the whole environment where it is too large ("String measured: {...}"): that part is left out.
    """
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", ""))
        text = f"{error.operation_name}: {error_code(error)}: {message.partition('String measured')[0]}"
    elif isinstance(error, AutoDefenderError):
        text = str(error)
    else:
        text = (
            f"{type(error).__name__}: {error}" if isinstance(error, BotoCoreError) else type(error).__name__
        )
    return " ".join(text.split())[:500]


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_throttle(error: ClientError) -> bool:
    """Return whether AWS asked to slow down."""
    return error_code(error) in THROTTLES or _status(error) == 429


def _answer_unknown(error: BaseException) -> bool:
    """Return whether AWS may have done what was asked although no good answer came."""
    if isinstance(error, ClientError):
        return _status(error) >= 500
    return isinstance(
        error, (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseParserError, BrokenAnswer)
    )


def _never_sent(error: BaseException) -> bool:
    return isinstance(error, (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError))


def may_retry(error: BaseException, write: bool) -> bool:
    """Return whether to call again: after throttling always, after a lost answer only where nothing was written."""
    if isinstance(error, ClientError) and (is_throttle(error) or error_code(error) in EXPIRED):
        return True
    return isinstance(error, ClockSkew) or _never_sent(error) or (not write and _answer_unknown(error))


def final_error(error: Exception, write: bool) -> Exception:
    """Turn what the last attempt raised into what the caller is promised."""
    if isinstance(error, ClientError) and is_throttle(error):
        return Throttled(describe(error))
    if write and _answer_unknown(error) and not _never_sent(error):
        return LostAnswer(describe(error))
    if isinstance(error, (ConnectTimeoutError, ReadTimeoutError)):
        return TimedOut(describe(error))
    if _answer_unknown(error) and not isinstance(error, BrokenAnswer):
        return Unreachable(describe(error))
    return error
