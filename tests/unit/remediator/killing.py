"""Kill a run at an event of its own, and start the next one: the store and the fake Lambda count the events."""

from typing import Any

from remediator.rollout.lock import LOCK
from storage.folder import FolderStore
from storage.protocol import JSON
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

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        self.countdown.count()
        tag = super().create(path, body, content_type)
        self.countdown.count()
        return tag

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        self.countdown.count()
        return super().replace(path, body, tag)

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
    harness.store.delete(LOCK)
