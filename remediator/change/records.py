"""What a change is, as data: planned, intended, ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import ConfigDict

from remediator.change.api_errors import ApiError
from remediator.change.delta import MAX_LAYERS, Delta
from scanner.core.errors import GuardStop
from scanner.settings import Family

PlannedAction = Literal["protect", "repair", "upgrade", "downgrade", "remove"]
Action = Literal["protect", "repair", "upgrade", "downgrade", "remove", "rollback"]
Outcome = Literal["planned", "changed", "deferred", "dropped", "failed", "rolled_back"]
# Saved plans are read back: nothing in them is coerced or ignored.
STRICT = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
# The protection that a function had before a change, by what the change did.
_PROTECTION_BEFORE: Mapping[Action, str] = {
    "protect": "unprotected",
    "repair": "partial",
    "upgrade": "outdated",
    "downgrade": "ahead",
}


class Item(Protocol):
    """What a row is about: a planned change, a journal entry, or a rollback."""

    @property
    def account_id(self) -> str:
        """Return the function's account."""

    @property
    def region(self) -> str:
        """Return the function's region."""

    @property
    def function_name(self) -> str:
        """Return the function's name."""

    @property
    def function_arn(self) -> str:
        """Return the function's ARN."""

    @property
    def action(self) -> Action:
        """Return what is done to it."""


@dataclass(frozen=True)
class FunctionState:
    """What a function carries: layer ARNs in order, the wrapper's value ("" absent), which of our variables."""

    __pydantic_config__ = STRICT

    layers: tuple[str, ...]
    wrapper: str
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One change of one function.

    why: the facts that made it safe. revision_id: the revision that they were read from.
    layer: the configured one, "" for a removal. wave: the name of the function's wave, "" where it has none.
    variables_changed: names of our variables that have another value than the configured one (a removal keeps them). env_tight: less than 5 %
    of the 4 KB for variables is left afterwards.
    """

    __pydantic_config__ = STRICT

    account_id: str
    region: str
    function_name: str
    function_arn: str
    action: PlannedAction
    family: Family
    layer: str
    before: FunctionState
    after: FunctionState
    revision_id: str
    why: str
    wave: str = ""
    variables_changed: tuple[str, ...] = ()
    env_tight: bool = False

    @property
    def layers_full(self) -> bool:
        """Return whether the function has no free slot for a layer afterwards."""
        return len(self.after.layers) >= MAX_LAYERS


@dataclass(frozen=True)
class PlannedNotice:
    """The announcement of a change that comes later."""

    __pydantic_config__ = STRICT

    account_id: str
    region: str
    function_name: str
    function_arn: str
    action: PlannedAction

    @classmethod
    def of(cls, change: Change) -> "PlannedNotice":
        """Return the announcement of a change."""
        return cls(change.account_id, change.region, change.function_name, change.function_arn, change.action)


@dataclass(frozen=True)
class Intent:
    """One change that is about to be sent. delta: what it adds, or the first of what it removes.

    deltas: all that a removal or a rollback removes, of a rollback the newest first; empty for what adds something, and
    for a rollback of release 0.1.
    """

    id: str
    run_id: str
    action: Action
    account_id: str
    region: str
    function_name: str
    function_arn: str
    family: Family
    revision_id: str
    delta: Delta
    layers_before: tuple[str, ...]
    wrapper_before: str
    undoes: tuple[tuple[str, str], ...] = ()
    untag: bool = False
    wave: str = ""
    deltas: tuple[Delta, ...] = ()

    @property
    def all_deltas(self) -> tuple[Delta, ...]:
        """Return what it adds, or all that it removes."""
        return self.deltas or (self.delta,)

    @property
    def removes(self) -> bool:
        """Return whether it removes what was added."""
        return self.action in {"remove", "rollback"}


@dataclass(frozen=True)
class OutcomeRecord:
    """How an intent ended. left: it was not made, and all or a part of what it adds is on the function.

    revision_id: the function's after a change that failed and was removed again, "" otherwise.
    """

    id: str
    outcome: Outcome
    detail: str
    attempts: int
    left: bool = False
    revision_id: str = ""


@dataclass(frozen=True)
class Carried:
    """What of ours a function carries: versions of our layer (ARNs, separated by a space), the wrapper's value.

    "" for none; the wrapper is UNKNOWN where the environment can't be read.
    """

    layer: str
    wrapper: str


UNKNOWN = "unknown"
NOTHING = Carried("", "")


@dataclass(frozen=True)
class ChangeResult:
    """How a change ended.

    intent: its journal entry, None where nothing was about to be sent. unsettled: the entry stays open.
    left: it was not made, and all or a part of it is on the function. accepted: AWS accepted the update.
    error: the refusal, if any.
    stopped_by: the guard that did not let an update be sent, if any; nothing else of the run is sent, either.
    clean_revision: the function's revision without the change, where AWS accepted it, could not carry it out, and it
    was removed again. lasting: it was deferred or dropped for a reason that a try soon afterwards would meet again.

    Of a rollback: before, after: what of ours the function carried when it was read and afterwards, None where that is
    not known. as_before: nothing of what was to be removed is on the function, and each variable is as it was. untouched: nothing was sent, or AWS
    refused it.
    """

    outcome: Outcome
    detail: str = ""
    attempts: int = 0
    intent: Intent | None = None
    unsettled: bool = False
    left: bool = False
    accepted: bool = False
    error: ApiError | None = None
    stopped_by: GuardStop | None = None
    clean_revision: str = ""
    lasting: bool = False
    before: Carried | None = None
    after: Carried | None = None
    as_before: bool = False
    untouched: bool = False


@dataclass(frozen=True)
class ChangeRow:
    """One row of the changes frame: which function, and how its change ended."""

    item: Item
    result: ChangeResult


@dataclass(frozen=True)
class Undo:
    """What to remove from one function. intents: newest first; refusal: why nothing may be removed, "" where it may.

    unsure: those of `intents` that are not in effect by what is known, where others are; what is found of them goes too.
    undone: changes that were asked for and are rolled back already, of which is only read whether they are gone;
    undone_by: the run that did, "" where a change is still in effect. by_reading: no journal has a change of the function,
    and all of ours that it carries goes.
    """

    account_id: str
    region: str
    function_name: str
    function_arn: str
    intents: tuple[Intent, ...]
    refusal: str = ""
    undone: tuple[Intent, ...] = ()
    undone_by: str = ""
    unsure: tuple[Intent, ...] = ()
    by_reading: bool = False
    action: Literal["rollback"] = "rollback"

    @property
    def protection_before(self) -> str:
        """Return the function's protection before the oldest of these changes; there must be one."""
        return _PROTECTION_BEFORE[self.intents[-1].action]
