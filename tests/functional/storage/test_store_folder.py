"""What the disk refuses: one clear line, whichever operation meets it."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.folder import FolderStore
from storage.protocol import StoreFailed
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
        lambda store: store.upload("state/file/x", Path(__file__), "text/plain"),
        lambda store: store.append("state/file/x", b"x"),
        lambda store: store.append("state", b"x"),
        lambda store: store.create_exclusive("state/file/x", b"x"),
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
    store.append("journal", b"the first")
    with files_end_at(15), pytest.raises(StoreFailed, match="can't append to"):
        store.append("journal", b"the second")
    store.append("journal", b"the third")
    assert store.read("journal") == b"the first\nthe third\n"


def test_a_disk_that_fills_up_stops_the_run_and_leaves_nothing_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_briefly(monkeypatch)
    harness = Harness(FakeLambda(), tmp_path)
    arns = [harness.aws.add(f"f{number}") for number in range(50)]
    with files_end_at(24_000):
        applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "journal"
    assert "can't append to" in str(applied.stopped_by)
    changed = {arn for arn in arns if layer(4) in harness.aws.layers(arn)}
    reported = applied.changes.set_index("function_arn")["outcome"]
    assert changed == set(reported[reported == "changed"].index)
    assert 0 < len(changed) < len(arns)
    assert changed <= {entry.intent.function_arn for entry in harness.entries()}
