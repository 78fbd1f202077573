"""Killed at any moment: the next run finds out what happened, completes or closes it, and forgets nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.rollout.lock import LOCK
from scanner.core.errors import GuardStop
from tests.unit.remediator.fake_lambda import FakeLambda, Killed, layer
from tests.unit.remediator.harness import OURS, RUN, Harness
from tests.unit.remediator.killing import kill_after, restart

OWNERS = {"OWNER": "s3cret-of-the-owner"}


pytestmark = pytest.mark.usefixtures("short_waits")


def harness_with(folder: Path, functions: int) -> tuple[Harness, list[str]]:
    aws = FakeLambda(polls_to_settle=1)
    return Harness(aws, folder), [aws.add(f"f{n}") for n in range(functions)]


def test_killed_at_every_moment_nothing_is_applied_twice_and_nothing_forgotten(tmp_path: Path) -> None:
    for moment in range(200):
        harness, arns = harness_with(tmp_path / str(moment), 2)
        kill_after(harness, moment)
        # How many moments a run has depends on how its journal lines fall together.
        with contextlib.suppress(Killed):
            harness.apply()
            assert moment > 20
            return
        restart(harness)
        check_the_next_run(harness, arns)
        check_the_way_back(harness, arns)
    pytest.fail("no run came to its end")


def check_the_next_run(harness: Harness, arns: list[str]) -> None:
    done = [arn for arn in arns if harness.aws.layers(arn)]
    harness.resolve()
    assert harness.store.list("state/open/") == []
    assert all(entry.outcome is not None for entry in harness.entries())
    assert [arn for arn in arns if harness.aws.layers(arn)] == done, "finding out sends nothing"
    harness.apply(run_id="20261124T054232Z-after")
    for arn in arns:
        assert harness.aws.layers(arn) == [layer(4)]
        assert harness.aws.variables(arn) == OWNERS | OURS
        updates = [call for call in harness.aws.log if call == ("update_function_configuration", arn)]
        assert len(updates) <= 2
    assert harness.plan().changes == ()


def check_the_way_back(harness: Harness, arns: list[str]) -> None:
    """Whatever run put it there: the journals know every change that is in effect."""
    rolled_back = harness.rollback([], arns).changes
    assert list(rolled_back["outcome"]) == ["rolled_back", "rolled_back"]
    for arn in arns:
        assert harness.aws.layers(arn) == []
        assert harness.aws.variables(arn) == OWNERS


def test_a_rollback_killed_at_every_moment_is_resolved_too(tmp_path: Path) -> None:
    for moment in range(100):
        harness, arns = harness_with(tmp_path / str(moment), 2)
        harness.apply()
        countdown = kill_after(harness, moment)
        try:
            harness.rollback([RUN])
        except Killed:
            pass
        else:
            assert countdown.left >= 0
            return
        restart(harness)
        harness.resolve()
        assert harness.store.list("state/open/") == []
        harness.rollback([RUN], run_id="20261125T010000Z-again")
        for arn in arns:
            assert harness.aws.layers(arn) == []
            assert harness.aws.variables(arn) == OWNERS
        again = harness.rollback([RUN], run_id="20261125T020000Z-third").changes
        assert set(again["outcome"]) == {"dropped"}
    pytest.fail("the rollback never ended by itself")


def test_what_aws_could_not_carry_out_is_removed_whenever_the_run_was_killed(tmp_path: Path) -> None:
    for moment in range(200):
        harness, (arn,) = harness_with(tmp_path / str(moment), 1)
        harness.aws.fail_next(arn)
        kill_after(harness, moment)
        with contextlib.suppress(Killed):
            harness.apply()
            assert moment > 10
            return
        restart(harness)
        harness.resolve()
        assert harness.store.list("state/open/") == []
        assert (harness.aws.layers(arn), harness.aws.variables(arn)) == ([], OWNERS)
    pytest.fail("no run came to its end")


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


def until_of(path: Path) -> datetime:
    return datetime.fromisoformat(json.loads(path.read_text())["until"])


def test_the_lock_of_a_process_killed_with_9_is_taken_over_when_it_expires(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "10"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        lock = tmp_path / LOCK
        first = until_of(lock)
        while until_of(lock) == first:  # its holder renews it
            time.sleep(0.05)
        harness, _ = harness_with(tmp_path, 1)
        with pytest.raises(GuardStop, match=r"guard 'lock': run 20261124T034232Z-victim .* is under way"):
            harness.apply()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(GuardStop):
            harness.apply()
        expired = datetime.now(UTC) - timedelta(seconds=1)
        lock.write_text(json.dumps(json.loads(lock.read_text()) | {"until": expired.isoformat()}))
        assert harness.apply().changes["outcome"].tolist() == ["changed"]
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
