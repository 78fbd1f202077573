"""What stops a run before it does harm. Each stop is a GuardStop: which guard, why, and how to go on."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence

from remediator.settings import RolloutSettings
from remediator.state.store import STOP
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import AutoDefenderError, GuardStop, InternalError
from storage.protocol import Store

# Functions that AWS's own landing zones run on; their stacks break when something else changes them.
BUILT_IN_EXCLUSIONS = (
    "aws-controltower-*",  # AWS Control Tower: notification forwarder
    "AWSControlTower*",  # AWS Control Tower, Customizations and Account Factory
    "CustomControlTower*",  # Customizations for AWS Control Tower
    "aft-*",  # Account Factory for Terraform
    "AWSAccelerator-*",  # Landing Zone Accelerator on AWS
    "AWSLandingZone*",  # AWS Landing Zone
    "LandingZone*",
    "StackSet-*",  # helpers that StackSets deploy for other tools, these included
)
# The guards that only spread the work over runs.
LIMITS = ("max_changes_per_run", "max_changes_per_account")
# "stop when more than stop_after_failure_pct of at least 20 changes failed": fewer prove nothing.
BREAKER_FROM = 20
# How old the reading of the kill switch and the lock may be when an update is sent. A read of S3 takes some 30 ms: one
# before each update, of hundreds a second, would be most of what a run does.
FRESH_SECONDS = 0.25


def exclusions(rollout: RolloutSettings) -> tuple[str, ...]:
    """Return the globs of all function names that are never touched, for Rules.exclusion_list."""
    return (*BUILT_IN_EXCLUSIONS, *rollout.exclusion_list)


def own_function(environ: Mapping[str, str], partition: str, account_id: str) -> str | None:
    """Return the ARN of the Lambda function that this code runs in, None elsewhere: it must never change itself."""
    name, region = environ.get("AWS_LAMBDA_FUNCTION_NAME"), environ.get("AWS_REGION")
    return f"arn:{partition}:lambda:{region}:{account_id}:function:{name}" if name and region else None


class Guards:
    """The checks before each change and each update, and the failure breaker; any thread may ask and count."""

    def __init__(
        self,
        checks: Sequence[Callable[[], None]],
        stop_after_failure_pct: float = 100.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Initialize. checks: what is read, each raises GuardStop. stop_after_failure_pct: the breaker (100: none)."""
        self._checks = checks
        self._clock = clock
        self._failure_pct = stop_after_failure_pct
        self._counting = threading.Lock()
        self.tried = 0
        self._failed = 0
        self._reading = threading.Lock()
        self._fresh_until = -math.inf
        self._stop: GuardStop | None = None

    def count(self, *, tried: int = 0, failed: int = 0) -> None:
        """Count changes that AWS has answered for, and changes that failed, then or later.

        A refusal is known at once and a success only seconds later: counted when they end, the first refusals of
        a large run would look like a run of nothing else.
        """
        with self._counting:
            self.tried += tried
            self._failed += failed

    def check(self) -> None:
        """Raise GuardStop if no further change may begin, or no update be sent. Called right before each.

        One thread reads for all that ask meanwhile: they wait for its reading. Once stopped, stopped for good.
        """
        self._check_breaker()
        with self._reading:
            if self._stop:
                raise self._stop
            now = self._clock.monotonic()
            if now >= self._fresh_until:
                self._read()
                # From before the reading: a machine may stand still between its answer and the updates that go by it.
                self._fresh_until = now + FRESH_SECONDS

    def _read(self) -> None:
        try:
            for check in self._checks:
                check()
        except GuardStop as stop:
            self._stop = stop
            raise

    def _check_breaker(self) -> None:
        with self._counting:
            tried, failed = self.tried, self._failed
        if tried >= BREAKER_FROM and 100 * failed > self._failure_pct * tried:
            raise GuardStop(
                "stop_after_failure_pct",
                f"{failed} of {tried} changes failed, more than {self._failure_pct:g} %",
                "See changes.csv for what failed and why, fix that, then run again",
            )


def check_kill_switch(store: Store) -> None:
    """Raise GuardStop while state/stop is there, or where that can't be read."""
    try:
        note = store.read(STOP)
    except AutoDefenderError as error:
        raise GuardStop(
            "kill_switch", f"it could not be read ({error})", "Restore access to it, then run again"
        ) from error
    if note is not None:
        why = " ".join(note[:200].decode(errors="replace").split())
        raise GuardStop(
            "kill_switch",
            f"{store.url(STOP)} is there" + (f" and says: {why}" if why.isprintable() and why else ""),
            "Delete it to go on",
        )


def save_state(*writes: Callable[[], None]) -> GuardStop | None:
    """Write what the next run needs; return a stop where that failed, for the changes are made and must be reported."""
    try:
        for write in writes:
            write()
    except AutoDefenderError as error:
        return GuardStop(
            "memory",
            f"the run's state can't be written: {error}",
            "Fix access to the output, then run again",
        )
    return None


def state_unreadable(error: AutoDefenderError) -> GuardStop:
    """Return the stop of a run that has made changes, and then can't read the state of earlier runs.

    `internal_error` for a defect.
    """
    if isinstance(error, InternalError):
        return internal_error(error)
    return GuardStop(
        "memory",
        f"the state of earlier runs can't be read, and nothing new is begun: {error}",
        "Fix the output or access to it, then run again",
    )


def nothing_begun(guard: str, error: AutoDefenderError) -> GuardStop:
    """Return the stop of a run that has resolved changes, and then fails before its own; `internal_error` for a defect."""
    if isinstance(error, InternalError):
        return internal_error(error)
    return GuardStop(guard, f"nothing new is begun, because {error}", "Then run again")


def internal_error(error: InternalError) -> GuardStop:
    """Return the stop of a run with a defect: nothing new is begun after it."""
    return GuardStop("internal_error", f"nothing new is begun, because {error}", "Report it with the log")
