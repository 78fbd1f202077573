"""What AWS's refusals mean for a change: a kind each, and a text that is safe to write down.

Lambda's refusal of an environment quotes the whole of it ("String measured: {…}"), so a message from AWS is never
passed on unchanged: known refusals get a text of ours, others lose whatever may be a value.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from botocore.exceptions import ClientError

from scanner.aws.errors import BrokenAnswer, ClockSkew, LostAnswer, Throttled, TimedOut, Unreachable

Kind = Literal[
    "concurrent_deploy",
    "conflict",
    "throttled",
    "denied_by_policy",
    "denied_by_scp",
    "size_limit",
    "signature",
    "dead_role",
    "gone",
    "layer_unavailable",
    "kms",
    "env_overflow",
    "lost_answer",
    "timed_out",
    "refused",
    "fault",
]
RefusedOutcome = Literal["deferred", "dropped", "failed"]


@dataclass(frozen=True)
class ApiError:
    """What a refusal means.

    outcome: the outcome of the change. final: trying again is of no use before the function, the layer version or
    the configuration changes.
    """

    kind: Kind
    text: str
    outcome: RefusedOutcome
    final: bool = False

    def __str__(self) -> str:
        """Return the detail as files and logs carry it."""
        return f"{self.kind}: {self.text}"


_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "UnrecognizedClientException"}
_BY_CODE: dict[str, ApiError] = {
    "InvalidSignatureException": ApiError(
        "fault", "AWS refused the request's own signature or time", "deferred"
    ),
    "SignatureDoesNotMatch": ApiError("fault", "AWS refused the request's own signature or time", "deferred"),
    "PreconditionFailedException": ApiError(
        "concurrent_deploy", "someone else deployed this function meanwhile", "deferred"
    ),
    "ResourceConflictException": ApiError("conflict", "an update of this function is under way", "deferred"),
    "ResourceNotFoundException": ApiError("gone", "the function no longer exists", "dropped"),
    "CodeVerificationFailedException": ApiError(
        "signature", "the code signing policy refuses the layer", "failed", final=True
    ),
    "InvalidCodeSignatureException": ApiError(
        "signature", "the code signing policy refuses the layer", "failed", final=True
    ),
    "CodeSigningConfigNotFoundException": ApiError(
        "signature", "the function's code signing configuration no longer exists", "failed", final=True
    ),
    "CodeStorageExceededException": ApiError("size_limit", "the account's code storage is used up", "failed"),
    "KMSAccessDeniedException": ApiError(
        "kms", "the function's KMS key refuses its use", "failed", final=True
    ),
    "KMSDisabledException": ApiError("kms", "the function's KMS key is disabled", "failed", final=True),
    "KMSInvalidStateException": ApiError("kms", "the function's KMS key is not usable", "failed", final=True),
    "KMSNotFoundException": ApiError("kms", "the function's KMS key no longer exists", "failed", final=True),
}
# Only the message distinguishes these.
_BY_MESSAGE: tuple[tuple[re.Pattern[str], ApiError], ...] = (
    (
        re.compile(r"layers? exceeds the maximum allowed size|unzipped size must be smaller", re.IGNORECASE),
        ApiError("size_limit", "code and layers together exceed 250 MB unzipped", "failed", final=True),
    ),
    (
        re.compile(r"exceeded the 4KB limit|String measured", re.IGNORECASE),
        ApiError("env_overflow", "the variables together exceed 4 KB", "failed", final=True),
    ),
    (
        re.compile(r"role defined for the function cannot be assumed", re.IGNORECASE),
        ApiError("dead_role", "Lambda can't assume the function's execution role", "failed", final=True),
    ),
    (
        re.compile(r"code signing|signature", re.IGNORECASE),
        ApiError("signature", "the code signing policy refuses the layer", "failed", final=True),
    ),
    (
        re.compile(r"\bKMS\b"),
        ApiError("kms", "Lambda can't use the function's KMS key for its variables", "failed", final=True),
    ),
    (
        re.compile(r"layer version .*(does not exist|not exist)|layer .*not found", re.IGNORECASE),
        ApiError(
            "layer_unavailable", "the layer version does not exist in this region", "failed", final=True
        ),
    ),
)


_BY_TYPE: tuple[tuple[type[Exception], ApiError], ...] = (
    (Throttled, ApiError("throttled", "AWS kept throttling", "deferred")),
    (TimedOut, ApiError("timed_out", "no answer before the deadline", "deferred")),
    (LostAnswer, ApiError("lost_answer", "it is not known whether AWS did it", "deferred")),
    (Unreachable, ApiError("fault", "AWS gave no answer", "deferred")),
    (BrokenAnswer, ApiError("fault", "AWS gave a broken answer", "deferred")),
    (ClockSkew, ApiError("fault", "this machine's clock differs from AWS's; set it by NTP", "deferred")),
)
# What aws.call raises and a change counts as its own failure; anything else is an internal error.
CALL_ERRORS: tuple[type[Exception], ...] = (ClientError, *(kind for kind, _ in _BY_TYPE))


def classify_error(error: Exception, values: Iterable[str] = ()) -> ApiError:
    """Return what one of CALL_ERRORS means. values: variables' values that were sent and must not appear in it."""
    if isinstance(error, ClientError):
        return _refusal(error, values)
    return next(meaning for kind, meaning in _BY_TYPE if isinstance(error, kind))


def _refusal(error: ClientError, values: Iterable[str]) -> ApiError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code in _DENIED:
        return _denied(error.operation_name, message)
    if code in _BY_CODE:
        return _BY_CODE[code]
    for pattern, meaning in _BY_MESSAGE:
        if pattern.search(message):
            return meaning
    return ApiError("refused", f"{code}: {redacted(message, values)}", "failed")


def _denied(operation: str, message: str) -> ApiError:
    """AWS names the policy type that denied: "with an explicit deny in a service control policy"."""
    if "service control policy" in message or "resource control policy" in message:
        return ApiError(
            "denied_by_scp", "an organization policy (SCP) forbids the change", "failed", final=True
        )
    if operation == "AssumeRole":
        return ApiError("denied_by_policy", "the member role can't be assumed", "failed")
    action = re.search(r"not authorized to perform: ([\w:]+)", message)
    wanted = action[1] if action else operation
    if wanted.startswith("lambda:GetLayerVersion"):
        return ApiError(
            "layer_unavailable", "the layer is not shared with this account", "failed", final=True
        )
    if wanted.startswith("kms:"):
        return ApiError("kms", f"the member role is not allowed to call {wanted}", "failed", final=True)
    return ApiError("denied_by_policy", f"the member role is not allowed to call {wanted}", "failed")


def redacted(message: str, values: Iterable[str]) -> str:
    """Cut a message where AWS begins to quote, and mask every value that was sent."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        message = message.replace(value, "***")
    return re.split(r"[{\[']|Value ", message, maxsplit=1)[0].strip()[:200]
