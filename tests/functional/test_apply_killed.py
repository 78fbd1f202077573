"""Killed at any moment: the next run finds out what happened, completes or closes it, and forgets nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scanner.core.errors import GuardStop
from storage.folder import FolderStore
from tests.unit.remediator.fake_lambda import FakeLambda, Killed, layer
from tests.unit.remediator.house import OURS, RUN, House

OWNERS = {"OWNER": "s3cret-of-the-owner"}


pytestmark = pytest.mark.usefixtures("hurried")


class Fuse:
    """Burns a little at each event, and kills everything for good when it has burnt down."""

    def __init__(self, length: int) -> None:
        self.left = length

    def burn(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class FusedStore(FolderStore):
    fuse = Fuse(10**9)

    def append(self, path: str, line: bytes) -> None:
        self.fuse.burn()
        super().append(path, line)
        self.fuse.burn()

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self.fuse.burn()
        super().write(path, body, content_type)

    def delete(self, path: str) -> None:
        self.fuse.burn()
        super().delete(path)


def house_with(folder: Path, functions: int) -> tuple[House, list[str]]:
    aws = FakeLambda(polls_to_settle=1)
    return House(aws, folder), [aws.add(f"f{n}") for n in range(functions)]


def arm(house: House, length: int) -> Fuse:
    fuse = Fuse(length)
    store = FusedStore(house.store.root)
    store.fuse = fuse
    house.store = store
    house.aws.before = house.aws.after = fuse.burn
    return fuse


def disarm(house: House) -> None:
    """The process is gone: its lock with it, as if it had expired, and what it would still have done."""
    house.store = FolderStore(house.store.root)
    house.aws.before = house.aws.after = lambda method, arn, n: None
    for path in house.store.list("state/lock/"):
        house.store.delete(path)


def test_killed_at_every_moment_nothing_is_applied_twice_and_nothing_forgotten(tmp_path: Path) -> None:
    for moment in range(200):
        house, arns = house_with(tmp_path / str(moment), 2)
        arm(house, moment)
        # How many moments a run has depends on how its journal lines fall together.
        with contextlib.suppress(Killed):
            house.apply()
            assert moment > 20
            return
        disarm(house)
        check_the_next_run(house, arns)
        check_the_way_back(house, arns)
    pytest.fail("no run came to its end")


def check_the_next_run(house: House, arns: list[str]) -> None:
    done = [arn for arn in arns if house.aws.layers(arn)]
    house.resolve()
    assert house.store.list("state/open/") == []
    assert all(entry.outcome is not None for entry in house.entries())
    assert [arn for arn in arns if house.aws.layers(arn)] == done, "finding out sends nothing"
    house.apply(run_id="20261124T054232Z-after")
    for arn in arns:
        assert house.aws.layers(arn) == [layer(4)]
        assert house.aws.variables(arn) == OWNERS | OURS
        updates = [call for call in house.aws.log if call == ("update_function_configuration", arn)]
        assert len(updates) <= 2
    assert house.plan().changes == ()


def check_the_way_back(house: House, arns: list[str]) -> None:
    """Whatever run put it there: the journals know every change that stands."""
    rolled_back = house.rollback([], arns).changes
    assert list(rolled_back["outcome"]) == ["rolled_back", "rolled_back"]
    for arn in arns:
        assert house.aws.layers(arn) == []
        assert house.aws.variables(arn) == OWNERS


def test_a_rollback_killed_at_every_moment_is_resolved_too(tmp_path: Path) -> None:
    for moment in range(100):
        house, arns = house_with(tmp_path / str(moment), 2)
        house.apply()
        fuse = arm(house, moment)
        try:
            house.rollback([RUN])
        except Killed:
            pass
        else:
            assert fuse.left >= 0
            return
        disarm(house)
        house.resolve()
        assert house.store.list("state/open/") == []
        house.rollback([RUN], run_id="20261125T010000Z-again")
        for arn in arns:
            assert house.aws.layers(arn) == []
            assert house.aws.variables(arn) == OWNERS
        again = house.rollback([RUN], run_id="20261125T020000Z-third").changes
        assert set(again["outcome"]) == {"dropped"}
    pytest.fail("the rollback never ended by itself")


def test_a_journal_line_cut_off_by_the_kill_is_no_obstacle(tmp_path: Path) -> None:
    house, arns = house_with(tmp_path, 1)
    path = house.store.root / "runs/2026/11/24" / RUN / "journal.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"event": "intent", "id": "0.1", "run_')
    house.store.write(f"state/open/{RUN}.json", b"{}", "application/json")
    house.resolve()
    assert house.store.list("state/open/") == []
    house.apply()
    assert house.rollback([RUN]).changes["outcome"].tolist() == ["rolled_back"]
    assert house.aws.layers(arns[0]) == []


HOLDER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from remediator.rollout.lock import RunLock
from storage.folder import FolderStore
with RunLock(FolderStore(Path(sys.argv[1])), "20261124T034232Z-victim", expires=timedelta(seconds=float(sys.argv[2]))):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_process_killed_with_9_is_taken_over_when_it_expires(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "1.5"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        house, _ = house_with(tmp_path, 1)
        time.sleep(2.0)
        with pytest.raises(GuardStop, match=r"guard 'lock': run 20261124T034232Z-victim .* is under way"):
            house.apply()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2.0)
        assert house.apply().changes["outcome"].tolist() == ["changed"]
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
