"""Writes the state files from the journals alone, for whatever has lost or damaged them."""

from dataclasses import asdict, dataclass
from typing import Literal

from remediator.journal.journal import MARKER, open_marker
from remediator.journal.journals import Journals
from remediator.state import functions, order, quarantine, wave_states
from remediator.state.fold import folded
from remediator.state.order import Folded, term_numbers, term_path
from remediator.state.store import FOLDED, FUNCTIONS, OPEN, QUARANTINE, WAVES, check_number, encoded, for_each
from storage.protocol import JSON, Store

_FORMATS = {
    FUNCTIONS: functions.FORMAT,
    WAVES: wave_states.FORMAT,
    QUARANTINE: quarantine.FORMAT,
    FOLDED: order.FORMAT,
    OPEN: 1,
}


@dataclass(frozen=True)
class Rebuilt:
    """A state file that differed from what the journals say, and what was done."""

    path: str
    done: Literal["written", "replaced", "deleted"]


def rebuild(journals: Journals) -> list[Rebuilt]:
    """Replace the state files that differ from what all journals say. The caller holds the lock; may be interrupted.

    Returns what was done, by path. What is written comes before what is deleted. journals.refused names what of the
    journals counts for nothing. Raises BadInput, before anything is written, where a file is of a newer release.
    """
    store = journals.store
    present = _present(store)
    runs = journals.all_runs()
    files = folded(event for run in runs for event in run.events)
    files |= {open_marker(run.run_id): MARKER for run in runs if run.is_open}
    terms = term_numbers(store)
    newest = max([*terms, *(run.mark.term for run in runs)], default=0)
    if newest > 0:
        files[FOLDED] = encoded(asdict(Folded(term=newest)))
    if lacking := sorted(set(range(1, newest + 1)).difference(terms)):
        journals.refuse(
            f"{store.url(term_path(lacking[0]))} has expired or was deleted, as {len(lacking)} of {newest} terms did: "
            "what journals of that time said of quarantine, failures and waves is lost where these have gone too"
        )
    differing = sorted(path for path, body in files.items() if present.get(path) != body)
    surplus = sorted(present.keys() - files.keys())
    for_each(differing, lambda path: store.write(path, files[path], JSON))
    for_each(surplus, store.delete)
    done = [Rebuilt(path, "replaced" if path in present else "written") for path in differing]
    return sorted([*done, *(Rebuilt(path, "deleted") for path in surplus)], key=lambda one: one.path)


def _present(store: Store) -> dict[str, bytes]:
    """Return the state files that there are."""
    paths = [*store.list(FUNCTIONS), *store.list(OPEN), WAVES, QUARANTINE, FOLDED]
    read = dict(zip(paths, for_each(paths, store.read), strict=True))
    present = {path: body for path, body in read.items() if body is not None}
    for path, body in present.items():
        newest = next(number for prefix, number in _FORMATS.items() if path.startswith(prefix))
        check_number(body, newest, store.url(path))
    return present
