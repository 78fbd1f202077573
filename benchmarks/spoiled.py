"""The answer of each fault, derived from the correct one."""

from collections.abc import Callable

from benchmarks import faults
from benchmarks.faults import SKEW_SECONDS, Fault, Kind
from simulator.wire import Answer, Request

Spoil = Callable[[Fault, Request, Answer], Answer]


def spoiled(fault: Fault, request: Request, right: Answer) -> Answer:
    """Return what is sent in place of the correct answer."""
    return _SPOIL[fault.kind](fault, request, right)


def _error(fault: Fault, request: Request, _right: Answer) -> Answer:
    answer = Answer.error(request, fault.status, fault.code or faults.CODES[fault.status], "injected")
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


def _half(answer: Answer) -> int:
    return len(answer.body) // 2


def _same_marker(_fault: Fault, _request: Request, right: Answer) -> Answer:
    return Answer(right.body[: right.body.rfind(b"]")] + b'],"NextMarker":"0"}')


def _expired(_fault: Fault, request: Request, right: Answer) -> Answer:
    """Reject the account's first session; a renewed one is accepted."""
    if not request.key.endswith("0001"):
        return right
    return Answer.error(
        request, 403, "ExpiredTokenException", "The security token included in the request is expired"
    )


def _skew(_fault: Fault, request: Request, right: Answer) -> Answer:
    signed = request.header("x-amz-date")
    if faults.clock_is_off(signed):
        message = f"Signature expired: {signed} is now earlier than the server allows"
        right = Answer.error(request, 403, "InvalidSignatureException", message)
    right.clock = SKEW_SECONDS
    return right


def _unknown_token(_fault: Fault, request: Request, _right: Answer) -> Answer:
    """Answer as a region that the account has not enabled."""
    return Answer.unknown_token(request)


_SPOIL: dict[Kind, Spoil] = {
    "error": _error,
    "reset": lambda _fault, _request, right: Answer(right.body, cut=_half(right)),
    "truncated": lambda _fault, _request, right: Answer(right.body[: _half(right)]),
    "not_json": lambda _fault, _request, _right: Answer(
        b"<html><p>Gateway</p></html>", content_type="text/html"
    ),
    "without_key": lambda _fault, _request, _right: Answer(b'{"Message":"ok"}'),
    "same_marker": _same_marker,
    "trickle": lambda _fault, _request, right: Answer(right.body, pace=1),
    "hang": lambda _fault, _request, _right: Answer(b"", never=True),
    "expired": _expired,
    "skew": _skew,
    "wrong_account": lambda _fault, _request, right: right,  # the server has put another account in
    "region_disabled": _unknown_token,
}
