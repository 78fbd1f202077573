"""What every job needs, opened once: the AWS caller, the store, the opt-outs, the deadline."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast, get_args

import boto3

from auto_defender.call_counts import count_own_calls
from auto_defender.config import Configuration
from auto_defender.output import open_output
from auto_defender.progress import Display
from auto_defender.sources import read_source
from remediator.journal.journals import Journals
from remediator.journal.upgrade import check_format
from remediator.rollout.guards import exclusions
from remediator.rollout.kill_switch import parameter_switch
from remediator.state.quarantine import Quarantined, quarantined
from remediator.state.store import started_at
from reports.data.run_result import Mode, Trigger
from scanner.aws.caller import Aws
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import BadInput
from scanner.organization.optouts import OptOuts, read_optouts
from scanner.risk.rules import Rules
from storage.protocol import Store

TRIGGER_VARIABLE = "AUTO_DEFENDER_TRIGGER"


def new_run_id(now: datetime) -> str:
    """Return a new run id: the start time (UTC) and six random hexadecimal digits."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def mode_of(settings: Configuration, *, apply: bool = False) -> Mode:
    """Return a run's mode: it writes with --apply or where rollout.dry_run is false."""
    return "apply" if apply or not settings.rollout.dry_run else "dry_run"


def trigger_of(environ: Mapping[str, str]) -> Trigger:
    """Return what starts a command: somebody, unless cron or another scheduler says otherwise in TRIGGER_VARIABLE."""
    value = environ.get(TRIGGER_VARIABLE) or "command"
    if value not in get_args(Trigger):
        raise BadInput(f"environment variable {TRIGGER_VARIABLE}: '{value}'; expected schedule or command")
    return cast("Trigger", value)


@dataclass(frozen=True)
class Context:
    """The settings, clients and state of one run.

    deadline: a Clock.monotonic() moment. switches: kill switches besides state/stop, each raises GuardStop.
    """

    run_id: str
    mode: Mode
    started: datetime
    configuration: Configuration
    session: boto3.Session
    aws: Aws
    store: Store
    journals: Journals
    optouts: OptOuts
    quarantine: tuple[Quarantined, ...]
    display: Display
    stop: threading.Event
    deadline: float | None
    switches: tuple[Callable[[], None], ...] = ()
    stages: dict[str, float] = field(default_factory=dict)
    trigger: Trigger = "command"

    @property
    def clock(self) -> Clock:
        """Return the clock that the run goes by."""
        return self.aws.clock

    @property
    def rules(self) -> Rules:
        """Return the rules that the risk engine applies."""
        rollout = self.configuration.rollout
        return Rules(
            partition=self.aws.partition,
            risk=self.configuration.risk,
            defender=self.configuration.defender,
            optouts=self.optouts,
            require_tag=rollout.require_tag,
            optout_tag=rollout.optout_tag,
            exclusion_list=exclusions(rollout),
            quarantined=frozenset(entry.function_arn for entry in self.quarantine),
        )

    def with_current_quarantine(self) -> "Context":
        """Return a copy with the quarantine read again: the health watch and other runs add to it."""
        return replace(self, quarantine=quarantined(self.store))

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Time a stage that writes.

        After a stop signal no change begins, but those in flight must settle: their calls and waits are not
        interrupted.
        """
        self.aws.stop = threading.Event()
        try:
            with self.stage(name):
                yield
        finally:
            self.aws.stop = self.stop

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the run, for summary.json."""
        begun = self.clock.monotonic()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + self.clock.monotonic() - begun


def open_context(
    configuration: Configuration,
    session: boto3.Session,
    *,
    run_id: str,
    mode: Mode,
    display: Display,
    stop: threading.Event,
    output: str | None = None,
    deadline: float | None = None,
    writable: bool = True,
    trigger: Trigger = "command",
    memory: bool = True,
    clock: Clock = SYSTEM_CLOCK,
) -> Context:
    """Open everything a run needs, or raise BadInput before the run reads or writes anything.

    output: overrides the configuration's. deadline: the Clock.monotonic() moment at which the run's time ends (AWS
    Lambda's remaining time); sweep.run_timeout_sec counts from this call on, so that what opening takes is part of it.
    writable: the output is checked, by a write, and the quarantine read; otherwise nothing is written, and the job
    reads what it can. memory: opt-outs and quarantine are read; a rollback does without, for neither may keep it from
    what it is for. trigger: what started the run.
    """
    sweep = configuration.sweep
    timeout = None if sweep.run_timeout_sec is None else clock.monotonic() + sweep.run_timeout_sec
    optouts = read_configured_optouts(configuration, session) if memory else OptOuts()
    check_regions(configuration, session)
    switch = configuration.rollout.kill_switch
    aws = Aws(
        session,
        configuration.organization,
        sweep,
        run_id,
        writes=mode in ("apply", "rollback"),
        stop=stop,
        clock=clock,
    )
    count_own_calls(session, aws.calls)
    store = open_output(configuration, session, output, writable=writable)
    if writable:
        check_format(store)
    return Context(
        run_id=run_id,
        mode=mode,
        started=started_at(run_id),
        configuration=configuration,
        session=session,
        aws=aws,
        store=store,
        journals=Journals(store, configuration.defender, clock),
        optouts=optouts,
        quarantine=quarantined(store) if writable and memory else (),
        display=display,
        stop=stop,
        deadline=min((limit for limit in (deadline, timeout) if limit is not None), default=None),
        switches=(parameter_switch(session, switch, aws.home_region),) if switch else (),
        trigger=trigger,
    )


def read_configured_optouts(configuration: Configuration, session: boto3.Session) -> OptOuts:
    """Read the opt-out file; no opt-outs where the configuration names none. Raise BadInput where it can't be used."""
    source, owner = configuration.optouts, configuration.storage.bucket_owner
    return read_optouts(read_source(source, session, "opt-out file", owner), source) if source else OptOuts()


def check_regions(configuration: Configuration, session: boto3.Session) -> None:
    """Reject a region that no partition has: every unit in it would fail."""
    known = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("lambda", partition_name=partition)
    }
    regions = configuration.organization.regions
    for region in regions if regions != "enabled" else ():
        if region not in known:
            raise BadInput(
                f"organization.regions: AWS Lambda has no region '{region}'; correct its spelling, or update botocore"
            )
