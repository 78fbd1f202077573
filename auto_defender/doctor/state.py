"""Checks of the output and the state in it: the kill switch, the lock, journals, the quarantine."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3

from auto_defender.config import Configuration
from auto_defender.doctor.finding import Finding
from remediator.journal.journal import open_runs
from remediator.journal.journals import Journals
from remediator.journal.upgrade import check_format
from remediator.rollout.guards import check_kill_switch
from remediator.rollout.kill_switch import parameter_switch
from remediator.rollout.lock import RunLock
from remediator.state.quarantine import quarantined
from scanner.aws.caller import home_region
from scanner.core.clock import SYSTEM_CLOCK
from scanner.core.errors import GuardStop
from storage.protocol import Store


def output(store: Store) -> Finding:
    """Check that the output can be read, and a folder also written; nothing is written to find that out."""
    address = store.url("runs").removesuffix("/runs")
    check_format(store)
    if address.startswith("s3://"):
        return Finding(
            "ok", "output", f"{address} can be read; writing is not checked: doctor writes nothing"
        )
    folder = Path(address).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding("ok", "output", f"{address} can be written")
    return Finding("problem", "output", f"{address} can't be written", "Name another folder in output.")


def kill_switch(settings: Configuration, session: boto3.Session, store: Store) -> Finding:
    """Read both kill switches; what keeps a run from writing is a warning, because it may be intended."""
    stops = [stop for stop in (_stop(switch) for switch in _switches(settings, session, store)) if stop]
    if not stops:
        return Finding("ok", "kill switch", "off")
    why = "; ".join(stop.why for stop in stops)
    return Finding(
        "warning", "kill switch", f"on: {why}", " ".join(f"{stop.how_to_go_on}." for stop in stops)
    )


def _switches(settings: Configuration, session: boto3.Session, store: Store) -> Iterator[Callable[[], None]]:
    yield lambda: check_kill_switch(store)
    if parameter := settings.rollout.kill_switch:
        yield parameter_switch(session, parameter, home_region(session, settings.organization))


def _stop(switch: Callable[[], None]) -> GuardStop | None:
    try:
        switch()
    except GuardStop as stop:
        return stop
    return None


def lock(store: Store, run_id: str) -> Finding:
    """Report which run has the lock."""
    held = RunLock(store, run_id).held_by()
    if held is None:
        return Finding("ok", "lock", "free")
    holder, until = held
    if until < SYSTEM_CLOCK.now():
        return Finding("ok", "lock", f"run {holder} ended without releasing it; the next run takes it over")
    return Finding("ok", "lock", f"run {holder} is under way; its lock is valid until {until:%H:%M:%S} UTC")


def journals(store: Store, settings: Configuration) -> Iterator[Finding]:
    """Report open journals, and what is refused of those that the next run reads for the health watch."""
    read, runs = Journals(store, settings.defender), open_runs(store)
    if runs:
        remedy = "Nothing to do: the next run that writes reads their outcome before it begins anything."
        yield Finding("warning", "journals", f"changes of {', '.join(runs)} are not settled", remedy)
    elif unfolded := read.unfolded_runs():
        yield Finding(
            "warning",
            "journals",
            f"the state lacks what the journals of {', '.join(unfolded)} say: it is older, or was replaced by an older copy",
            "Nothing to do: the next run that writes adds it; or run 'auto-defender state rebuild'.",
        )
    else:
        yield Finding("ok", "journals", "all closed")
    read.history((SYSTEM_CLOCK.now() - timedelta(hours=settings.rollout.health.hours)).date())
    for problem in read.refused:
        remedy = "Restore an older version of it; what it says counts for nothing until then, all else does."
        yield Finding("problem", "refused entries", problem, remedy)


def quarantine(store: Store) -> Finding:
    """Count the functions in quarantine."""
    count = len(quarantined(store))
    return Finding("ok", "quarantine", f"{count} functions are left alone" if count else "empty")
