"""`latest`: which run is the newest complete one over the whole scope.

latest.json is written first, under a condition, and never goes back to an older run. latest/ has copies of that run's
files for people and for readers that take one address; in S3 they are several objects, which no one can replace at once.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from remediator.journal.store import run_folder
from reports.data.read_back import LATEST, POINTER, POINTER_FORMAT, read_latest, read_summary
from storage.protocol import Store, StoreFailed

log = logging.getLogger(__name__)

_SUMMARY = "summary.json"
_HEADLINE = (
    "mode", "started", "ended", "exit_code", "units_expected", "units_read", "units_unread", "functions", "protected",
    "eligible", "skipped", "excluded", "coverage",
)  # fmt: skip
# Each failed attempt is another run that was faster: more than a few at once do not exist.
_ATTEMPTS = 20


def advance_latest(store: Store, summary: Mapping[str, Any]) -> bool:
    """Make latest.json name a run; return False where it names a newer one already. Run ids sort by start time.

    summary: the run's. Raise StoreFailed.
    """
    run_id = str(summary["run_id"])
    body = _pointer(summary)
    for _ in range(_ATTEMPTS):
        tagged = store.read_tagged(POINTER)
        named = _left_by_an_older_release(store) if tagged is None else _named(store, tagged.body)
        if named > run_id:
            log.info("%s stays with run %s, which is newer than this one", POINTER, named)
            return False
        tag = store.create(POINTER, body) if tagged is None else store.replace(POINTER, body, tagged.tag)
        if tag is not None:
            return True
    raise StoreFailed(f"can't write {store.url(POINTER)}: it was changed {_ATTEMPTS} times meanwhile")


def copy_latest(store: Store) -> None:
    """Make latest/ the copies of the run that latest.json names, and again where that has changed meanwhile.

    Of two runs that copy at once, the one that ends last leaves the newer run's files. Raise StoreFailed, and ValueError
    where latest.json is broken.
    """
    copied = None
    while (run_id := read_latest(store)) not in (None, copied):
        folder = run_folder(str(run_id))
        names = {path.removeprefix(f"{folder}/") for path in store.list(f"{folder}/")} - {_SUMMARY}
        store.publish(folder, LATEST, [*sorted(names), _SUMMARY])
        copied = run_id


def _pointer(summary: Mapping[str, Any]) -> bytes:
    document = {
        "format": POINTER_FORMAT,
        "run_id": summary["run_id"],
        "folder": run_folder(summary["run_id"]),
        "summary": {name: summary[name] for name in _HEADLINE},
    }
    return json.dumps(document, indent=2, ensure_ascii=True).encode() + b"\n"


def _named(store: Store, body: bytes) -> str:
    """Return the run that latest.json names; "" where it is broken: no reader can use it, and it is replaced."""
    try:
        return str(json.loads(body)["run_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        log.warning("%s is broken, and is replaced", store.url(POINTER))
        return ""


def _left_by_an_older_release(store: Store) -> str:
    try:
        summary = read_summary(store, LATEST)
    except ValueError as error:
        log.warning("%s is written anew: %s", POINTER, error)
        return ""
    return str(summary["run_id"]) if summary else ""
