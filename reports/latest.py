"""`latest`: which run is the newest complete one over the whole scope.

latest.json is written first, under a condition, and never goes back to an older run, except from one that begins more
than a day in the future: a clock was wrong, and every later run would be the older one. latest/ has copies of that run's
files for people and for readers that take one address; in S3 they are several objects, which no one can replace at once.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from remediator.state.store import run_folder, started_at
from reports.data.read_back import (
    LATEST,
    POINTER,
    POINTER_FORMAT,
    newest_of_older_release,
    newest_run,
    read_latest,
)
from storage.protocol import Store, StoreFailed, Tagged

log = logging.getLogger(__name__)

_SUMMARY = "summary.json"
_HEADLINE = (
    "mode", "started", "ended", "exit_code", "units_expected", "units_read", "units_unread", "functions", "protected",
    "eligible", "skipped", "excluded", "coverage",
)  # fmt: skip
# Each failed attempt is another run that was faster: more than a few at once do not exist.
_ATTEMPTS = 20
# Clocks of two machines may differ by this.
_AHEAD = timedelta(days=1)


def advance_latest(store: Store, summary: Mapping[str, Any], now: datetime) -> str:
    """Make latest.json name a run, unless it names a newer one; return the run that it names. Ids sort by start time.

    summary: the run's. Raise StoreFailed.
    """
    run_id = str(summary["run_id"])
    body = _pointer(summary)
    for _ in range(_ATTEMPTS):
        tagged = store.read_tagged(POINTER)
        named = _named(store, tagged, max(now, started_at(run_id)))
        if named > run_id:
            return named
        tag = store.create(POINTER, body) if tagged is None else store.replace(POINTER, body, tagged.tag)
        if tag is not None:
            return run_id
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


def _named(store: Store, tagged: Tagged | None, now: datetime) -> str:
    """Return the run that latest.json names for its readers; "" where it names none, or none that may stay."""
    try:
        named = newest_of_older_release(store) if tagged is None else newest_run(store, tagged.body)
    except ValueError as error:
        log.warning("%s is written anew: %s", POINTER, error)
        return ""
    if named and started_at(named) > now + _AHEAD:
        log.warning("%s is written anew: run %s is more than a day ahead of the clock", POINTER, named)
        return ""
    return named or ""
