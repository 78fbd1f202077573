"""Kill a run at an event of its own, and start the next one: the store and the fake Lambda count the events."""

from typing import Any

from storage.folder import FolderStore
from tests.unit.remediator.fake_lambda import Killed
from tests.unit.remediator.harness import Harness


class Countdown:
    """Counts events down, and kills whatever comes after the last."""

    def __init__(self, events: int) -> None:
        self.left = events

    def count(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class KilledStore(FolderStore):
    countdown = Countdown(10**9)

    def append(self, path: str, line: bytes) -> None:
        self.countdown.count()
        super().append(path, line)
        self.countdown.count()

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self.countdown.count()
        super().write(path, body, content_type)

    def delete(self, path: str) -> None:
        self.countdown.count()
        super().delete(path)


def kill_after(harness: Harness, events: int) -> Countdown:
    countdown = Countdown(events)
    store = KilledStore(harness.store.root)
    store.countdown = countdown
    harness.store = store
    harness.aws.before = harness.aws.after = countdown.count
    return countdown


def restart(harness: Harness) -> None:
    """The process is gone: its lock with it, as if it had expired, and what it would still have done."""
    harness.store = FolderStore(harness.store.root)
    harness.aws.before = harness.aws.after = lambda method, arn, n: None
    for path in harness.store.list("state/lock/"):
        harness.store.delete(path)
