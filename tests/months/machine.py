"""The machine that a run is on: it dies at a step of the run, or stands still while another run goes on."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from storage.folder import FolderStore
from storage.protocol import JSON, StoreFailed, Tagged
from tests.months.clocks import MachineClock, Time

T = TypeVar("T")


class Machine:
    """Counts the steps of a run: each call of AWS and of the store, before and behind it.

    dies_at: the step at which it dies; frozen_at: the step at which it stands still while `meanwhile` is done.
    """

    def __init__(
        self,
        time: Time,
        *,
        dies_at: int | None = None,
        frozen_at: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = MachineClock(time, self.reach, self.is_away)
        self.dead = False
        self.steps = self.freezes = 0
        self._dies_at = dies_at
        self._frozen_at = frozen_at
        self._meanwhile = meanwhile
        self._stood: threading.Thread | None = None
        self._going = threading.Event()
        self._going.set()
        self._counting = threading.Lock()

    def step(self) -> None:
        """Count a step, and do what happens at it."""
        self.reach()
        with self._counting:
            self.steps += 1
            freezes = self.steps == self._frozen_at
            self.dead = self.dead or self.steps == self._dies_at
            if freezes:
                self.freezes += 1
                self._stood = threading.current_thread()
                self._going.clear()
        if freezes:
            try:
                self._meanwhile()
            finally:
                self._going.set()
        self.reach()

    def reach(self) -> None:
        """Wait while the machine is frozen; raise SystemExit once it is dead.

        No handler of errors catches that, and a thread that ends by it leaves no trace.
        """
        self._going.wait()
        if self.dead:
            raise SystemExit

    def was_about_to_call(self) -> bool:
        """Return, once, whether this thread stood still in what it asks right before a call."""
        if self._stood is not threading.current_thread():
            return False
        self._stood = None
        return True

    def is_away(self) -> bool:
        return self.dead or not self._going.is_set()


class MachineStore(FolderStore):
    """The folder of the runs' files, reached from a machine; fails as S3 does.

    percent: of the requests refused, or carried out with their answers lost. reads, faults: counts.
    """

    def __init__(self, folder: FolderStore, machine: Machine, percent: float = 0.0, seed: str = "") -> None:
        super().__init__(folder.root)
        self.machine = machine
        self.reads = 0
        self.faults: Counter[str] = Counter()
        self._percent = percent
        self._random = Random(seed)

    def _asked(self, path: str, work: Callable[[], T]) -> T:
        self.machine.step()
        if self._percent and self._random.random() * 100 < self._percent:
            carried_out = self._random.random() < 0.5
            if carried_out:
                work()
            self.faults["store lost" if carried_out else "store refused"] += 1
            raise StoreFailed(f"s3: can't reach {path}")
        done = work()
        self.machine.step()
        return done

    def check_writable(self) -> None:
        self.machine.step()
        self.root.mkdir(parents=True, exist_ok=True)

    def read(self, path: str) -> bytes | None:
        self.reads += 1
        body: bytes | None = self._asked(path, lambda: super(MachineStore, self).read(path))
        return body

    def read_tagged(self, path: str) -> Tagged | None:
        return super().read_tagged(path)  # by read()

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self._asked(path, lambda: super(MachineStore, self).write(path, body, content_type))

    def upload(self, path: str, chunks: Iterable[bytes], content_type: str) -> None:
        self._asked(path, lambda: super(MachineStore, self).upload(path, chunks, content_type))

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        return self._asked(path, lambda: super(MachineStore, self).create(path, body, content_type))

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        return self._asked(path, lambda: super(MachineStore, self).replace(path, body, tag))

    def delete(self, path: str) -> None:
        self._asked(path, lambda: super(MachineStore, self).delete(path))

    def list(self, prefix: str) -> list[str]:
        self.reads += 1
        paths: list[str] = self._asked(prefix, lambda: super(MachineStore, self).list(prefix))
        return paths

    def folders(self, prefix: str) -> Any:
        self.reads += 1
        return self._asked(prefix, lambda: super(MachineStore, self).folders(prefix))

    def publish(self, source: str, target: str, names: Sequence[str]) -> None:
        self._asked(target, lambda: super(MachineStore, self).publish(source, target, names))
