"""What a folder and an S3 prefix both promise: one test a promise, run against each."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from storage.destination import open_store
from storage.protocol import Store, Tagged
from storage.segments import Segments, read_segments

BUCKET = "reports-of-111122223333"


@pytest.fixture
def s3(moto_session: boto3.Session) -> boto3.Session:
    moto_session.client("s3").create_bucket(Bucket=BUCKET)
    return moto_session


@pytest.fixture(params=["folder", "s3", "s3 without a prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        made = open_store(str(tmp_path / "not" / "there" / "yet"))
    else:
        session = request.getfixturevalue("s3")
        prefix = "" if request.param.endswith("prefix") else "/some/prefix/"
        made = open_store(f"s3://{BUCKET}{prefix}", session)
    made.check_writable()
    return made


def test_what_is_written_is_read_and_listed(store: Store) -> None:
    large = random.Random(1).randbytes(17 << 20)  # S3 takes it in parts
    store.write("runs/2026/a.json", b"{}", "application/json")
    store.write("runs/2026/a.json", b'{"second": true}', "application/json")
    store.upload(
        "runs/2026/b.csv", (large[at : at + 100_000] for at in range(0, len(large), 100_000)), "text/csv"
    )
    store.write("runs/2027/c", b"", "text/plain")
    assert store.read("runs/2026/a.json") == b'{"second": true}'
    assert store.read("runs/2026/b.csv") == large
    assert store.list("runs/2026/") == ["runs/2026/a.json", "runs/2026/b.csv"]
    assert store.list("runs/2026/b") == ["runs/2026/b.csv"]
    assert store.list("runs/1999/") == []


def test_what_is_not_there_is_none_and_deleting_it_is_no_error(store: Store) -> None:
    assert store.read("state/lock") is None
    store.delete("state/lock")
    store.write("state/lock", b"x", "text/plain")
    store.delete("state/lock")
    assert store.read("state/lock") is None


def test_exactly_one_of_many_creates(store: Store) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if store.create("state/lock", f"owner {number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("state/lock") == f"owner {won[0]}".encode()
    store.delete("state/lock")
    assert store.create("state/lock", b"the next one")


def test_a_file_is_replaced_by_who_has_read_it_last(store: Store) -> None:
    first = store.create("state/lock", b"owner 1")
    assert first
    assert store.read_tagged("state/lock") == Tagged(b"owner 1", first)
    second = store.replace("state/lock", b"owner 2", first)
    assert second
    assert second != first
    assert store.replace("state/lock", b"owner 3", first) is None
    assert store.read_tagged("state/lock") == Tagged(b"owner 2", second)
    store.delete("state/lock")
    assert store.replace("state/lock", b"owner 3", second) is None
    assert store.read_tagged("state/lock") is None


def test_exactly_one_of_many_replaces(store: Store) -> None:
    tag = store.create("state/lock", b"nobody")
    assert tag
    with ThreadPoolExecutor(12) as pool:
        tags = list(
            pool.map(lambda number: store.replace("state/lock", b"owner %d" % number, tag), range(12))
        )
    (winner,) = [number for number, given in enumerate(tags) if given]
    assert store.read_tagged("state/lock") == Tagged(b"owner %d" % winner, tags[winner] or "")


def test_folders_are_found_without_their_files(store: Store) -> None:
    for path in (
        "journals/20261124T-a/1",
        "journals/20261124T-a/2",
        "journals/20261124T-b/1",
        "journals/20261125T/1",
    ):
        store.write(path, b"x", "text/plain")
    store.write("journals/20261124-a-file", b"x", "text/plain")
    assert store.folders("journals/20261124") == ["20261124T-a", "20261124T-b"]
    assert store.folders("journals/") == ["20261124T-a", "20261124T-b", "20261125T"]
    assert store.folders("runs/2026/") == []
    assert store.list("journals/20261124T") == [
        f"journals/20261124T-{file}" for file in ("a/1", "a/2", "b/1")
    ]
    assert store.list("journals/20261124T-b/") == ["journals/20261124T-b/1"]


def test_lines_are_durable_when_append_returns_and_two_writers_lose_nothing(store: Store) -> None:
    """Two processes that write on one journal, each with its own idea of the next number."""
    writers = [Segments(store, "journals/run"), Segments(store, "journals/run")]
    lost: list[int] = []

    def add(number: int) -> None:
        lines = b'{"change": %d}\n' % number
        writers[number % 2].append(lines)
        if lines not in [found for _, found in read_segments(store, ["journals/run/"])]:
            lost.append(number)

    for number in range(40):
        add(number)
    found = list(read_segments(store, ["journals/ru"]))
    assert not lost
    assert sorted(lines for _, lines in found) == sorted(b'{"change": %d}\n' % number for number in range(40))
    assert [path for path, _ in found] == [f"journals/run/{number:05}.jsonl" for number in range(1, 41)]


def test_a_file_whose_source_breaks_off_is_not_written(store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * (9 << 20)
        raise ValueError("a broken frame")

    with pytest.raises(ValueError, match="a broken frame"):
        store.upload("runs/1/functions.csv", chunks(), "text/csv")
    assert store.list("") == store.list("state/")


def test_publishing_replaces_the_whole_folder(store: Store) -> None:
    store.write("runs/1/plan.json", b"1", "application/json")
    store.write("runs/1/summary.json", b"one", "application/json")
    store.write("runs/2/functions.csv", b"2", "text/csv")
    store.write("runs/2/summary.json", b"two", "application/json")
    store.publish("runs/1", "latest", ["plan.json", "summary.json"])
    assert store.read("latest/summary.json") == b"one"
    store.publish("runs/2", "latest", ["functions.csv", "summary.json"])
    assert store.list("latest/") == ["latest/functions.csv", "latest/summary.json"]
    assert store.read("latest/summary.json") == b"two"
    assert store.read("latest/plan.json") is None


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_no_path_leaves_the_store(store: Store, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside the store"):
        store.write(path, b"x", "text/plain")
