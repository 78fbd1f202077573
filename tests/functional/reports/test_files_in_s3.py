"""Whole runs and a week in S3, as a reader finds them."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import boto3
import pytest

from reports.run_files import begin_run, write_run
from reports.weekly import write_weekly
from storage.destination import open_store
from storage.protocol import Store, StoreFailed
from tests.unit.reports.frames import NOW, organization

BUCKET = "reports-of-111122223333"
TYPES = {"csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8", "json": "application/json"}


@pytest.fixture
def session(moto_session: boto3.Session) -> boto3.Session:
    moto_session.client("s3").create_bucket(Bucket=BUCKET)
    return moto_session


def test_a_runs_files_and_latest_are_whole_and_typed(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}/coverage", session, bucket_owner="123456789012")
    run = organization(functions=200, hostile=True)
    begin_run(store, run.run_id, run.mode)
    summary = write_run(store, run)
    client = session.client("s3")
    for folder in (run.folder, "latest"):
        names = {path.rpartition("/")[2] for path in store.list(f"{folder}/")}
        assert names == {*summary["files"], "summary.json", "run.json"}
        for name in names:
            head = client.head_object(Bucket=BUCKET, Key=f"coverage/{folder}/{name}")
            assert head["ContentType"] == TYPES[name.rpartition(".")[2]]
    body = store.read("latest/functions.csv")
    assert body is not None
    assert len(list(csv.reader(io.StringIO(body.decode(), newline="")))) == 201
    pointer = json.loads(store.read("latest.json") or b"")
    assert (pointer["run_id"], pointer["folder"]) == (run.run_id, run.folder)


def test_each_csv_is_in_the_table_of_its_kind_and_day_too(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}/coverage", session)
    run = organization(functions=200, hostile=True)
    write_run(store, run, gzip_above=40_000)  # so that functions.csv is zipped
    files = {"functions": "functions.csv.gz", "accounts": "accounts.csv", "units": "units.csv"}
    files["changes"] = "changes.csv"
    places = {name: f"tables/{name}/dt=2026-11-24/{run.run_id}/{file}" for name, file in files.items()}
    assert store.list("tables/") == sorted(places.values())
    for name, place in places.items():
        assert store.read(place) == store.read(f"{run.folder}/{files[name]}")


def test_what_an_older_run_left_in_latest_goes(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session)
    first = organization(functions=50)
    begin_run(store, first.run_id, first.mode)
    write_run(store, first)
    second = organization(functions=60, started=NOW + timedelta(hours=1))
    summary = write_run(store, second)
    assert summary["since_previous"]["functions"] == 10
    assert "latest/run.json" not in store.list("latest/")
    assert published(store) == [second.run_id] * 2


def test_runs_that_end_at_once_or_late_leave_the_newest(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session)
    runs = [organization(functions=50, started=NOW + timedelta(hours=hour)) for hour in range(4)]
    with ThreadPoolExecutor(3) as pool:
        assert all(not summary["files_missing"] for summary in pool.map(partial(write_run, store), runs[1:]))
    assert published(store) == [runs[-1].run_id] * 2
    write_run(store, runs[0])
    assert published(store) == [runs[-1].run_id] * 2


def published(store: Store) -> list[str]:
    return [json.loads(store.read(path) or b"")["run_id"] for path in ("latest.json", "latest/summary.json")]


def test_an_upload_that_fails_for_good_costs_that_file_and_keeps_latest(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session)
    write_run(store, organization(functions=50))

    def refuse(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("report.html"):
            params["Bucket"] = "a-bucket-that-is-not-there"

    session.events.register("provide-client-params.s3.PutObject", refuse)
    store = open_store(f"s3://{BUCKET}", session)
    second = organization(functions=60, started=NOW + timedelta(hours=1))
    summary = write_run(store, second)
    assert "report.html: NoSuchBucket" in summary["files_missing"]["report.html"]
    assert json.loads(store.read(f"{second.folder}/summary.json") or b"") == summary
    assert published(store) == [organization().run_id] * 2


def test_copies_that_s3_refuses_are_a_warning(session: boto3.Session) -> None:
    def refuse(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].startswith("latest/"):
            params["CopySource"]["Bucket"] = "a-bucket-that-is-not-there"

    session.events.register("provide-client-params.s3.CopyObject", refuse)
    store = open_store(f"s3://{BUCKET}", session)
    run = organization(functions=50, unread=0)
    summary = write_run(store, run)
    assert (summary["exit_code"], summary["files_missing"]) == (0, {})
    assert "latest/ may have files of an earlier run: can't copy to" in summary["warnings"][0]
    assert json.loads(store.read("latest.json") or b"")["run_id"] == run.run_id


def test_a_run_that_may_not_write_its_folder_is_refused_before_it_begins(session: boto3.Session) -> None:
    def refuse(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].startswith("runs/"):
            params["Bucket"] = "a-bucket-that-is-not-there"

    session.events.register("provide-client-params.s3.PutObject", refuse)
    store = open_store(f"s3://{BUCKET}", session)
    store.check_writable()
    with pytest.raises(StoreFailed, match=r"run\.json"):
        begin_run(store, organization().run_id, "apply")


def test_a_week_is_written_from_what_is_in_the_bucket(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}/coverage", session)
    for hours in (0, 1, 5):
        write_run(store, organization(functions=80, started=NOW + timedelta(hours=hours)))
    summary = write_weekly(store, "2026-W48", NOW + timedelta(hours=6))
    assert summary["sweeps"] == 3
    assert [path.rpartition("/")[2] for path in store.list("weekly/2026-W48/")] == [
        "coverage.csv", "mail.html", "mail.txt", "report.html", "summary.json"
    ]  # fmt: skip
