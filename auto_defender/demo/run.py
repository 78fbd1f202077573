"""Runs the hourly job on the simulated organization: a dry run, a run with changes, then a scan of what is left."""

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from mimetypes import guess_type
from pathlib import Path

import boto3
import yaml

from auto_defender.config import Configuration, read_configuration
from auto_defender.context import Context, new_run_id, open_context
from auto_defender.demo.function_kinds import CURRENT, OPTOUT_TAG, POLICY, ROLLOUT_TAG, WRAPPER
from auto_defender.demo.functions import fill
from auto_defender.demo.organization import REGIONS, ROLE, Organization, build_organization
from auto_defender.demo.simulated_aws import simulated_aws
from auto_defender.job_result import JobResult, run_text
from auto_defender.jobs.run import run
from auto_defender.logging import set_run_id
from auto_defender.progress import Display
from auto_defender.stages.observe import observe
from remediator.journal.journals import Journals
from remediator.state.quarantine import Quarantined
from remediator.state.store import run_folder
from reports.data.read_back import LATEST
from reports.data.run_result import Mode
from reports.latest import advance_latest, copy_latest
from scanner.core.clock import SYSTEM_CLOCK
from scanner.core.errors import AutoDefenderError
from storage.destination import open_store
from storage.protocol import Store

_UNITS_UNREAD = 3


def run_demo(accounts: int, output: str, display: Display, stop: threading.Event) -> JobResult:
    """Build an organization of `accounts` accounts, run on it twice, and write both runs' files to `output`.

    The exit code is 0 although one account denies the role on purpose; a real run would return 3.
    """
    store = open_store(output)
    store.check_writable()
    with tempfile.TemporaryDirectory(prefix="auto-defender-demo-") as folder:
        demo = _Demo(Path(folder), display, stop)
        with simulated_aws() as session:
            organization = build_organization(accounts)
            fill(organization)
            results, left = demo.runs(session, organization)
        if not results:
            raise AutoDefenderError("the demo was stopped before its first run")
        # After the simulation: within it an s3:// output would be simulated too.
        _copy_runs(demo.output, store, results)
    return _summarize(accounts, store, results, left, stopped=stop.is_set())


@dataclass(frozen=True)
class _Demo:
    """The demo's runs; their state is in a folder of its own, so that each demo starts without any."""

    folder: Path
    display: Display
    stop: threading.Event

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def runs(self, session: boto3.Session, organization: Organization) -> tuple[list[JobResult], int | None]:
        """Do the dry run and the run; return their results, and how many functions a further run would change."""
        settings = self._configuration(organization)
        ago = SYSTEM_CLOCK.now() - timedelta(days=9)
        since = ago.isoformat(timespec="seconds")
        reason = "Cold starts doubled with the Defender; INC-20931"
        run_id = new_run_id(ago)
        Journals(open_store(str(self.output)), settings.defender).record(
            run_id, [Quarantined(arn, since, run_id, reason) for arn in organization.quarantined]
        )
        results = [run(context) for context in self._contexts(settings, session, ("dry_run", "apply"))]
        for context in self._contexts(settings, session, ("scan",)):
            return results, int((observe(context).functions["verdict"] == "eligible").sum())
        return results, None

    def _contexts(
        self, settings: Configuration, session: boto3.Session, modes: tuple[Mode, ...]
    ) -> Iterator[Context]:
        for mode in modes:
            if not self.stop.is_set():
                run_id = new_run_id(SYSTEM_CLOCK.now())
                set_run_id(run_id)
                yield open_context(
                    settings,
                    session,
                    run_id=run_id,
                    mode=mode,
                    display=self.display,
                    stop=self.stop,
                    output=str(self.output),
                )

    def _configuration(self, organization: Organization) -> Configuration:
        optouts = self.folder / "optouts.yaml"
        optouts.write_text(optouts_text(organization), encoding="utf-8")
        text = configuration_text(optouts)
        return read_configuration(text.encode(), "the demo's configuration", {})


def configuration_text(optouts: Path) -> str:
    """Return a configuration for the simulated organization, with an opt-out file."""
    layer = f"arn:aws:lambda:{{region}}:{{account_id}}:layer:twistlock-{{family}}:{CURRENT}"
    return yaml.safe_dump(
        {
            "organization": {"role_name": ROLE, "regions": list(REGIONS)},
            "defender": {
                "layers": {family: layer.replace("{family}", family) for family in ("python", "nodejs")},
                "wrapper": WRAPPER,
                "environment": {"TW_POLICY": POLICY},
            },
            "risk": {"effective_coverage": True},
            "rollout": {
                "require_tag": _tag(ROLLOUT_TAG),
                "optout_tag": _tag(OPTOUT_TAG),
                "exclusion_list": ["*-canary"],
                "max_changes_per_run": 100_000,
                # The simulated functions were created a moment ago.
                "quiet_minutes": 0,
            },
            # No one else calls this AWS.
            "sweep": {"calls_per_second": 100},
            "optouts": str(optouts),
        }
    )


def _tag(tag: dict[str, str]) -> dict[str, str]:
    [(key, value)] = tag.items()
    return {"key": key, "value": value}


def optouts_text(organization: Organization) -> str:
    """Return an opt-out file: whole accounts, functions in all accounts, one entry expired, one about to expire."""
    today = SYSTEM_CLOCK.now().date()
    accounts = [
        {
            "account": account.id,
            "reason": "Latency budget of the order book, CHG-4711",
            "owner": "trading-platform@example.com",
            "expires": today + timedelta(days=120),
        }
        for account in organization.accounts
        if account.spec.opted_out
    ]
    functions = [
        {
            "account": "*",
            "functions": ["*-settlement-*"],
            "reason": "=1+1 <b>Frozen</b> until the settlement engine is certified again",
            "owner": "\"><svg onload=alert('owner')>",
            "expires": today + timedelta(days=10),
        },
        {
            "account": "*",
            "functions": ["payments-*"],
            "reason": "Freeze for the holidays",
            "owner": "payments@example.com",
            "expires": today - timedelta(days=30),
        },
    ]
    return yaml.safe_dump({"optouts": accounts + functions}, allow_unicode=True)


def _copy_runs(folder: Path, store: Store, results: list[JobResult]) -> None:
    """Copy the runs and their journals to the user's output; `latest` is the last one."""
    for path in sorted([*folder.glob("runs/**/*"), *folder.glob("journals/**/*")]):
        if path.is_file():
            content_type = guess_type(path.name)[0] or "application/octet-stream"
            with path.open("rb") as file:
                store.upload(path.relative_to(folder).as_posix(), file, content_type)
    advance_latest(store, results[-1].summary, SYSTEM_CLOCK.now())
    copy_latest(store)


def _summarize(
    accounts: int, store: Store, results: list[JobResult], left: int | None, *, stopped: bool
) -> JobResult:
    last = results[-1]
    parts = [
        f"a simulated organization of {accounts} accounts in {len(REGIONS)} regions; nothing in it is real"
    ]
    for result in results:
        folder = run_folder(result.summary["run_id"])
        parts.append(run_text(result.summary, store.url(f"{folder}/report.html")))
    if left is not None:
        parts.append(f"a second run   would change {left or 'nothing'}")
    expected = last.exit_code == _UNITS_UNREAD and not stopped
    if expected:
        parts.append("one account denies the role on purpose: outside of a demo, the exit code would be 3")
    parts.append(f"open           {store.url(f'{LATEST}/report.html')}")
    return JobResult(last.summary, "\n\n".join(parts), 0 if expected else last.exit_code)
