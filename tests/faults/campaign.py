"""One campaign: an organization, a fault plan and a sequence of runs, kills, deployments and rollbacks, all from a seed."""

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
from rich.console import Console

from auto_defender.config import read_configuration
from auto_defender.context import Context, open_context
from auto_defender.job_result import JobResult
from auto_defender.jobs.rollback import roll_back
from auto_defender.jobs.run import run
from auto_defender.progress import Display
from benchmarks.answers import CENTRAL_ACCOUNT
from remediator.journal.journal import open_runs
from remediator.journal.journals import Journals
from remediator.journal.selection import Selection
from remediator.rollout.lock import LOCK
from remediator.state.functions import Retried, records
from reports.data.read_back import read_latest
from scanner.aws.caller import Aws
from scanner.core.errors import AutoDefenderError
from simulator.http import environment as client_environment
from simulator.http import serving
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.faults import random_organization
from tests.faults.fault_plan import FaultPlan
from tests.faults.files import check_files, check_secrets, journals_in, remember
from tests.faults.simulator import Simulator, Write
from tests.faults.truth import Truth
from tests.unit.remediator.fake_lambda import Killed
from tests.unit.remediator.harness import journal_of, wait_briefly
from tests.unit.remediator.killing import Countdown, KilledStore

Job = Callable[[Context], JobResult]
_KILLED_AT = {"get_function_configuration", "update_function_configuration", "tag_resource", "list_tags"}


class FaultyStore(KilledStore):
    """A folder that fails as S3 does: a request is refused, or is carried out and its answer lost."""

    rng = Random(0)
    percent = 0.0

    def _fails(self, path: str, work: Callable[[], Any]) -> Any:
        if self.rng.random() * 100 >= self.percent:
            return work()
        if self.rng.random() < 0.5:
            work()
        raise StoreFailed(f"s3: can't reach {path}")

    def append(self, path: str, line: bytes) -> None:
        self._fails(path, lambda: super(FaultyStore, self).append(path, line))

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self._fails(path, lambda: super(FaultyStore, self).write(path, body, content_type))

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        self.countdown.count()
        self._fails(path, lambda: super(FaultyStore, self).upload(path, chunks, content_type))

    def delete(self, path: str) -> None:
        self._fails(path, lambda: super(FaultyStore, self).delete(path))

    def read(self, path: str) -> bytes | None:
        body: bytes | None = self._fails(path, lambda: super(FaultyStore, self).read(path))
        return body

    def list(self, prefix: str) -> list[str]:
        paths: list[str] = self._fails(prefix, lambda: super(FaultyStore, self).list(prefix))
        return paths


@dataclass
class Result:
    """What a campaign came to. changes: updates that AWS took; ends: how its runs ended."""

    seed: int
    changes: int = 0
    violations: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


@contextmanager
def environment(url: str, *, read_timeout: float = 30.0) -> Iterator[None]:
    """Point this process's boto3 at the simulator, and wait milliseconds where the protocol waits seconds.

    read_timeout: seconds; short only where faults leave calls without an answer, for on a busy machine a short one
    expires on calls that are answered.
    """
    with pytest.MonkeyPatch.context() as patch:
        wait_briefly(patch)
        patch.setattr("tempfile.tempdir", "/proc/nowhere")  # no run needs a temporary folder
        patch.setattr("remediator.change.update.POLL_SECONDS", (0.01,) * 20)
        patch.setattr("scanner.aws.connection_pool.ATTEMPT_SECONDS", read_timeout)
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in variables(url).items():
            patch.setenv(name, value)
        yield


def variables(url: str) -> dict[str, str]:
    """Return the environment of the central account."""
    return client_environment(url, CENTRAL_ACCOUNT, random_organization.REGIONS[0])


class Campaign:
    """The runs of one campaign; `jobs` are the real ones, from the configuration's text to the run's files."""

    def __init__(
        self, seed: int, folder: Path, *, accounts: int, functions: int, fault_rate: float = 1.0
    ) -> None:
        self.rng = Random(f"campaign {seed}")
        self.folder = folder
        self.root = folder / "out"
        self.tagged = self.rng.random() < 0.5
        self.simulator = Simulator(seed, accounts, functions, FaultPlan(seed, fault_rate))
        self.truth = Truth()
        self.result = Result(seed)
        self.version = 4
        self.store_percent = 0.0
        self._runs = 0

    def context(self, mode: Any, countdown: Countdown | None = None) -> Context:
        """Open a run as the command line does, on a store that may fail."""
        self._runs += 1
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d}T{self._runs // 60:02}{self._runs % 60:02}00Z-{self._runs:06x}"
        path = random_organization.write_configuration(self.folder, self.version, tagged=self.tagged)
        settings = read_configuration(path.read_bytes(), str(path), {})
        console = Console(file=io.StringIO(), force_terminal=False)
        stop = threading.Event()
        opened = open_context(
            settings, boto3.Session(), run_id=run_id, mode=mode, display=Display(console), stop=stop
        )
        store = FaultyStore(self.root)
        store.rng, store.percent = Random(f"store {self.result.seed} {self._runs}"), self.store_percent
        store.countdown = countdown or Countdown(10**9)
        return replace(opened, store=store, started=now.replace(microsecond=0))

    def do(self, job: Job, mode: Any = "apply", *, countdown: int | None = None) -> str:
        """Do a job, killed after so many events if `countdown` says so; compare what it wrote with the simulator."""
        counting = Countdown(countdown if countdown is not None else 10**9)
        try:
            context = self.context(mode, counting)
        except AutoDefenderError as error:
            return self._count(f"not opened: {type(error).__name__}")
        self._let_failures_be_due(context)
        before = remember(self.simulator)
        self.simulator.before_write = lambda write: self._taken(write, context)
        try:
            with _killed_by(counting):
                ending = job(context)
        except Killed:
            return self._killed()
        except AutoDefenderError as error:
            self._check_error(error, context.run_id, before.writes)
            self._let_go()
            return self._count(f"ended by {type(error).__name__}")
        self.result.outcomes.update(ending.summary["changes_by_outcome"])
        if ending.summary["files_missing"]:
            self._check_missing(ending, context.run_id)
        else:
            self.result.violations += check_files(
                self.simulator, self.root, context.run_id, before, context.rules
            )
        self._let_go()
        return self._count(f"exit {ending.exit_code}")

    def _let_failures_be_due(self, context: Context) -> None:
        """Let the hours pass after which failures are tried again: the runs of a campaign follow each other at once."""
        journals = Journals(FolderStore(self.root), context.configuration.defender)
        journals.record(f"{context.run_id}retry", [Retried(arn) for arn in records(journals.store)])

    def _check_missing(self, ending: JobResult, run_id: str) -> None:
        """A run whose storage refused some of its files says so, by its exit code too, and is never the newest one."""
        named = all(name in ending.text for name in ending.summary["files_missing"])
        if ending.exit_code == 0 or not named:
            self.result.violations.append(f"{run_id}: files are missing, and its end does not say so")
        if "latest.json" not in ending.summary["files_missing"] and self._newest() == run_id:
            self.result.violations.append(f"{run_id}: files are missing, and latest.json names it")

    def _newest(self) -> str | None:
        return read_latest(FolderStore(self.root))

    def _taken(self, write: Write, context: Context) -> None:
        journal = journal_of(self.root, write.run_id)
        self.truth.take(write, context.rules, rolling_back=context.mode == "rollback", journal=journal)
        self.result.changes += 1

    def _killed(self) -> str:
        self._let_go()
        return self._count("killed")

    def _let_go(self) -> None:
        """Remove a lock that nobody could release, as if it had expired."""
        FolderStore(self.root).delete(LOCK)

    def _check_error(self, error: AutoDefenderError, run_id: str, writes_before: int) -> None:
        """A run that has written ends with a report."""
        if "\n" in str(error):
            self.result.violations.append(f"{run_id}: more than a line: {error}")
        if len(self.simulator.writes) > writes_before:
            self.result.violations.append(f"{run_id}: it wrote, and ended without a report: {error}")

    def _count(self, end: str) -> str:
        self.result.ends[end] += 1
        return end

    def owners_deploy(self, percent: int) -> None:
        """Deploy some functions between runs."""
        for arn in self.simulator.functions():
            if self.rng.random() * 100 < percent:
                self.simulator.owner_deploys(arn, self.rng)

    def wait_for_updates(self) -> None:
        """Wait until every update that AWS took has settled: what a run gave up on, the next one can find out."""
        last = max(function.settles_at or 0.0 for function in self.simulator.core.functions.values())
        time.sleep(max(0.0, last - time.monotonic()))

    def check_the_end(self) -> None:
        """After a last run without faults nothing is left open, and no file has a secret."""
        store = FolderStore(self.root)
        for run_id in open_runs(store):
            self.result.violations.append(f"{run_id}: its journal is still open")
        for entry in journals_in(self.root).history():
            if entry.outcome is None:
                self.result.violations.append(
                    f"{entry.intent.run_id}: an entry of its journal is open for ever"
                )
        self.result.violations += check_secrets(self.root)
        self.result.violations += self.truth.violations
        self.result.faults.update(self.simulator.faults.drawn)


@contextmanager
def _killed_by(countdown: Countdown) -> Iterator[None]:
    """Count each call that belongs to a change, before it is sent and after its answer."""
    call = Aws.call

    def counting(self: Aws, account: str, region: str, service: str, method: str, **parameters: Any) -> Any:
        if method in _KILLED_AT:
            countdown.count()
        answer = call(self, account, region, service, method, **parameters)
        if method in _KILLED_AT:
            countdown.count()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Aws, "call", counting)
        yield


def run_campaign(seed: int, folder: Path, *, accounts: int = 3, functions: int = 8) -> Result:
    """Run one campaign to its end."""
    campaign = Campaign(seed, folder, accounts=accounts, functions=functions)
    many = accounts * functions * 8
    with serving(campaign.simulator) as url:
        with environment(url, read_timeout=0.4):
            _under_faults(campaign, many)
        campaign.store_percent, campaign.simulator.faults.fault_rate = 0.0, 0.0
        with environment(url):
            campaign.do(run)
            campaign.wait_for_updates()
            campaign.do(run)
    campaign.check_the_end()
    return campaign.result


def _under_faults(campaign: Campaign, many: int) -> None:
    rng = campaign.rng
    if rng.random() < 0.3:
        campaign.simulator.faults.hanging = rng.choice(random_organization.REGIONS)
    campaign.do(run, countdown=rng.randint(0, many) if rng.random() < 0.5 else None)
    campaign.simulator.faults.hanging = ""
    campaign.owners_deploy(10)
    campaign.version = rng.choice([4, 5])
    campaign.store_percent = rng.choice([0.0, 0.0, 1.0, 5.0])
    campaign.do(run, countdown=rng.randint(0, many) if rng.random() < 0.3 else None)
    campaign.store_percent = rng.choice([0.0, 0.0, 1.0])
    _roll_back(campaign, many)
    campaign.owners_deploy(10)
    campaign.do(run)


def _roll_back(campaign: Campaign, many: int) -> None:
    runs = FolderStore(campaign.root).folders("journals/")
    rng = campaign.rng
    arns = sorted({write.arn for write in campaign.simulator.writes})
    chosen = runs if rng.random() < 0.5 else runs[-1:]
    some = rng.sample(arns, min(len(arns), 3)) if rng.random() < 0.5 else []
    if chosen or some:
        job = partial(roll_back, selection=Selection(chosen, some), apply=True)
        campaign.do(job, "rollback", countdown=rng.randint(0, many // 2) if rng.random() < 0.4 else None)
