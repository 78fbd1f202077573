"""What a folder and an S3 prefix both promise: one test a promise, run against each."""

import threading
from pathlib import Path

import boto3
import pytest

from storage.destination import open_store
from storage.protocol import Store

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


def test_what_is_written_is_read_and_listed(store: Store, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (9 << 20))  # S3 takes it in parts
    store.write("runs/2026/a.json", b"{}", "application/json")
    store.write("runs/2026/a.json", b'{"second": true}', "application/json")
    store.upload("runs/2026/b.csv", large, "text/csv")
    store.write("runs/2027/c", b"", "text/plain")
    assert store.read("runs/2026/a.json") == b'{"second": true}'
    assert store.read("runs/2026/b.csv") == large.read_bytes()
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
        if store.create_exclusive("state/lock", f"owner {number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("state/lock") == f"owner {won[0]}".encode()
    store.delete("state/lock")
    assert store.create_exclusive("state/lock", b"the next one")


def test_every_appended_line_is_durable_when_append_returns(store: Store) -> None:
    lost: list[int] = []

    def add(number: int) -> None:
        line = b'{"change": %d}' % number
        store.append("runs/r/journal.jsonl", line)
        if line not in (store.read("runs/r/journal.jsonl") or b"").split(b"\n"):
            lost.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (store.read("runs/r/journal.jsonl") or b"").splitlines()
    assert not lost
    assert sorted(lines) == sorted(b'{"change": %d}' % number for number in range(40))


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
