"""What Lambda keeps: functions with versions and aliases, and layer versions.

A configuration is never changed in place: each change makes a new one, so that an earlier one can be kept and compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.calls import Configuration

LATEST = "$LATEST"
# ListFunctions does not return these (Lambda API reference, ListFunctions).
NOT_LISTED = frozenset(
    "State StateReason StateReasonCode LastUpdateStatus LastUpdateStatusReason LastUpdateStatusReasonCode "
    "RuntimeVersionConfig".split()
)
# These differ between two versions whose code and configuration are the same.
_VOLATILE = NOT_LISTED | {"RevisionId", "LastModified", "Version", "FunctionArn", "Description"}
_UNREADABLE = {
    "Error": {
        "ErrorCode": "AccessDeniedException",
        "Message": "Lambda was unable to decrypt the environment variables because KMS access was denied.",
    }
}


@dataclass
class LayerVersion:
    """A published layer version. unzipped: bytes; principals: accounts that may read it, "*" for everyone."""

    arn: str
    unzipped: int = 1_000_000
    code_size: int = 1
    principals: set[str] = field(default_factory=lambda: {"*"})

    def readable_by(self, account: str) -> bool:
        """Return whether its owner or a grant lets an account use it."""
        return account in {*self.principals, self.arn.split(":")[4]} or "*" in self.principals


@dataclass
class Function:
    """A function. unzipped: bytes of its code; settles_at: a moment of the clock's monotonic().

    key_denied: the key of its variables refuses us; signing: the ARN of its code signing configuration.
    """

    configuration: Configuration
    tags: Mapping[str, str] = field(default_factory=dict)
    unzipped: int = 1_000
    versions: dict[str, Configuration] = field(default_factory=dict)
    aliases: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_version: int = 0
    settles_at: float | None = None
    key_denied: bool = False
    signing: str = ""

    @property
    def arn(self) -> str:
        """Return its unqualified ARN."""
        return str(self.configuration["FunctionArn"])

    def shown(self, configuration: Configuration | None = None) -> dict[str, Any]:
        """Return a FunctionConfiguration as the API returns it; of $LATEST unless a version's is given."""
        answer = dict(self.configuration if configuration is None else configuration)
        answer.setdefault("Version", LATEST)
        if not answer.get("Layers"):
            answer.pop("Layers", None)
        if self.key_denied and (answer.get("Environment") or {}).get("Variables"):
            answer["Environment"] = _UNREADABLE
        return answer

    def listed(self, configuration: Configuration | None = None) -> dict[str, Any]:
        """Return what ListFunctions shows."""
        return {key: value for key, value in self.shown(configuration).items() if key not in NOT_LISTED}

    def same_as(self, version: Configuration) -> bool:
        """Return whether a version was published from the code and configuration of now."""
        return _content(self.configuration) == _content(version)


def _content(configuration: Configuration) -> dict[str, Any]:
    return {key: value for key, value in configuration.items() if key not in _VOLATILE}


def function_arn(account: str, region: str, name: str) -> str:
    """Return a function's ARN."""
    return f"arn:aws:lambda:{region}:{account}:function:{name}"
