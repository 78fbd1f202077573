"""One UpdateFunctionConfiguration, from what was read to knowing what became of it.

`send` and `verify_outcome` are generators: they yield the seconds to wait, and return an UpdateResult.
"""

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.delta import State
from scanner.aws.errors import LostAnswer
from scanner.core.clock import Clock
from scanner.core.errors import GuardStop, WrongAccount

log = logging.getLogger(__name__)

Configuration = Mapping[str, Any]
# Most updates settle within two seconds, those in a VPC within minutes. A settling function costs few calls, for
# they count against the 15 a second that its owners need too.
POLL_SECONDS = (2.0, 2.0, 3.0, 5.0, 8.0, 10.0, *([15.0] * 20))
# After a lost answer: an update that AWS accepted shows at once; later reads are for one still in flight.
VERIFY_SECONDS = (1.0, 3.0, 6.0)


class Aws(Protocol):
    """Calls AWS as a member account; scanner.aws.caller.Aws is the real one."""

    clock: Clock

    def call(
        self,
        account_id: str,
        region: str,
        service: str,
        method: str,
        *,
        deadline: float | None = None,
        write: bool = False,
        check: Callable[[], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Call a client's method and give the answer; check: called right before each attempt."""


@dataclass(frozen=True)
class Function:
    """A function, and how it is called. `deadline`: a Clock.monotonic() moment, None for none."""

    aws: Aws
    account_id: str
    region: str
    arn: str
    deadline: float | None = None

    def call(self, method: str, *, write: bool = False, **more: Any) -> dict[str, Any]:
        """Call a method of the Lambda client as the function's account."""
        where = self.account_id, self.region, "lambda"
        return self.aws.call(*where, method, deadline=self.deadline, write=write, **more)

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that name it in log records."""
        return {"account_id": self.account_id, "region": self.region, "function_arn": self.arn}

    def read(self) -> Configuration:
        """Read its configuration; WrongAccount where the answer is about another function."""
        answer = self.call("get_function_configuration", FunctionName=self.arn)
        if answer.get("FunctionArn") != self.arn:
            raise WrongAccount(
                f"asked for {self.arn}, AWS answered about another function; nothing more is done"
            )
        return answer


def state_of(configuration: Configuration) -> State:
    """Return what we change of a configuration; variables are None where Lambda could not decrypt them."""
    layers = tuple(str(layer["Arn"]) for layer in configuration.get("Layers") or ())
    environment = configuration.get("Environment")
    if environment is None:
        return State(layers, {})
    if environment.get("Error") is not None:
        return State(layers, None)
    return State(layers, environment.get("Variables"))


def revision_of(configuration: Configuration) -> str:
    """Return its RevisionId; "" from an emulator that knows none."""
    return str(configuration.get("RevisionId") or "")


def busy(configuration: Configuration) -> str | None:
    """Return why a function can't be updated now, None where it can; one that is Inactive (idle) can."""
    state = configuration.get("State") or "Active"
    if state not in {"Active", "Inactive"}:
        return f"its state is {state}"
    if configuration.get("LastUpdateStatus") == "InProgress":
        return "an update of it is under way"
    return None


def modified_within(configuration: Configuration, quiet: timedelta, now: datetime) -> str | None:
    """Return why a function is left alone that was modified within the quiet time, None where nobody has.

    LastModified is AWS's time and held against this machine's clock: parsed answers have no Date header. AWS refuses
    calls that are five minutes off, and `doctor` reports less. What lies ahead counts as just modified.
    """
    if not quiet:
        return None
    text = str(configuration.get("LastModified"))
    try:
        quiet_for = now - datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return f"AWS's answer does not say when it was modified: LastModified is {text[:40]!r}"
    if quiet_for >= quiet:
        return None
    return f"modified at {text}, within rollout.quiet_minutes: a deployment may be under way"


@dataclass(frozen=True)
class Effect:
    """How an update is recognized.

    is_done: returns whether a state carries what it does, whatever others change; None where that can't be known, as the
    variables could not be read. on_accepted is called once AWS is known to have taken it.
    """

    function: Function
    is_done: Callable[[State], bool | None]
    on_accepted: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Update:
    """What is sent: the difference between what was read and `after`, on condition of the revision read.

    may_send: asked right before it is sent, and again before a retry after throttling; raises GuardStop where it may
    not be sent.
    """

    effect: Effect
    read: Configuration
    after: State
    may_send: Callable[[], None]

    def parameters(self) -> dict[str, Any]:
        """Return the call's parameters: only what changes, and never an environment that could not be read."""
        before = state_of(self.read)
        parameters: dict[str, Any] = {"FunctionName": self.effect.function.arn}
        # AWS always gives a revision; an emulator may not.
        if revision := revision_of(self.read):
            parameters["RevisionId"] = revision
        if self.after.layers != before.layers:
            parameters["Layers"] = list(self.after.layers)
        if self.after.variables != before.variables and before.variables is not None:
            parameters["Environment"] = {"Variables": dict(self.after.variables or {})}
        return parameters


@dataclass(frozen=True)
class UpdateResult:
    """How an update ended.

    done: settled, and there. replaced: settled, and someone else's deployment took it away meanwhile.
    failed: AWS took it and could not carry it out (`configuration` is the last read). refused: AWS said no (`error`).
    stopped: a guard (`stop`) did not let it be sent. not_done: the answer was lost, and the last read does not show all
    of it. unknown: the time ended before it was known, or the variables can't be read.
    """

    status: Literal["done", "replaced", "failed", "refused", "stopped", "not_done", "unknown"]
    configuration: Configuration | None = None
    error: ApiError | None = None
    ours: bool = True
    stop: GuardStop | None = None

    @property
    def reason(self) -> str:
        """Return AWS's code for why an update failed, such as EniLimitExceeded."""
        code = str((self.configuration or {}).get("LastUpdateStatusReasonCode") or "no reason given")
        return code[:60]

    @property
    def why_unknown(self) -> str:
        """Return why it is not known what became of an update, and who finds out."""
        unreadable = self.configuration is not None and state_of(self.configuration).variables is None
        why = "its variables can't be read" if unreadable else "not settled in time"
        return f"{why}; the next run finds out"


Waits = Generator[float, None, UpdateResult]


def send(update: Update) -> Waits:
    """Send an update once and wait for its end."""
    parameters = update.parameters()
    function = update.effect.function
    try:
        answer = function.call(
            "update_function_configuration", write=True, check=update.may_send, **parameters
        )
    except GuardStop as stop:
        return UpdateResult("stopped", stop=stop)
    except LostAnswer:
        log.warning(
            "the answer to an update was lost; reading to find out: %s", function.arn, extra=function.named
        )
        return (yield from verify_outcome(update.effect))
    except CALL_ERRORS as error:
        values = parameters.get("Environment", {}).get("Variables", {}).values()
        return UpdateResult("refused", error=classify_error(error, values))
    update.effect.on_accepted()
    return (yield from _settled(update.effect, answer))


def verify_outcome(effect: Effect) -> Waits:
    """Read until it is known whether an update was done, and wait for its end if so. Nothing is sent again."""
    read, not_done = None, False
    for pause in VERIFY_SECONDS:
        yield pause
        found = _read_again(effect.function)
        if isinstance(found, ApiError):
            if found.kind == "gone":
                return UpdateResult("refused", error=found)
            continue
        read, done = found, effect.is_done(state_of(found))
        if done:
            effect.on_accepted()
            return (yield from _settled(effect, found))
        not_done = done is False
    return UpdateResult("not_done" if not_done else "unknown", read)


def _settled(effect: Effect, first: Configuration) -> Waits:
    """Wait until LastUpdateStatus is no longer InProgress. `first` is the answer, or the read that found it done."""
    configuration = first
    for pause in POLL_SECONDS:
        if configuration.get("LastUpdateStatus") != "InProgress":
            return _ended(effect, first, configuration)
        yield pause
        found = _read_again(effect.function)
        if not isinstance(found, ApiError):
            configuration = found
        elif found.kind == "gone":
            return UpdateResult("refused", error=found)
        elif found.kind == "timed_out":
            break
    return UpdateResult("unknown", configuration)


def _read_again(function: Function) -> Configuration | ApiError:
    """Read a function that was updated, or return why it can't be read; that is logged unless the function is gone."""
    try:
        return function.read()
    except CALL_ERRORS as error:
        meaning = classify_error(error)
        if meaning.kind != "gone":
            log.error("not readable: %s: %s", function.arn, meaning, extra=function.named)  # noqa: TRY400 - one clear line, no traceback
        return meaning


def _ended(effect: Effect, first: Configuration, last: Configuration) -> UpdateResult:
    if last.get("LastUpdateStatus") == "Failed":
        return UpdateResult("failed", last, ours=same_update(first, last))
    done = effect.is_done(state_of(last))
    # Variables that can't be read are what we sent, as long as nobody else has deployed.
    if done is None and not same_update(first, last):
        return UpdateResult("unknown", last)
    return UpdateResult("replaced" if done is False else "done", last)


def same_update(first: Configuration, last: Configuration) -> bool:
    """Return whether no other deployment came in between: AWS renews RevisionId when an update settles."""
    return any(
        first.get(key) is not None and first.get(key) == last.get(key)
        for key in ("RevisionId", "LastModified")
    )
