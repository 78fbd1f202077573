"""`report link`: what a person who has no AWS credentials can open, over HTTP from a moto server."""

import urllib.request
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import yaml

from auto_defender.demo.run import configuration_text
from reports.run_files import write_run
from storage.destination import open_store
from tests.functional.moto_server import auto_defender, environment, reset
from tests.unit.reports.frames import NOW, organization

BUCKET = "reports-of-the-org"


def configured(folder: Path, output: str) -> str:
    settings = yaml.safe_load(configuration_text(folder / "optouts.yaml"))
    path = folder / "auto-defender.yaml"
    path.write_text(yaml.safe_dump(settings | {"output": output}), encoding="utf-8")
    return str(path)


@pytest.fixture
def session(server: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    reset(server)
    for name, value in environment(server, AWS_REGION="us-east-1").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    session = boto3.Session(region_name="us-east-1")
    session.client("s3").create_bucket(Bucket=BUCKET)
    return session


def test_the_newest_report_and_an_earlier_one_open_without_credentials(
    server: str, session: boto3.Session, tmp_path: Path
) -> None:
    store = open_store(f"s3://{BUCKET}/coverage", session)
    earlier, newest = (organization(functions=60, started=NOW + timedelta(hours=hour)) for hour in (0, 1))
    for run in (earlier, newest):
        write_run(store, run)
    before = store.list("")
    config, env = configured(tmp_path, f"s3://{BUCKET}/coverage"), environment(server, AWS_REGION="us-east-1")

    done = auto_defender("report", "link", "--config", config, env=env)
    assert done.exit_code == 0, done.stderr
    assert opened(done.stdout.strip()) == store.read(f"{newest.folder}/report.html")

    one = auto_defender(
        "report", "link", "--config", config, "--run", earlier.run_id, "--hours", "2", "--json", env=env
    )
    assert one.exit_code == 0, one.stderr
    assert (one.summary["run_id"], one.summary["hours"]) == (earlier.run_id, 2)
    assert opened(one.summary["link"]) == store.read(f"{earlier.folder}/report.html")
    assert parse_qs(urlsplit(one.summary["link"]).query)["X-Amz-Expires"] == ["7200"]
    assert store.list("") == before  # who may only read can make a link


def opened(link: str) -> bytes:
    with urllib.request.urlopen(link, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no run has written a report yet: there is no s3://reports-of-the-org/latest.json"),
        (["--run", "20261124T034232Z-ffffff"], "run 20261124T034232Z-ffffff has no report"),
        (["--run", "../../etc"], "'../../etc' is no run id"),
        (["--hours", "169"], "less than or equal to 168"),
    ],
)
def test_where_there_is_none_one_line_says_so(
    server: str, session: boto3.Session, tmp_path: Path, arguments: list[str], said: str
) -> None:
    config = configured(tmp_path, f"s3://{BUCKET}")
    done = auto_defender(
        "report", "link", "--config", config, *arguments, env=environment(server, AWS_REGION="us-east-1")
    )
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_bucket_that_is_not_there_is_said(server: str, session: boto3.Session, tmp_path: Path) -> None:
    config = configured(tmp_path, "s3://nobody-made-this-bucket")
    done = auto_defender(
        "report", "link", "--config", config, env=environment(server, AWS_REGION="us-east-1")
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("auto-defender: output: can't read s3://nobody-made-this-bucket/latest")
    assert "NoSuchBucket" in done.stderr


def test_a_folder_gives_the_address_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run = organization(functions=60)
    write_run(open_store(str(folder)), run)
    done = auto_defender("report", "link", "--config", configured(tmp_path, str(folder)), env=environment())
    assert done.stdout.strip() == (folder / run.folder / "report.html").as_uri()


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
def test_a_newest_run_that_can_not_be_read_is_one_line(tmp_path: Path, body: bytes) -> None:
    folder = tmp_path / "out"
    run = organization(functions=60)
    store = open_store(str(folder))
    write_run(store, run)
    store.write("latest.json", body, "application/json")
    done = auto_defender("report", "link", "--config", configured(tmp_path, str(folder)), env=environment())
    assert done.exit_code == 2
    assert "latest.json is broken" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_newest_run_of_an_older_release_is_found_without_a_pointer(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run = organization(functions=60)
    store = open_store(str(folder))
    write_run(store, run)
    store.delete("latest.json")
    done = auto_defender("report", "link", "--config", configured(tmp_path, str(folder)), env=environment())
    assert done.stdout.strip() == (folder / run.folder / "report.html").as_uri()


@pytest.mark.parametrize("week", ["9999-W52", "9999-W01"])
def test_a_week_that_has_not_begun_is_one_line(tmp_path: Path, week: str) -> None:
    config = configured(tmp_path, str(tmp_path / "out"))
    done = auto_defender("report", "weekly", "--config", config, "--week", week, env=environment())
    assert done.exit_code == 2
    assert f"--week: {week} has not begun" in done.stderr
    assert "Traceback" not in done.stderr
