"""A store that fails at one place: the changes are made and told, and the run ends in order."""

from pathlib import Path

import pytest

from remediator.lock import RunLock
from reports.run_files import write_run
from reports.store import FolderStore
from reports.store_base import StoreFailed
from scanner.errors import GuardStop
from tests.unit.remediator.fake_lambda import FakeLambda, layer
from tests.unit.remediator.house import RUN, House, hurry
from tests.unit.reports.frames import organization


class FailsAt(FolderStore):
    """Refuses one operation on paths that begin so, once `armed`."""

    operation, path, armed = "", "", True

    def _refuse(self, operation: str, path: str) -> None:
        if self.armed and operation == self.operation and path.startswith(self.path):
            raise StoreFailed(f"s3: can't {operation} {path}")

    def write(self, path: str, body: bytes, content_type: str) -> None:
        self._refuse("write", path)
        super().write(path, body, content_type)

    def read(self, path: str) -> bytes | None:
        self._refuse("read", path)
        return super().read(path)

    def list(self, prefix: str) -> list[str]:
        self._refuse("list", prefix)
        return super().list(prefix)

    def delete(self, path: str) -> None:
        self._refuse("delete", path)
        super().delete(path)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    hurry(monkeypatch)
    return House(FakeLambda(), tmp_path)


def failing(house: House, operation: str, path: str) -> FailsAt:
    store = FailsAt(house.store.root)
    store.operation, store.path = operation, path
    house.store = store
    return store


@pytest.mark.parametrize("path", ["state/drift/", "state/failures.json"])
def test_what_a_run_has_learnt_can_not_be_kept(house: House, path: str) -> None:
    arn = house.aws.add()
    failing(house, "write" if "drift" in path else "read", path)
    applied = house.apply()
    assert applied.changes["outcome"].tolist() == ["changed"]
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "memory"
    assert house.aws.layers(arn) == [layer(4)]


def test_a_rollback_that_can_not_forget_still_tells_what_it_did(house: House) -> None:
    house.aws.add()
    house.apply()
    failing(house, "read", "state/drift/")
    back = house.rollback([RUN])
    assert back.changes["outcome"].tolist() == ["rolled_back"]
    assert back.stopped_by is not None


def test_a_lock_that_can_not_be_read_stops_what_has_not_begun(house: House) -> None:
    store = failing(house, "list", "state/lock/")
    store.armed = False
    with RunLock(house.store, RUN) as lock:
        store.armed = True
        with pytest.raises(GuardStop, match="guard 'lock': it could not be read"):
            lock.check()


def test_a_lock_that_can_not_be_given_back_expires(house: House, caplog: pytest.LogCaptureFixture) -> None:
    store = failing(house, "delete", "state/lock/")
    with RunLock(house.store, RUN):
        pass
    assert "expires" in caplog.text
    store.armed = False
    assert store.list("state/lock/") == ["state/lock/00000001.json"]


@pytest.mark.parametrize("break_it", ["latest/summary.json", "latest/units.csv"])
def test_a_run_before_that_can_not_be_read_costs_the_comparison_alone(
    tmp_path: Path, break_it: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FailsAt(tmp_path)
    write_run(store, organization(12, 20))
    store.operation, store.path = "read", break_it
    summary = write_run(store, organization(12, 20))
    assert summary["since_previous"] is None
    assert "not compared with the run before" in caplog.text
