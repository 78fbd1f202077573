"""The order of journals' segments, which no clock decides: clocks jump, and run ids begin with a clock's time.

journals/term-00000001.json, 00000002, …: a process that writes journals begins a term by creating the next of these
files, under a condition, before its first segment. The file names the runs whose journals may get segments in the term.
Each segment begins with its mark: its term, and a number that counts within it. Terms lie beside the journals, because
like these they are never replaced nor deleted: no lost or restored state folder lets a mark be used twice, and whoever
knows the last term that state files have in full finds all that came later.
"""

import logging
import re
import secrets
import threading
from dataclasses import asdict, dataclass
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from remediator.state.store import FOLDED, check_number, encoded, is_run_id, load, save
from scanner.core.errors import BadInput
from storage.protocol import Store

log = logging.getLogger(__name__)

TERMS = "journals/term-"
FORMAT = 1
_NAME = re.compile(TERMS + r"([0-9]{8})\.json", re.ASCII)


class Mark(NamedTuple):
    """The place of a segment among all. Term 0: of a segment without a mark, of an earlier release."""

    term: int
    number: int


NEVER = Mark(-1, 0)
UNMARKED = Mark(0, 0)
# Above all: a term's number has eight digits.
_LAST = Mark(10**8, 0)


@dataclass(frozen=True)
class Event:
    """A line of a journal that state files are derived from: its segment's mark, when it was written (ISO 8601, UTC),
    the journal's run. fact: what it says.
    """  # noqa: D205

    mark: Mark
    at: str
    run_id: str
    fact: object


@dataclass(frozen=True)
class Term:
    """A term: its number, and the runs whose journals may have segments in it."""

    number: int
    runs: tuple[str, ...]


@dataclass(frozen=True)
class _TermFile:
    """The content of a term's file. nonce: makes it unique."""

    format: int = FORMAT
    runs: tuple[str, ...] = ()
    nonce: str = ""


@dataclass(frozen=True)
class Folded:
    """The content of state/journals.json: the newest term that state files know. state/open/ names what they lack of it."""

    format: int = FORMAT
    term: int = 0


class Order:
    """Gives the segments that a process writes their marks; any thread may ask."""

    def __init__(self, store: Store) -> None:
        """Initialize; nothing is read or written before the first mark."""
        self._store = store
        self._numbering = threading.Lock()
        self._runs: set[str] = set()
        self._term = Term(0, ())
        self._number = 0
        self._writing: set[Mark] = set()

    @property
    def term(self) -> int:
        """Return the number of this process's newest term, 0 before its first."""
        return self._term.number

    @property
    def is_writing(self) -> bool:
        """Return whether segments are being written, or may be there although their writing has failed."""
        return bool(self._writing)

    def limit(self) -> Mark:
        """Return the mark that no fold may reach: all segments below it are written, and no further one will be."""
        with self._numbering:
            following = Mark(self._term.number, self._number + 1) if self._term.number else _LAST
            return min(self._writing, default=following)

    def add(self, run_id: str) -> None:
        """Take a run whose journal may get segments."""
        with self._numbering:
            self._runs.add(run_id)

    def next(self, run_id: str) -> Mark:
        """Return the mark of the next segment of a run's journal: above all that were given before, by any process.

        The segment counts as being written until written() is called.
        """
        with self._numbering:
            if run_id not in self._term.runs:
                self._runs.add(run_id)
                self._term, self._number = self._begun(), 0
            self._number += 1
            mark = Mark(self._term.number, self._number)
            self._writing.add(mark)
            return mark

    def written(self, mark: Mark) -> None:
        """Take that a segment is written, and that its journal has it."""
        with self._numbering:
            self._writing.discard(mark)

    def _begun(self) -> Term:
        runs = tuple(sorted(self._runs))
        content = _TermFile(runs=runs, nonce=secrets.token_hex(8))
        number = (self._term.number or self._newest()) + 1
        while not self._store.create(term_path(number), encoded(asdict(content))):
            number += 1
        return Term(number, runs)

    def _newest(self) -> int:
        try:
            folded = folded_term(self._store)
        except BadInput as error:
            # All terms are listed instead: no broken state file may keep a rollback from its journal.
            log.warning("%s", error)
            folded = 0
        return folded or max(term_numbers(self._store), default=0)


def folded_term(store: Store) -> int:
    """Return the newest term that state files know. Raises BadInput where state/journals.json can't be used."""
    return load(store, FOLDED, Folded, Folded(), FORMAT).term


def save_folded_term(store: Store, term: int) -> None:
    """Write the newest term that state files know."""
    save(store, FOLDED, asdict(Folded(term=term)))


def term_numbers(store: Store) -> list[int]:
    """Return the numbers of all terms there are, by a list of what only grows: for who has lost the last one alone."""
    return [int(found[1]) for path in store.list(TERMS) if (found := _NAME.fullmatch(path))]


def terms_since(store: Store, number: int) -> list[Term]:
    """Return the terms after one, oldest first; after 0, all from the oldest that has not expired.

    Raises BadInput for one of a newer release.
    """
    found: list[Term] = []
    number = number or min(term_numbers(store), default=1) - 1
    while (body := store.read(path := term_path(number + len(found) + 1))) is not None:
        found.append(Term(number + len(found) + 1, _runs_of(body, store.url(path))))
    return found


def _runs_of(body: bytes, url: str) -> tuple[str, ...]:
    check_number(body, FORMAT, url)
    try:
        return tuple(filter(is_run_id, TypeAdapter(_TermFile).validate_json(body).runs))
    except ValidationError as error:
        # Nobody could repair it, as nobody may replace it. 'auto-defender state rebuild' does without.
        log.warning("%s is no term (%d errors); run 'auto-defender state rebuild'", url, error.error_count())
        return ()


def term_path(number: int) -> str:
    """Return the path of a term's file."""
    return f"{TERMS}{number:08}.json"
