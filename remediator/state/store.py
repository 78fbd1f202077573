"""The state files that runs leave each other.

Paths: state/format.json, state/lock.json, state/stop; and derived from journals (journals/RUN_ID/00001.jsonl):
state/functions/ACCOUNT.json, state/waves.json, state/quarantine.json, state/journals.json, state/open/RUN_ID.json (a run
whose journal has open entries, or lines that the state files do not know yet).
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from scanner.core.errors import BadInput
from storage.protocol import READERS, Store

STOP = "state/stop"
QUARANTINE = "state/quarantine.json"
WAVES = "state/waves.json"
FUNCTIONS = "state/functions/"
OPEN = "state/open/"
FOLDED = "state/journals.json"
_DERIVED = (QUARANTINE, WAVES, FUNCTIONS, FOLDED)

_JSON = "application/json"
S = TypeVar("S")
T = TypeVar("T")


def is_run_id(text: str) -> bool:
    """Return whether a text is a run id."""
    try:
        started_at(text)
    except BadInput:
        return False
    return True


@dataclass(frozen=True)
class Numbered:
    """What a state file says of itself: the number of its format."""

    format: int = 1


def started_at(run_id: str) -> datetime:
    """Return when a run started (UTC): its id begins with that. Raises BadInput for what is no run id."""
    try:
        started = datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadInput(f"'{run_id}' is no run id; expected one such as 20261124T034232Z-1a2b3c") from None
    if not run_id.replace("-", "").isalnum() or not run_id.isascii():
        raise BadInput(f"'{run_id}' is no run id; expected one such as 20261124T034232Z-1a2b3c")
    return started


def run_folder(run_id: str) -> str:
    """Return the folder of a run's files. Raises BadInput for what is no run id."""
    return f"runs/{started_at(run_id):%Y/%m/%d}/{run_id}"


def load(store: Store, path: str, shape: type[T], empty: T, newest: int | None = None) -> T:
    """Return the content of a state file; `empty` where there is none yet.

    newest: the highest number that the file's `format` may have.
    Raises BadInput where it is malformed, or of a newer format: a broken quarantine must never read as an empty one.
    """
    text = store.read(path)
    return empty if text is None else _parsed(store, path, text, shape, newest)


def load_tagged(
    store: Store, path: str, shape: type[T], empty: T, newest: int | None = None
) -> tuple[T, str]:
    """Return what load() returns, and the tag for save_unchanged(); "" where there is no such file yet."""
    tagged = store.read_tagged(path)
    return (empty, "") if tagged is None else (_parsed(store, path, tagged.body, shape, newest), tagged.tag)


def _parsed(store: Store, path: str, text: bytes, shape: type[T], newest: int | None = None) -> T:
    if newest is not None:
        check_number(text, newest, store.url(path))
    try:
        return TypeAdapter(shape).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        rebuild = "; or run 'auto-defender state rebuild'" if path.startswith(_DERIVED) else ""
        raise BadInput(
            f"{store.url(path)}: {key + ': ' if key else ''}{first['msg']}; fix it or restore an older version{rebuild}"
        ) from None


def check_number(text: bytes, newest: int, url: str) -> None:
    """Raise BadInput for the content of a state file whose `format` is above the newest number that is known."""
    try:
        number = TypeAdapter(Numbered).validate_json(text).format
    except ValidationError:
        return  # malformed, or of release 0.1: its shape says more
    if number > newest:
        raise BadInput(
            f"{url}: format {number}, written by a newer release; this one knows up to {newest}: "
            "install that release again"
        )


def save(store: Store, path: str, value: object) -> None:
    """Write a state file."""
    store.write(path, encoded(value), _JSON)


def save_unchanged(store: Store, path: str, value: object, tag: str) -> bool:
    """Write a state file if it still has the tag that load_tagged() returned, and return whether it had."""
    body = encoded(value)
    return (store.replace(path, body, tag) if tag else store.create(path, body)) is not None


def encoded(value: object) -> bytes:
    """Return the bytes of a state file."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def for_each(tasks: Sequence[S], work: Callable[[S], T]) -> list[T]:
    """Do work for each task, many at once: a read of S3 takes some 30 ms, and there may be thousands."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(work, tasks))
