"""Whole runs and a week in S3, as a reader finds them."""

import csv
import io
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from reports.render import csv as csv_files
from reports.run_files import write_run
from reports.weekly import write_weekly
from storage.destination import open_store
from storage.protocol import StoreFailed
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
    summary = write_run(store, run)
    client = session.client("s3")
    for folder in (run.folder, "latest"):
        names = {path.rpartition("/")[2] for path in store.list(f"{folder}/")}
        assert names == {*summary["files"], "summary.json"}
        for name in names:
            head = client.head_object(Bucket=BUCKET, Key=f"coverage/{folder}/{name}")
            assert head["ContentType"] == TYPES[name.rpartition(".")[2]]
    body = store.read("latest/functions.csv")
    assert body is not None
    assert len(list(csv.reader(io.StringIO(body.decode(), newline="")))) == 201


def test_each_csv_is_in_the_table_of_its_kind_and_day_too(
    session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "GZIP_ABOVE", 40_000)  # so that functions.csv is zipped
    store = open_store(f"s3://{BUCKET}/coverage", session)
    run = organization(functions=200, hostile=True)
    write_run(store, run)
    files = {"functions": "functions.csv.gz", "accounts": "accounts.csv", "units": "units.csv"}
    files["changes"] = "changes.csv"
    places = {name: f"tables/{name}/dt=2026-11-24/{run.run_id}/{file}" for name, file in files.items()}
    assert store.list("tables/") == sorted(places.values())
    for name, place in places.items():
        assert store.read(place) == store.read(f"{run.folder}/{files[name]}")


def test_what_an_older_run_left_in_latest_goes(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}", session)
    first = organization(functions=50)
    store.write(f"{first.folder}/left-behind.txt", b"{}", "text/plain")
    write_run(store, first)
    assert "latest/left-behind.txt" in store.list("latest/")
    second = organization(functions=60, started=NOW + timedelta(hours=1))
    summary = write_run(store, second)
    assert summary["since_previous"]["functions"] == 10
    assert "latest/left-behind.txt" not in store.list("latest/")
    assert json.loads(store.read("latest/summary.json") or b"")["run_id"] == second.run_id


def test_an_upload_that_fails_for_good_keeps_latest_and_the_files(session: boto3.Session) -> None:
    write_run(open_store(f"s3://{BUCKET}", session), organization(functions=50))

    def refuse(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("report.html"):
            params["Bucket"] = "a-bucket-that-is-not-there"

    session.events.register("provide-client-params.s3.PutObject", refuse)
    store = open_store(f"s3://{BUCKET}", session)
    first = json.loads(store.read("latest/summary.json") or b"")
    with pytest.raises(
        StoreFailed, match=r"can't upload s3://\S+report.html: .*files are kept in (\S+)$"
    ) as failed:
        write_run(store, organization(functions=60, started=NOW + timedelta(hours=1)))
    kept = Path(str(failed.value).rpartition(" ")[2])
    assert (kept / "report.html").is_file()
    assert (
        json.loads(store.read("latest/summary.json") or b"")["run_id"]
        == first["run_id"]
        == organization().run_id
    )
    shutil.rmtree(kept)


def test_a_week_is_written_from_what_is_in_the_bucket(session: boto3.Session) -> None:
    store = open_store(f"s3://{BUCKET}/coverage", session)
    for hours in (0, 1, 5):
        write_run(store, organization(functions=80, started=NOW + timedelta(hours=hours)))
    summary = write_weekly(store, "2026-W48", NOW + timedelta(hours=6))
    assert summary["sweeps"] == 3
    assert [path.rpartition("/")[2] for path in store.list("weekly/2026-W48/")] == [
        "coverage.csv", "mail.html", "mail.txt", "report.html", "summary.json"
    ]  # fmt: skip
