"""Files that grow by further files: what was written is never written again.

FOLDER/00001.jsonl, FOLDER/00002.jsonl, …: each has the lines of one append.
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from storage.protocol import READERS, Store

# Digits: more than a run writes in its life, and few enough to count on.
_LONGEST = 9


def read_segments(store: Store, prefixes: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the lines of each segment below the prefixes; a folder's are together, oldest first.

    A prefix may end in the middle of a folder's name. A file that is no segment is yielded like one.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for paths in pool.map(store.list, prefixes):
            paths.sort(key=lambda path: (path.rpartition("/")[0], len(path), path))
            for path, lines in zip(paths, pool.map(store.read, paths), strict=True):
                if lines is not None:
                    yield path, lines


def segment_number(path: str) -> int:
    """Return the number of a segment, 0 for a file that is none."""
    name = path.rpartition("/")[2].removesuffix(".jsonl")
    return int(name) if name.isascii() and name.isdecimal() and len(name) <= _LONGEST else 0


class Segments:
    """The segments below one folder, to be written; any thread may append."""

    def __init__(self, store: Store, folder: str, last: int = 0) -> None:
        """Take the folder's path and the number of its last segment, as far as it is known."""
        self._store = store
        self._folder = folder
        self._numbering = threading.Lock()
        self._last = last

    @property
    def last(self) -> int:
        """Return the number of the folder's last segment, as far as it is known."""
        return self._last

    def append(self, lines: bytes) -> None:
        """Create the next segment and return once it is durable. `lines` must be unique to the caller.

        A number that is taken is another writer's: the next one follows.
        """
        while not self._store.create(self._next_path(), lines, "application/x-ndjson"):
            pass

    def _next_path(self) -> str:
        with self._numbering:
            self._last += 1
            return f"{self._folder}/{self._last:05}.jsonl"
