"""Ctrl-C, SIGTERM and a lost connection, as a real process of the command line meets them."""

import csv
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_process import ROOT
from tests.functional.loopback import REGIONS, loopback
from tests.functional.moto_server import configurations, environment, workspace_with

ACCOUNTS = 60
CONFIGURATION = f"""
organization: {{role_name: AutoDefenderMember, regions: [{", ".join(REGIONS)}]}}
defender:
  layers: {{python: "arn:aws:lambda:{{region}}:111122223333:layer:twistlock-python:4"}}
  wrapper: /opt/twistlock/wrapper
risk: {{utilization: {{enabled: false}}}}
sweep: {{workers: 2}}
output: ./out
"""
# Makes the terminal on standard input the controlling one of a new session, as a login does, then runs the command.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Let processes inherit the default for SIGHUP, also where these tests run under nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "auto-defender.yaml").write_text(CONFIGURATION)
    return tmp_path


def started(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "auto_defender", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"env": {**os.environ, "PYTHONPATH": str(ROOT)}, **options},
    )


def wait_until(true: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    while not true() and process.poll() is None:
        time.sleep(0.05)


def signalled(
    folder: Path, numbers: Sequence[signal.Signals], *, latency_ms: int = 250
) -> tuple[int, dict[str, Any], str]:
    """Signal a scan in mid-sweep; return its exit code, its summary and its log."""
    # Slow enough that two workers are still reading when the signal comes, whatever the machine.
    with loopback(ACCOUNTS, functions=2, latency_ms=latency_ms) as server:
        process = started(folder, "scan", "--config", "auto-defender.yaml", "--json")
        wait_until(lambda: server.stats()["operations"].get("lambda.ListFunctions", 0) >= 3, process)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.1)  # two signals at once are one
        reported, log = process.communicate(timeout=300)
    return process.returncode, json.loads(reported), log


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGHUP, signal.SIGHUP],  # of the kernel and of the shell
        [signal.SIGHUP, signal.SIGTERM],  # of a session that systemd ends
    ],
)
def test_what_was_not_reached_is_reported_and_the_report_is_written(
    folder: Path, numbers: list[signal.Signals]
) -> None:
    exit_code, summary, log = signalled(folder, numbers)
    assert exit_code == 3, log
    assert "stopping: units and changes not reached are reported as such" in log
    assert 0 < summary["units_read"] < summary["units_expected"]
    (run,) = (folder / "out" / "runs").glob("*/*/*/*")
    with (run / "units.csv").open(encoding="utf-8-sig", newline="") as file:
        outcomes = [row["outcome"] for row in csv.DictReader(file)]
    assert len(outcomes) == summary["units_expected"]
    assert set(outcomes) == {"read", "timed_out"}
    assert "timed_out" in (run / "report.html").read_text()


def test_under_nohup_a_lost_connection_stops_nothing(folder: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    exit_code, summary, log = signalled(folder, [signal.SIGHUP], latency_ms=20)
    assert exit_code == 0, log
    assert "stopping" not in log
    assert summary["units_read"] == summary["units_expected"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_the_parent_ignores_stays_ignored(folder: Path, number: signal.Signals) -> None:
    """A script's background job ignores SIGINT: Ctrl-C is for the script."""
    former = signal.signal(number, signal.SIG_IGN)
    try:
        exit_code, summary, log = signalled(folder, [number], latency_ms=20)
    finally:
        signal.signal(number, former)
    assert exit_code == 0, log
    assert "stopping" not in log
    assert summary["units_read"] == summary["units_expected"]


def test_a_lost_terminal_leaves_no_change_half_made(server: str, tmp_path: Path) -> None:
    """The kernel sends SIGHUP, and every write to the terminal fails from then on."""
    workspace = workspace_with(server, tmp_path, 6)
    accounts = [account.id for account in workspace.organization.accounts]
    before = configurations(accounts)
    own, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ON_A_TERMINAL,
            "-m",
            "auto_defender",
            "run",
            "--apply",
            "--config",
            workspace.configure(),
        ],
        cwd=tmp_path,
        env={**environment(server), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = bytearray()

    def is_changing() -> bool:
        seen.extend(os.read(own, 65_536))
        return b"changes" in seen

    wait_until(is_changing, process)
    os.close(own)
    assert process.wait(timeout=300) in (0, 3), (
        seen.decode()
    )  # 0: all was changed before the terminal went away

    (run,) = (tmp_path / "out" / "runs").glob("*/*/*/*")
    with (run / "changes.csv").open(encoding="utf-8-sig", newline="") as file:
        changes = {row["function_arn"]: row["outcome"] for row in csv.DictReader(file)}
    after = configurations(accounts)
    written = {arn for arn in after if after[arn]["RevisionId"] != before[arn]["RevisionId"]}
    assert written == {arn for arn, outcome in changes.items() if outcome == "changed"}
    assert (run / "report.html").exists()
    again = started(tmp_path, "run", "--apply", "--config", "auto-defender.yaml", env=environment(server))
    reported, log = again.communicate(timeout=300)
    assert again.returncode == 3, log  # 5, if the lock had been left
    assert "run 2" in reported


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that accepts and never answers; yield its address, and an event that is set once it is called."""
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            accepted = []
            try:
                while True:
                    accepted.append(listening.accept())
                    called.set()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", called
        listening.shutdown(socket.SHUT_RDWR)


ARN = "arn:aws:lambda:us-east-1:111122223333:function:orders"


@pytest.mark.parametrize(
    "command",
    [
        ("scan",),
        ("run", "--apply"),
        ("plan", "--out", "plan.json"),
        ("apply", "plan.json"),
        ("rollback", "--function", ARN, "--apply"),
        ("explain", ARN),
        ("doctor",),
        ("report", "weekly"),
        ("report", "link"),
        ("optouts", "check"),
    ],
    ids=" ".join,
)
def test_a_command_that_has_done_nothing_yet_ends_at_the_first_ctrl_c(
    folder: Path, command: tuple[str, ...]
) -> None:
    bucket = CONFIGURATION.replace("./out", "s3://reports") + "optouts: s3://reports/optouts.yaml\n"
    (folder / "auto-defender.yaml").write_text(bucket)
    with silent_server() as (url, called):
        process = started(folder, *command, "--config", "auto-defender.yaml", env=_environment(url))
        wait_until(called.is_set, process)
        process.send_signal(signal.SIGINT)
        reported, log = process.communicate(timeout=60)
    assert (process.returncode, reported) == (130, "")
    assert log == "auto-defender: interrupted\n"


def _environment(url: str) -> dict[str, str]:
    return environment(url, AWS_REGION="us-east-1", PYTHONPATH=str(ROOT))


@pytest.mark.parametrize("command", [("plan", "--out", "plan.json"), ("doctor",)], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_only_reads_ends_at_once_in_mid_work(
    folder: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    with loopback(ACCOUNTS, functions=2, latency_ms=250) as server:
        process = started(folder, *command, "--config", "auto-defender.yaml")
        wait_until(lambda: server.stats()["operations"].get("sts.AssumeRole", 0) >= 3, process)
        process.send_signal(number)
        reported, log = process.communicate(timeout=60)
    assert (process.returncode, reported) == (128 + number, "")
    assert log.splitlines()[-1] == "auto-defender: interrupted"
    assert "Traceback" not in log
    assert not (folder / "plan.json").exists()


def test_accounts_that_a_signal_kept_from_being_listed_are_no_bad_input(folder: Path) -> None:
    with loopback(ACCOUNTS, functions=2, latency_ms=1500) as server:
        process = started(folder, "scan", "--config", "auto-defender.yaml")
        wait_until(lambda: server.stats()["operations"].get("organizations.ListAccounts", 0) >= 1, process)
        process.send_signal(signal.SIGINT)
        reported, log = process.communicate(timeout=60)
    assert (process.returncode, reported) == (130, "")
    assert "accounts could not be listed: the run was stopped" in log.splitlines()[-1]


def test_ctrl_c_while_the_program_is_loaded_is_one_line(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "auto_defender", "doctor", "--config", "none.yaml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "botocore" in line or "pandas" in line:
            process.send_signal(signal.SIGINT)
            break
    lines = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.wait(timeout=60) == 130
    assert lines == ["auto-defender: interrupted"]


@pytest.mark.parametrize("seen", ["units read", "changes"])
def test_the_demo_stops_in_good_order(folder: Path, seen: str) -> None:
    process = started(folder, "demo", "--accounts", "6", "--verbose")
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if seen in line:
            process.send_signal(signal.SIGINT)
            break
    reported, rest = process.communicate(timeout=300)
    assert process.returncode in (0, 3), log + rest  # 0: it had ended
    assert "Traceback" not in log + rest
    assert "a simulated organization of 6 accounts" in reported
    assert list((folder / "demo-out" / "runs").glob("*/*/*/*/report.html"))


def test_a_demo_that_is_stopped_before_its_first_run_says_so(folder: Path) -> None:
    process = started(folder, "demo", "--accounts", "200")
    wait_until((folder / "demo-out").exists, process)
    process.send_signal(signal.SIGINT)
    reported, log = process.communicate(timeout=300)
    assert (process.returncode, reported) == (130, "")
    assert log.splitlines()[-1] == "auto-defender: the demo was stopped before its first run"
    assert "Traceback" not in log


LOST = """
import os, signal, time
from auto_defender.signals import Interrupted, StopSignals
with StopSignals():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except Interrupted:
        pass  # as where it is raised within a finalizer
    time.sleep(60)
"""


def test_an_interruption_that_is_lost_ends_the_command_all_the_same(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (130, "auto-defender: interrupted\n")
