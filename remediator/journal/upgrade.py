"""The format of what runs leave in the store, and the step from the format of release 0.1 to today's.

state/format.json has its number; without the file it is 1, whose journals are runs/YYYY/MM/DD/RUN_ID/journal.jsonl, and
whose failures and protections are state/failures.json and state/drift/ACCOUNT.json.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from remediator.change.records import PlannedAction
from remediator.journal.drift import ProtectionCount
from remediator.journal.failures import Failure
from remediator.journal.functions import FunctionRecord, write_records
from remediator.journal.journal import FOLDER
from remediator.journal.store import Numbered, load, save
from storage.protocol import Store

log = logging.getLogger(__name__)

FORMAT = 2
_PATH = "state/format.json"
_FAILURES = "state/failures.json"
# A read of S3 takes some 30 ms, and there may be a run for each hour of a year.
_READERS = 16


def check_format(store: Store) -> int:
    """Return the store's format. Raise BadInput where a newer release has written there, or the file is malformed."""
    return load(store, _PATH, Numbered, Numbered(), FORMAT).format


def upgrade(store: Store) -> None:
    """Copy what format 1 left to where it is read from now. The caller holds the lock; may be interrupted."""
    if check_format(store) == FORMAT:
        return
    _copy_journals(store)
    _copy_records(store)
    save(store, _PATH, asdict(Numbered(FORMAT)))


def _copy_journals(store: Store) -> None:
    folders = _run_folders(store)
    with ThreadPoolExecutor(_READERS) as pool:
        bodies = pool.map(lambda folder: store.read(f"{folder}/journal.jsonl"), folders)
        for folder, body in zip(folders, bodies, strict=True):
            if body is not None:
                log.info("taking over the journal of %s", folder)
                # A last line without its end was cut off by a kill: its change was never sent.
                lines = body[: body.rfind(b"\n") + 1]
                store.create(
                    f"{FOLDER}/{folder.rpartition('/')[2]}/00001.jsonl", lines, "application/x-ndjson"
                )


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


def _copy_records(store: Store) -> None:
    known: dict[str, FunctionRecord] = {}
    for path in store.list("state/drift/"):
        for one in load(store, path, tuple[_Protection, ...], ()):
            count = ProtectionCount(one.times, one.run_id, one.at)
            known[one.function_arn] = FunctionRecord(one.function_arn, one.at, protections=count)
    for refusal in load(store, _FAILURES, tuple[_Refusal, ...], ()):
        of = known.get(refusal.function_arn, FunctionRecord(refusal.function_arn))
        failure = Failure(**{name: value for name, value in vars(refusal).items() if name != "function_arn"})
        known[refusal.function_arn] = replace(of, at=max(of.at, refusal.at), failure=failure)
    write_records(store, known)


def _run_folders(store: Store) -> list[str]:
    """Return runs/YYYY/MM/DD/RUN_ID, by listing folders: files of runs may be millions."""
    parents = ["runs"]
    for _ in range(4):
        parents = [f"{parent}/{name}" for parent in parents for name in store.folders(f"{parent}/")]
    return parents
