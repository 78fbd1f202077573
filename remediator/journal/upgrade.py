"""The format of what runs leave in the store, and the step from the format of release 0.1 to today's.

state/format.json has its number; without the file it is 1, whose journals are runs/YYYY/MM/DD/RUN_ID/journal.jsonl.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from remediator.journal.journal import FOLDER
from remediator.journal.store import Numbered, load, save
from storage.protocol import Store

log = logging.getLogger(__name__)

FORMAT = 2
_PATH = "state/format.json"
# A read of S3 takes some 30 ms, and there may be a run for each hour of a year.
_READERS = 16


def check_format(store: Store) -> int:
    """Return the store's format. Raise BadInput where a newer release has written there, or the file is malformed."""
    return load(store, _PATH, Numbered, Numbered(), FORMAT).format


def upgrade(store: Store) -> None:
    """Copy each journal of format 1 to where it is read from now. The caller holds the lock; may be interrupted."""
    if check_format(store) == FORMAT:
        return
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
    save(store, _PATH, asdict(Numbered(FORMAT)))


def _run_folders(store: Store) -> list[str]:
    """Return runs/YYYY/MM/DD/RUN_ID, by listing folders: files of runs may be millions."""
    parents = ["runs"]
    for _ in range(4):
        parents = [f"{parent}/{name}" for parent in parents for name in store.folders(f"{parent}/")]
    return parents
