"""The lock over weeks: holders that are suspended, killed and late, and what earlier releases left."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.journal.journals import Journals
from remediator.journal.upgrade import upgrade
from remediator.rollout.lock import LOCK, RunLock
from scanner.core.errors import BadInput, GuardStop
from storage.folder import FolderStore
from tests.clocks import MovedClock
from tests.unit.remediator.harness import settings

A, B, C = "20261124T095000Z-aaaaaa", "20261124T100000Z-bbbbbb", "20261124T110000Z-cccccc"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def edit(store: FolderStore, **fields: object) -> None:
    path = store.root / LOCK
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def expire(store: FolderStore) -> None:
    edit(store, until=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())


def number(store: FolderStore) -> int:
    return int(json.loads((store.root / LOCK).read_text())["number"])


def test_a_holder_that_was_suspended_never_holds_it_again(store: FolderStore) -> None:
    """A is suspended; B takes the lock over and releases it; C takes it; A wakes up, renews, and ends."""
    first = RunLock(store, A)
    first.__enter__()
    expire(store)
    with RunLock(store, B):
        pass
    with RunLock(store, C) as third:
        with pytest.raises(GuardStop, match="taken the lock over"):
            first.check()
        first._released.set()
        assert not first._renew()
        first.__exit__(None, None, None)
        third.check()
        held = third.held_by()
        assert held is not None
        assert held[0] == C


def test_no_number_is_ever_used_twice(store: FolderStore) -> None:
    numbers = []
    for run_id in (A, B, A, C):
        with RunLock(store, run_id):
            numbers.append(number(store))
    assert numbers == [1, 2, 3, 4]


def test_the_same_number_under_another_run_id_is_another_holder(store: FolderStore) -> None:
    """As where someone deletes the file by hand, and the numbers begin again."""
    with RunLock(store, A) as first:
        store.delete(LOCK)
        with RunLock(store, B) as second:
            second.check()
            with pytest.raises(GuardStop, match="taken the lock over"):
                first.check()


@pytest.mark.parametrize("clock", ["ahead", "up"])
def test_time_that_passed_unnoticed_costs_the_lock(store: FolderStore, clock: str) -> None:
    """A suspended laptop's uptime goes on, and so does the wall clock of a virtual machine that was paused."""
    moved = MovedClock()
    with RunLock(store, A, clock=moved) as held:
        held.check()
        setattr(moved, clock, timedelta(seconds=301))
        with pytest.raises(GuardStop, match="has expired"):
            held.check()


def test_steps_of_one_run_renew_it_beside_each_other(store: FolderStore) -> None:
    with RunLock(store, A, step="first"):
        pass
    with RunLock(store, A, step="middle") as one, RunLock(store, A, step="middle") as other:
        for step in (one, other, one, one, other):
            assert step._renew()
            step.check()
    assert RunLock(store, B).held_by() is not None
    with RunLock(store, A, step="last") as last:
        last.check()
    assert RunLock(store, B).held_by() is None


def test_a_step_whose_run_has_lost_it_gets_it_no_more(store: FolderStore) -> None:
    with RunLock(store, A, step="first"):
        pass
    expire(store)
    with RunLock(store, B) as other:
        with (
            RunLock(store, A, step="middle") as step,
            pytest.raises(GuardStop, match="between two of its steps"),
        ):
            step.check()
        other.check()


@pytest.mark.parametrize("until", ["2099-01-01T00:00:00+00:00", "2026-11-24T00:00:00+00:00"])
def test_a_lock_of_the_release_before_is_respected_and_its_number_goes_on(
    store: FolderStore, until: str
) -> None:
    former = {"run_id": A, "host": "h", "pid": 1, "until": until}
    store.write("state/lock/00000041.json", json.dumps(former).encode(), "application/json")
    if until.startswith("2099"):
        with pytest.raises(GuardStop, match=f"run {A} on h"), RunLock(store, B):
            pass
    else:
        with RunLock(store, B):
            assert number(store) == 42


@pytest.mark.parametrize("text", [b"", b"nonsense", b"[]", b'{"run_id": 1}'])
def test_what_is_no_lock_file_is_one_line_and_never_free(store: FolderStore, text: bytes) -> None:
    store.write(LOCK, text, "application/json")
    with (
        pytest.raises(BadInput, match=r"lock\.json: not a lock file; restore an older version"),
        RunLock(store, A),
    ):
        pass


def test_it_is_released_after_a_renewal_whose_answer_was_lost(store: FolderStore) -> None:
    """What is there is ours, though not what was last known: another step's, or a renewal of this one."""
    with RunLock(store, A):
        edit(store, nonce="written, and the answer lost")
    assert RunLock(store, B).held_by() is None


def test_a_run_of_the_release_before_gets_no_lock_any_more(store: FolderStore) -> None:
    """Release 0.1 takes the highest file of state/lock/ for the lock, and refuses while it has not expired."""
    with RunLock(store, A):
        upgrade(Journals(store, settings()), A)
    *_, last = store.list("state/lock/")
    holder = json.loads(store.read(last) or b"")
    assert last.endswith("/99999999.json")
    assert datetime.fromisoformat(holder["until"]) > datetime(9000, 1, 1, tzinfo=UTC)
    with RunLock(store, B):
        assert number(store) == 2
