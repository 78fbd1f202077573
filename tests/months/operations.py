"""Who runs the product: the hourly job, rollbacks, state commands and the weekly report, on machines that fail."""

import io
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest.mock import patch

import boto3
from botocore.httpsession import where
from rich.console import Console

from auto_defender.config import Configuration, read_configuration
from auto_defender.context import Context, open_context
from auto_defender.job_result import JobResult
from auto_defender.jobs import state
from auto_defender.jobs.rollback import roll_back
from auto_defender.jobs.run import run
from auto_defender.jobs.weekly import report_week
from auto_defender.progress import Display
from remediator.journal.journals import Journals
from remediator.journal.selection import Selection
from reports.data.run_result import Mode
from scanner.core.errors import AutoDefenderError
from storage.folder import FolderStore
from tests.months import organization as org
from tests.months.life import (
    ACCOUNT_LIMIT,
    HEALTH_HOURS,
    PILOT,
    QUIET,
    RUN_LIMIT,
    SOAK_HOURS,
    Life,
    OptOut,
    Release,
    Weather,
)
from tests.months.machine import Machine, MachineStore
from tests.months.session import Network, SimulatedSession

Job = Callable[[Context], JobResult]
_KEPT_DAYS = 16
_DRAWN_EVERY = 24
_CONFIGURATION = """
organization: {{role_name: AutoDefenderMember, regions: enabled}}
defender:
  layers:
    python: arn:aws:lambda:{{region}}:{publisher}:layer:twistlock-python:{release.version}
    nodejs: arn:aws:lambda:{{region}}:{publisher}:layer:twistlock-nodejs:{release.version}
  wrapper: {release.wrapper}
  environment: {{TW_POLICY: {policy}}}
  previous: {{wrappers: [/opt/twistlock/wrapper, /opt/twistlock/wrapper2]}}
risk: {{utilization: {{enabled: false}}}}
rollout:
  dry_run: false
  exclusion_list: ["excluded-*"]
  max_changes_per_run: {run_limit}
  max_changes_per_account: {account_limit}
  stop_after_failure_pct: 50
  quiet_minutes: {quiet}
  health: {{hours: {health_hours}, min_invocations: 20}}
  waves:
    - {{name: pilot, accounts: [{pilot}], soak_hours: {soak}, min_healthy: 1}}
    - {{name: dev, ous: [{dev}], soak_hours: {soak}, min_healthy: 0, max_failed_pct: 10}}
    - {{name: prod, ous: [{prod}], soak_hours: {soak}, min_healthy: 0, max_failed_pct: 10}}
sweep: {{workers: 1, calls_per_second: 100}}
optouts: {optouts}
output: {output}
"""


@dataclass
class Run:
    """One run of a job: what it was to go by, and how it ended."""

    run_id: str
    kind: str
    started: datetime
    release: Release
    optouts: tuple[OptOut, ...]
    weather: Weather
    stopped: bool
    ended: str = ""
    summary: Mapping[str, Any] | None = None
    calls: int = 0
    reads: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    store: MachineStore | None = None

    @property
    def session(self) -> str:
        return f"AutoDefender-{self.run_id}"[:64]

    @property
    def fair(self) -> bool:
        """Return whether nothing went wrong outside of the product."""
        return self.weather.fair and self.summary is not None and not self.faults and not self.stopped


class Operations:
    """Runs jobs on a life's organization. begun, ended: called with each run; weeks: with each weekly summary."""

    def __init__(self, life: Life, folder: Path) -> None:
        self.life = life
        self.folder = folder
        self.store = FolderStore(folder / "out")
        self.begun: Callable[[Run], None] = lambda run: None
        self.ended: Callable[[Run], None] = lambda run: None
        self.week: Callable[[str, Mapping[str, Any]], None] = lambda week, summary: None
        self.acted: Callable[[str, list[str]], None] = lambda what, arns: None
        self.runs: list[Run] = []
        self.ends: Counter[str] = Counter()
        self.rng = Random(f"operations {life.seed}")
        self._configurations: dict[str, Configuration] = {}
        self._numbers = 0

    # Jobs

    def hourly(self, weather: Weather) -> Run:
        """Run the hourly job."""
        return self._do("run", run, "apply", weather)

    def roll_back(self, asked: str, weather: Weather) -> Run | None:
        """Roll a recent run back, or a function; None where no run has changed anything lately."""
        changed = [one.run_id for one in self.runs[-60:] if one.summary and one.summary["changed"]]
        if asked == "run" and not changed:
            return None
        selection = {
            "run": lambda: Selection(runs=[self.rng.choice(changed)]),
            "account": lambda: Selection(accounts=[self.rng.choice(PILOT)]),
            "wave": lambda: Selection(waves=["dev"]),
            "all": lambda: Selection(everything=True),
        }.get(asked, lambda: Selection(functions=[asked]))
        job = partial(roll_back, selection=selection(), apply=True)
        return self._do("rollback", job, "rollback", weather)

    def release(self) -> None:
        """Take everything out of the quarantine."""
        self._state("release", state.release, state.quarantined(self.store))

    def retry(self) -> None:
        """Let everything be tried again that is given up, or has failed."""
        known = state.records(self.store).values()
        self._state("retry", state.retry, [one for one in known if state._waits(one)])

    def back_up(self) -> None:
        """Keep a copy of the state, as a bucket's versions do."""
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        shutil.copytree(self.store.root / "state", self.folder / "backup")

    def restore(self, *, rebuild: bool) -> None:
        """Put the last copy of the state in the place of today's, as after an accident; rebuild it, or leave it to the runs."""
        if (self.folder / "backup").is_dir():
            shutil.rmtree(self.store.root / "state")
            shutil.copytree(self.folder / "backup", self.store.root / "state")
            self.ends["restored"] += 1
            if rebuild:
                self.rebuild()

    def rebuild(self) -> list[str]:
        """Rebuild the state from the journals; return the files that differed. While a dead run has the lock, do nothing."""
        machine = self._machine(Weather())
        session = cast("boto3.Session", self._session(machine, Weather(), "rebuild"))
        try:
            done = state.rebuild_state(self.configuration(), session, self._run_id(Weather()), machine.clock)
        except AutoDefenderError as error:
            self.ends[f"rebuild: {type(error).__name__}"] += 1
            return []
        self.ends["rebuild"] += 1
        return [one["path"] for one in done.summary["files"]]

    def _state(self, what: str, job: Callable[..., JobResult], entries: Any) -> None:
        arns = [one.function_arn for one in entries]
        if not arns:
            return
        machine = self._machine(Weather())
        session = cast("boto3.Session", self._session(machine, Weather(), what))
        run_id = self._run_id(Weather())
        try:
            done = job(self.configuration(), session, run_id, state.Selection(arns), machine.clock)
        except AutoDefenderError as error:
            self.ends[f"{what}: {type(error).__name__}"] += 1
        else:
            self.ends[what] += 1
            self.acted(what, list(done.summary["functions"]))

    def report_week(self) -> None:
        """Report the week that has just ended."""
        machine = self._machine(Weather())
        session = cast("boto3.Session", self._session(machine, Weather(), "weekly"))
        done = report_week(self.configuration(), session, None, machine.clock)
        self.ends["weekly"] += 1
        self.week(str(done.summary["week"]), done.summary)

    def tidy(self) -> None:
        """Let reports expire, as a bucket's lifecycle rule does; journals and state stay."""
        day = self.life.time.now() - timedelta(days=_KEPT_DAYS)
        shutil.rmtree(self.store.root / f"runs/{day:%Y/%m/%d}", ignore_errors=True)

    # One run

    @contextmanager
    def _cheaply(self) -> Iterator[None]:
        """Save what costs most and proves least here: the browser's report of most runs, and a hundred certificates."""
        drawn = len(self.runs) % _DRAWN_EVERY == 0
        certificate = Path(where()).read_text().partition("-----END CERTIFICATE-----")
        bundle = self.folder / "ca.pem"
        bundle.write_text("".join(certificate[:2]))
        with patch.dict("os.environ", {"AWS_CA_BUNDLE": str(bundle)}):
            if drawn:
                yield
            else:
                with patch("reports.run_files.html.render_run", return_value="not drawn"):
                    yield

    def _do(self, kind: str, job: Job, mode: Mode, weather: Weather) -> Run:
        life = self.life
        now = life.time.now()
        made = Run(self._run_id(weather), kind, now, life.release, tuple(life.optouts), weather, life.stopped)
        self.runs.append(made)
        self._put_stop()
        machine = self._machine(weather)
        session = self._session(machine, weather, made.run_id)
        self.begun(made)
        try:
            with self._cheaply():
                context = self._context(made, mode, machine, session)
                result = job(context)
            if not machine.dead:
                made.ended, made.summary = f"exit {result.exit_code}", result.summary
        except SystemExit:
            if not machine.dead:
                raise
        except AutoDefenderError as error:
            made.ended = f"{type(error).__name__}: {error}"
        except Exception as error:
            if not machine.dead:
                raise
            del error
        if machine.dead:
            made.ended, made.summary = "killed", None
        self._close(made, machine, session)
        return made

    def _close(self, made: Run, machine: Machine, session: SimulatedSession) -> None:
        made.calls = session.calls
        made.faults.update(session.network.drawn)
        if made.store is not None:
            made.reads = made.store.reads
            made.faults.update(made.store.faults)
        self.ends[f"{made.kind}: {made.ended.split(':')[0]}"] += 1
        machine.dead = True  # whatever of it still waits for something must not go on
        self.life.time.sleep(60)
        self.ended(made)

    def _context(self, made: Run, mode: Mode, machine: Machine, session: SimulatedSession) -> Context:
        opened = open_context(
            self.configuration(),
            cast("boto3.Session", session),
            run_id=made.run_id,
            mode=mode,
            display=Display(Console(file=io.StringIO(), force_terminal=False)),
            stop=threading.Event(),
            clock=machine.clock,
            memory=mode != "rollback",
            trigger="schedule",
        )
        store = MachineStore(self.store, machine, made.weather.store, made.run_id)
        made.store = store
        return replace(
            opened, store=store, journals=Journals(store, opened.configuration.defender, machine.clock)
        )

    def _machine(self, weather: Weather) -> Machine:
        machine = Machine(
            self.life.time,
            dies_at=weather.dies_at,
            frozen_at=weather.frozen_at,
            meanwhile=self._another_run,
        )
        machine.clock.offset = weather.offset
        return machine

    def _another_run(self) -> None:
        """Let the lock of a frozen machine expire, and another one run."""
        self.life.time.sleep(400)
        self.hourly(Weather(overlaps=True))

    def _session(self, machine: Machine, weather: Weather, name: str) -> SimulatedSession:
        network = Network(f"network {self.life.seed} {name}", weather.network)
        return SimulatedSession(self.life.core, machine, network, org.REGIONS[0])

    def _run_id(self, weather: Weather) -> str:
        started = self.life.time.now() + weather.offset
        self._numbers += 1
        return f"{started:%Y%m%dT%H%M%SZ}-{self._numbers:06x}"

    def _put_stop(self) -> None:
        if self.life.stopped:
            self.store.write("state/stop", b"an incident\n", "text/plain")
        else:
            self.store.delete("state/stop")

    # What a run goes by

    def configuration(self) -> Configuration:
        """Return the configuration of now; its digests are slow on purpose, so it is read once for each release."""
        organization, release = self.life.core.organization, self.life.release
        text = _CONFIGURATION.format(
            publisher=org.PUBLISHER,
            release=release,
            policy=release.variables[org.POLICY],
            run_limit=RUN_LIMIT,
            account_limit=ACCOUNT_LIMIT,
            quiet=QUIET.seconds // 60,
            health_hours=HEALTH_HOURS,
            soak=SOAK_HOURS,
            pilot=", ".join(f'"{one}"' for one in PILOT),
            dev=organization.unit("Workloads/Dev"),
            prod=organization.unit("Workloads/Prod"),
            optouts=self._optout_file(),
            output=self.store.root,
        )
        if text not in self._configurations:
            self._configurations[text] = read_configuration(text.encode(), "auto-defender.yaml", {})
        return self._configurations[text]

    def _optout_file(self) -> Path:
        entries = "".join(
            f'  - {{account: "{one.account}", functions: ["{one.functions}"], reason: latency, '
            f"owner: owner@example.com, expires: {one.expires}, remove: {str(one.remove).lower()}}}\n"
            for one in self.life.optouts
        )
        path = self.folder / "optouts.yaml"
        path.write_text(f"optouts:\n{entries}" if entries else "optouts: []\n")
        return path
