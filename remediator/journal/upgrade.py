"""The format of what runs leave in the store, and the step from an earlier one to today's.

state/format.json has its number; without the file it is 1, that of release 0.1, whose journals are
runs/YYYY/MM/DD/RUN_ID/journal.jsonl, and whose failures and protections are state/failures.json and
state/drift/ACCOUNT.json. Format 2 had journals without marks, and state/functions/ that had more than these.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from remediator.change.records import PlannedAction
from remediator.journal.journal import FOLDER
from remediator.journal.journals import Journals, Run
from remediator.journal.rebuild import rebuild
from remediator.state.drift import ProtectionCount
from remediator.state.failures import Failure
from remediator.state.functions import Ended, Taken, Tally, records
from remediator.state.order import UNMARKED
from remediator.state.quarantine import quarantined
from remediator.state.store import FUNCTIONS, OPEN, Numbered, for_each, load, save
from remediator.state.wave_states import WaveObserved, releases
from storage.protocol import JSON, Store

log = logging.getLogger(__name__)

FORMAT = 3
_PATH = "state/format.json"
# What a run of release 0.1 takes for the newest lock of another run.
FORMER_LOCK = "state/lock/99999999.json"
_FAILURES = "state/failures.json"


def check_format(store: Store) -> int:
    """Return the store's format. Raise BadInput where a newer release has written there, or the file is malformed."""
    return load(store, _PATH, Numbered, Numbered(), FORMAT).format


def awaits_upgrade(store: Store) -> bool:
    """Return whether runs of an earlier release have changed functions here, and what they left was not taken over yet."""
    return check_format(store) < FORMAT and any(
        store.list(prefix) for prefix in ("state/drift/", FUNCTIONS, OPEN)
    )


def upgrade(journals: Journals, run_id: str) -> None:
    """Take over what an earlier format left, in this run's journal. The caller holds the lock; may be interrupted.

    What its state files say, and its journals do not, becomes lines of this run's journal, once; then all state files
    are written from the journals.
    """
    store = journals.store
    former = check_format(store)
    if former == FORMAT:
        return
    _shut_out_former(store)
    present = set(store.folders(f"{FOLDER}/"))
    missing = [folder for folder in _run_folders(store) if folder.rpartition("/")[2] not in present]
    for_each(missing, partial(_take_over, store))
    journal = journals.open(run_id)
    runs = journals.all_runs()
    if not any(run.mark > UNMARKED for run in runs):
        taken = _of_format_1(store) if former == 1 else _of_format_2(store, runs)
        journal.record([*taken, *_waves(store), *quarantined(store)])
    rebuild(journals)
    journals.fold()
    journal.close()
    save(store, _PATH, asdict(Numbered(FORMAT)))


@dataclass(frozen=True)
class _Protection:
    """How often release 0.1 protected a function."""

    function_arn: str
    times: int
    run_id: str
    at: str


@dataclass(frozen=True)
class _Refusal:
    """What AWS refused release 0.1 for good."""

    function_arn: str
    detail: str
    revision_id: str
    config_digest: str
    run_id: str
    at: str
    action: PlannedAction = "protect"


def _of_format_2(store: Store, runs: Sequence[Run]) -> Iterator[Taken]:
    """Yield the records, but none of a function whose journals go on after it: its run was killed before it counted."""
    newest: dict[str, str] = {}
    for event in (event for run in runs for event in run.events):
        if isinstance(event.fact, Ended) and event.fact.counts:
            newest[event.fact.function_arn] = max(event.at, newest.get(event.fact.function_arn, ""))
    for arn, record in records(store).items():
        if record.at >= newest.get(arn, ""):
            yield Taken(arn, record.at, record.protections, record.failure)


def _of_format_1(store: Store) -> Iterator[Taken]:
    known: dict[str, Taken] = {}
    for path in store.list("state/drift/"):
        for one in load(store, path, tuple[_Protection, ...], ()):
            count = ProtectionCount(one.times, one.run_id, one.at)
            known[one.function_arn] = Taken(one.function_arn, one.at, count, None)
    for refusal in load(store, _FAILURES, tuple[_Refusal, ...], ()):
        of = known.get(refusal.function_arn, Taken(refusal.function_arn, "", None, None))
        failure = Failure(**{name: value for name, value in vars(refusal).items() if name != "function_arn"})
        known[refusal.function_arn] = replace(of, at=max(of.at, refusal.at), failure=failure)
    yield from known.values()


def _waves(store: Store) -> Iterator[WaveObserved]:
    """Yield the states of waves, the release used last as the last; their journals count what accounts contributed."""
    for release in reversed(releases(store)):
        for wave in release.waves:
            accounts = wave.accounts.values()
            counted = Tally(
                wave.changed - sum(one.changed for one in accounts),
                wave.failed - sum(one.failed for one in accounts),
            )
            yield WaveObserved(
                release.release, wave.name, wave.healthy, wave.done, wave.passed, wave.regressed, counted
            )


def _shut_out_former(store: Store) -> None:
    """Hold the lock of release 0.1 for good: a run of it would change functions beside those of this one."""
    holder = {
        "run_id": "taken over by a newer release",
        "host": "",
        "pid": 0,
        "until": "9999-01-01T00:00:00+00:00",
    }
    store.write(FORMER_LOCK, json.dumps(holder).encode(), JSON)


def _take_over(store: Store, folder: str) -> None:
    body = store.read(f"{folder}/journal.jsonl")
    if body is None:
        return
    log.info("taking over the journal of %s", folder)
    # A last line without its end was cut off by a kill: its change was never sent. Lines that another run's rollback
    # added say what that rollback's own journal says.
    whole = (line for line in body.splitlines(keepends=True) if line.endswith(b"\n"))
    lines = b"".join(line for line in whole if not line.startswith(b'{"event":"undone"'))
    store.create(f"{FOLDER}/{folder.rpartition('/')[2]}/00001.jsonl", lines, "application/x-ndjson")


def _run_folders(store: Store) -> list[str]:
    """Return runs/YYYY/MM/DD/RUN_ID, by listing folders: files of runs may be millions."""
    parents = ["runs"]
    for _ in range(4):
        parents = [f"{parent}/{name}" for parent in parents for name in store.folders(f"{parent}/")]
    return parents
