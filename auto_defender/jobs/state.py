"""`state`: shows what earlier runs left for the next one, removes entries of it, and writes it from the journals again.

Nobody edits it by hand.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import boto3

from auto_defender.config import Configuration
from auto_defender.job_result import JobResult
from auto_defender.output import open_output
from remediator.journal.journal import Fact
from remediator.journal.journals import Journals
from remediator.journal.rebuild import rebuild
from remediator.journal.upgrade import FORMAT, check_format, upgrade
from remediator.rollout.lock import RunLock
from remediator.state.failures import Failure
from remediator.state.functions import FunctionRecord, Retried, records
from remediator.state.quarantine import Released, quarantined
from remediator.state.wave_states import Release, WaveState, releases
from scanner.core.arns import FunctionArn
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.core.errors import BadInput

_ACCOUNT_DIGITS = 12


@dataclass(frozen=True)
class Selection:
    """The functions that a command is about: by ARN, and all of an account."""

    function_arns: Sequence[str] = ()
    account_ids: Sequence[str] = ()

    def check(self) -> None:
        """Raise BadInput for what is no function's ARN or no account id."""
        for arn in self.function_arns:
            if FunctionArn.parse(arn) is None:
                raise BadInput(
                    f"'{arn}' is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME"
                )
        for account_id in self.account_ids:
            if not (len(account_id) == _ACCOUNT_DIGITS and account_id.isascii() and account_id.isdecimal()):
                raise BadInput(f"'{account_id}' is no account id; expected 12 digits")

    def of(self, arns: Collection[str], what: str) -> list[str]:
        """Return those of `arns`, which have `what`, that are selected; raise BadInput where one selected is not there."""
        hint = "'auto-defender state show' lists what there is"
        for arn in self.function_arns:
            if arn not in arns:
                raise BadInput(f"{arn} does not have {what}; {hint}")
        for account_id in self.account_ids:
            if account_id not in {arn.split(":")[4] for arn in arns}:
                raise BadInput(f"no function of account {account_id} has {what}; {hint}")
        return [arn for arn in sorted(arns) if self.includes(arn)]

    def includes(self, arn: str) -> bool:
        """Return whether a function is selected."""
        return arn in self.function_arns or arn.split(":")[4] in self.account_ids


def show_state(settings: Configuration, session: boto3.Session, selection: Selection) -> JobResult:
    """Show the quarantine, failures with their next try, drift that is given up, and the waves by release.

    selection: of functions; all where it is empty.
    """
    selection.check()
    store = open_output(settings, session, writable=False)
    former = check_format(store) < FORMAT
    everything = selection == Selection()
    entries = [entry for entry in quarantined(store) if everything or selection.includes(entry.function_arn)]
    known = [one for arn, one in sorted(records(store).items()) if everything or selection.includes(arn)]
    kept = releases(store)
    now = SYSTEM_CLOCK.now()
    summary = {
        "quarantine": [asdict(entry) for entry in entries],
        "failures": [_failure(one.function_arn, one.failure, now) for one in known if one.failure],
        "drift": [
            {"function_arn": one.function_arn, **asdict(one.protections)}
            for one in known
            if one.protections and one.protections.given_up
        ],
        "releases": [_release(one, settings.release) for one in kept],
    }
    lines = [
        f"quarantine     {len(entries):,}",
        *(f"  {entry.function_arn}: since {entry.since}, {entry.reason}" for entry in entries),
        f"failures       {len(summary['failures']):,}",
        *(f"  {one.function_arn}: {one.failure.says}" for one in known if one.failure),
        f"drift          {len(summary['drift']):,} given up",
        *(f"  {one['function_arn']}: protected {one['times']} times" for one in summary["drift"]),
        f"releases       {len(kept):,}",
        *(line for one in kept for line in _release_lines(one, settings.release)),
    ]
    if former:
        lines.append(
            "left by an earlier release: its failures and drift show after the first run that writes"
        )
    if unfolded := Journals(store, settings.defender).unfolded_runs():
        lines.append(
            f"not included: the journals of {', '.join(unfolded)}, which the next run that writes includes"
        )
    return JobResult(summary, "\n".join(lines))


def retry(
    settings: Configuration,
    session: boto3.Session,
    run_id: str,
    selection: Selection,
    clock: Clock = SYSTEM_CLOCK,
) -> JobResult:
    """Forget failures, and drift that is given up: the next run tries these functions again."""

    def forget(journals: Journals) -> tuple[list[str], list[Fact]]:
        waiting = [arn for arn, one in records(journals.store).items() if _waits(one)]
        arns = selection.of(waiting, "a failure, or drift that is given up")
        return arns, [Retried(arn) for arn in arns]

    return _changed(settings, session, run_id, selection, forget, "tried again by the next run", clock)


def release(
    settings: Configuration,
    session: boto3.Session,
    run_id: str,
    selection: Selection,
    clock: Clock = SYSTEM_CLOCK,
) -> JobResult:
    """Take functions out of the quarantine: runs may protect them again."""

    def take_out(journals: Journals) -> tuple[list[str], list[Fact]]:
        entries = {entry.function_arn: entry for entry in quarantined(journals.store)}
        arns = selection.of(entries, "an entry in the quarantine")
        return arns, [Released(entries[arn]) for arn in arns]

    return _changed(settings, session, run_id, selection, take_out, "out of the quarantine", clock)


def rebuild_state(
    settings: Configuration, session: boto3.Session, run_id: str, clock: Clock = SYSTEM_CLOCK
) -> JobResult:
    """Replace the state files that differ from what the journals say. The exit code is 3 where a part of these is refused.

    Raises GuardStop where a run is under way.
    """
    with _locked(settings, session, run_id, clock) as journals:
        done = rebuild(journals)
    refused = journals.refused
    lines = [f"{one.path}: {one.done}" for one in done] or ["nothing differs from what the journals say"]
    return JobResult(
        {"files": [asdict(one) for one in done], "refused": refused},
        "\n".join([*lines, *(f"refused: {problem}" for problem in refused)]),
        3 if refused else 0,
    )


def _changed(
    settings: Configuration,
    session: boto3.Session,
    run_id: str,
    selection: Selection,
    change: Callable[[Journals], tuple[list[str], list[Fact]]],
    done: str,
    clock: Clock,
) -> JobResult:
    """Change the state under the run lock, by lines in a journal. Raises GuardStop where a run is under way."""
    selection.check()
    if selection == Selection():
        raise BadInput("name at least one --function ARN or --account ID")
    with _locked(settings, session, run_id, clock) as journals:
        journals.fold()
        arns, facts = change(journals)
        journals.record(run_id, facts)
    return JobResult({"functions": arns}, "\n".join(f"{arn}: {done}" for arn in arns))


@contextmanager
def _locked(settings: Configuration, session: boto3.Session, run_id: str, clock: Clock) -> Iterator[Journals]:
    """Hold the run lock, with state files of today's format."""
    store = open_output(settings, session)
    check_format(store)
    journals = Journals(store, settings.defender, clock)
    with RunLock(store, run_id, clock=clock):
        upgrade(journals, run_id)
        yield journals


def _waits(one: FunctionRecord) -> bool:
    return one.failure is not None or (one.protections is not None and one.protections.given_up)


def _failure(arn: str, failure: Failure, now: datetime) -> dict[str, Any]:
    return {
        "function_arn": arn,
        **asdict(failure),
        "next_try": failure.next_try.isoformat(timespec="seconds"),
        "due": failure.next_try <= now,
    }


def _release(one: Release, configured: str) -> dict[str, Any]:
    waves = [
        {name: value for name, value in asdict(wave).items() if name != "accounts"} for wave in one.waves
    ]
    return {"release": one.release, "configured": one.release == configured, "waves": waves}


def _release_lines(one: Release, configured: str) -> list[str]:
    name = one.release[:12] or "of release 0.1"
    return [
        f"  {name}{' (configured)' if one.release == configured else ''}",
        *(f"    {wave.name}: {_wave(wave)}" for wave in one.waves),
    ]


def _wave(wave: WaveState) -> str:
    stage = f"passed on {wave.passed}" if wave.passed else f"soaks since {wave.done}" if wave.done else "open"
    return f"{stage}; {wave.changed:,} changed, {wave.failed:,} failed, {wave.regressed:,} regressed"
