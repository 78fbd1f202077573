"""What the disk refuses: one clear line, whichever operation meets it."""

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.folder import FolderStore
from storage.protocol import JSON, StoreFailed
from storage.segments import Segments, read_segments
from tests.unit.remediator.fake_lambda import FakeLambda, layer
from tests.unit.remediator.harness import Harness, wait_briefly


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a disk that fills up does: the write that crosses it is cut off."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.write("state/file/x", b"x", "text/plain"),
        lambda store: store.upload("state/file/x", [b"x"], "text/plain"),
        lambda store: store.create("state/file/x", b"x"),
        lambda store: store.replace("state/file/x", b"x", "tag"),
        lambda store: store.read("state"),
        lambda store: store.delete("state"),
        lambda store: store.publish("state", "state/file/latest", ["x"]),
    ],
)
def test_what_the_system_refuses_is_one_line_with_the_path(
    tmp_path: Path, use: Callable[[FolderStore], object]
) -> None:
    store = FolderStore(tmp_path)
    store.write("state/file", b"in the way", "text/plain")
    with pytest.raises(StoreFailed, match=rf"^can't [a-z ]+ {tmp_path}/state.*: .+$"):
        use(store)
    assert [path.name for path in tmp_path.rglob("*")] == ["state", "file"]


def test_a_folder_that_can_not_be_listed_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StoreFailed, match=f"^can't list {tmp_path}/state: Permission denied$"):
        FolderStore(tmp_path).list("state/")


def test_a_line_that_the_full_disk_cut_off_does_not_stay(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    journal = Segments(store, "journal")
    journal.append(b"the first\n")
    with files_end_at(5), pytest.raises(StoreFailed, match="can't create"):
        journal.append(b"the second\n")
    journal.append(b"the third\n")
    assert [lines for _, lines in read_segments(store, ["journal/"])] == [b"the first\n", b"the third\n"]
    assert len(list((tmp_path / "journal").iterdir())) == 2


class FillsUp(FolderStore):
    """A disk that is full after the lock and three segments."""

    left = 4

    def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
        self.left -= 1
        with files_end_at(resource.RLIM_INFINITY if self.left >= 0 else 5):
            return super().create(path, body, content_type)


def test_a_disk_that_fills_up_stops_the_run_and_leaves_nothing_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_briefly(monkeypatch)
    harness = Harness(FakeLambda(), tmp_path)
    harness.store = FillsUp(tmp_path)
    arns = [harness.aws.add(f"f{number}") for number in range(50)]
    applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "journal"
    assert "can't create" in str(applied.stopped_by)
    changed = {arn for arn in arns if layer(4) in harness.aws.layers(arn)}
    reported = applied.changes.set_index("function_arn")["outcome"]
    assert changed == set(reported[reported == "changed"].index)
    assert 0 < len(changed) < len(arns)
    assert changed <= {entry.intent.function_arn for entry in harness.entries()}


def test_files_follow_the_umask_and_what_coordinates_runs_is_readable_for_who_may_write(
    tmp_path: Path,
) -> None:
    shared, private = tmp_path / "shared", tmp_path / "private"
    for folder, mode in ((shared, 0o2770), (private, 0o700)):
        folder.mkdir()
        folder.chmod(mode)
    before = os.umask(0o077)
    try:
        for folder in (shared, private):
            store = FolderStore(folder)
            store.upload("runs/report.html", [b"x"], "text/html")
            tag = store.create("state/lock.json", b"1")
            store.replace("state/lock.json", b"2", tag or "")
            store.write("state/quarantine.json", b"[]", "application/json")
    finally:
        os.umask(before)
    assert [mode_of(path / "runs/report.html") for path in (shared, private)] == [0o600, 0o600]
    assert [mode_of(path / "state") for path in (shared, private)] == [0o2770, 0o700]
    for name, modes in {
        "lock.json": [0o640, 0o600],
        "quarantine.json": [0o640, 0o600],
        ".lock.json.lock": [0o660, 0o600],
    }.items():
        assert [mode_of(path / "state" / name) for path in (shared, private)] == modes, name
    FolderStore(private).upload("runs/other.html", [b"x"], "text/html")
    assert mode_of(private / "runs/other.html") == 0o666 & ~before


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
