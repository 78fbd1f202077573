"""The demo, as a new user starts it: as a process, and with a developer's AWS settings around it."""

import csv
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from auto_defender.demo import run_demo
from auto_defender.demo.functions import SECRET
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID, simulated_aws
from auto_defender.progress import Display
from scanner.risk.catalogue import CHECKS
from scanner.risk.protection import PROTECTIONS
from tests.functional.moto_server import Done, auto_defender, environment, reset, serving

# Nothing listens there, and no such profile exists: whatever the demo would send to them fails.
OF_THE_USERS = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAOFTHEUSERSOFTHEU",
    "AWS_SESSION_TOKEN": "of-the-users",
    "DRY_RUN": "true",
    "EXCLUSION_LIST": "*",
}


@dataclass(frozen=True)
class Demo:
    done: Done
    folder: Path

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "latest" / name).open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def summaries(self) -> dict[str, dict[str, Any]]:
        paths = self.folder.glob("runs/*/*/*/*/summary.json")
        return {summary["mode"]: summary for summary in (json.loads(path.read_text()) for path in paths)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = auto_defender("demo", "--accounts", "6", "--output", str(folder), env=environment(**OF_THE_USERS))
    return Demo(done, folder)


def test_it_ends_well_and_says_where_the_report_is(demo: Demo) -> None:
    assert demo.done.exit_code == 0, demo.done.stderr[-2000:]
    assert "a second run   would change nothing" in demo.done.stdout
    report = demo.done.stdout.split()[-1]
    assert report == str(demo.folder / "latest" / "report.html")
    assert Path(report).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_it_does_a_dry_run_and_then_the_same_with_changes(demo: Demo) -> None:
    runs = demo.summaries()
    assert set(runs) == {"dry_run", "apply"}
    eligible = runs["dry_run"]["eligible"]
    assert eligible > 10
    assert runs["dry_run"]["changes_by_outcome"] == {"planned": eligible}
    assert runs["apply"]["changes_by_outcome"] == {"changed": eligible}
    assert runs["apply"]["eligible"] == 0
    assert runs["apply"]["protected"] == runs["dry_run"]["protected"] + eligible
    assert json.loads((demo.folder / "latest" / "summary.json").read_text())["mode"] == "apply"
    run_id = runs["apply"]["run_id"]
    assert json.loads((demo.folder / "latest.json").read_text())["run_id"] == run_id
    assert (demo.folder / "journals" / run_id).is_dir()


def test_some_functions_are_protected_and_not_where_their_traffic_goes(demo: Demo) -> None:
    effective = demo.summaries()["apply"]["effective_coverage"]
    assert set(effective["by_outcome"]) == {"read"}
    left_behind = [
        row
        for row in demo.rows("functions.csv")
        if (row["protection"], row["effective_protection"]) == ("protected", "unprotected")
    ]
    assert effective["left_behind"] == len(left_behind) > 0
    assert {row["aliases"] for row in left_behind} == {"live=1:unprotected"}
    report = (demo.folder / "latest" / "report.html").read_text(encoding="utf-8")
    assert f"Protected on $LATEST, and not where traffic goes: {len(left_behind)}" in report


def test_every_reason_every_protection_and_every_kind_of_change_is_in_the_mix(demo: Demo) -> None:
    before = demo.summaries()["dry_run"]
    assert set(before["by_reason"]) == {check.code for check in CHECKS}
    assert set(before["by_protection"]) == set(PROTECTIONS)
    assert {change["action"] for change in demo.rows("changes.csv")} == {
        "protect",
        "repair",
        "upgrade",
        "downgrade",
    }


def test_every_account_has_its_outcome(demo: Demo) -> None:
    outcome = {row["account_name"].split()[0]: row["outcome"] for row in demo.rows("accounts.csv")}
    assert outcome == {
        "management": "read",
        "acquired-retail-prod": "access_denied",
        "legacy-crm": "suspended",
        "payments-prod": "read",
        "trading-prod": "opted_out",
        "sandbox": "read",
    }


def test_no_environment_variables_value_leaves_it(demo: Demo) -> None:
    texts = [path.read_bytes() for path in demo.folder.rglob("*") if path.is_file()]
    texts += [demo.done.stdout.encode(), demo.done.stderr.encode()]
    assert len(texts) > 10
    for text in texts:
        assert SECRET.encode() not in text
        assert b"simulated-policy-of-" not in text


def test_hostile_names_stay_text(demo: Demo) -> None:
    html = (demo.folder / "latest" / "report.html").read_text(encoding="utf-8")
    assert "sandbox" in html
    for hostile in ("<img src=x", "<b>R&D</b>", "<script>alert", "<svg onload"):
        assert hostile not in html


def test_logs_are_json_lines_that_name_the_run_they_are_of(demo: Demo) -> None:
    assert {line["level"] for line in demo.done.log} >= {"INFO", "WARNING", "ERROR"}
    for mode, summary in demo.summaries().items():
        lines = [line for line in demo.done.log if line["run_id"] == summary["run_id"]]
        left_alone = {line["function_arn"] for line in lines if line.get("verdict") == "skipped"}
        assert len(left_alone) == summary["skipped"] > 0, mode


def test_a_bucket_gets_the_files_after_the_simulation(tmp_path: Path) -> None:
    """The one thing of the user's that is used is the output that was asked for."""
    with serving() as url:
        reset(url)
        env = environment(url)
        s3 = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        s3.create_bucket(Bucket="demo-of-the-org")
        arguments = ("--accounts", "3", "--output", "s3://demo-of-the-org/a", "--json")
        done = auto_defender("demo", *arguments, env=env, cwd=tmp_path)
        assert done.exit_code == 0, done.stderr[-2000:]
        report = s3.get_object(Bucket="demo-of-the-org", Key="a/latest/report.html")
    assert report["ContentType"].startswith("text/html")
    assert done.summary["mode"] == "apply"
    assert done.summary["units_by_outcome"] == {"read": 2, "access_denied": 2, "suspended": 2}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--output", "{file}/out"), "output: can't write to the folder"),
        (("--output", "gs://bucket"), "neither a folder nor s3://"),
        (("--accounts", "2"), "equal to 3"),
    ],
)
def test_bad_usage_is_reported_before_anything_is_simulated(
    tmp_path: Path, arguments: tuple[str, str], reported: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    option, value = arguments
    done = auto_defender("demo", option, value.format(file=file), env=environment(), cwd=tmp_path)
    assert done.exit_code == 2
    assert reported in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_the_simulation_reaches_nothing_and_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in OF_THE_USERS.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with simulated_aws() as session:
        assert session.client("sts").get_caller_identity()["Account"] == CENTRAL_ACCOUNT_ID
        theirs = {name: value for name, value in OF_THE_USERS.items() if name.startswith("AWS_")}
        assert not theirs.items() & os.environ.items()
        # boto3's own defaults find the simulation too, and a service it lacks is an error.
        assert (
            boto3.client("sts", region_name="us-east-1").get_caller_identity()["Account"]
            == CENTRAL_ACCOUNT_ID
        )
        with pytest.raises(ClientError, match="404"):
            session.client("detective").list_graphs()
    assert dict(os.environ) == before


def test_a_demo_that_is_stopped_says_so(tmp_path: Path) -> None:
    stop = threading.Event()

    class StopsAfterTheFirstUnit(Display):
        def swept(self, progress: Any) -> None:
            stop.set()

    with StopsAfterTheFirstUnit(Console(quiet=True)) as display:
        ending = run_demo(3, str(tmp_path / "out"), display, stop)
    assert ending.summary["mode"] == "dry_run"
    assert ending.exit_code == 3
    assert "a second run" not in ending.text
