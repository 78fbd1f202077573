"""Ctrl-C, SIGTERM and a lost connection, as a real process of the command line meets them."""

import csv
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_process import RunningServer, running_server
from tests.functional.loopback import REGIONS
from tests.functional.moto_server import configurations, environment, workspace_with
from tests.loaded_python import Done, Program, start
from tests.machine import ROOT

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "auto-defender.yaml").write_text(CONFIGURATION)
    return tmp_path


def started(folder: Path, *arguments: str, **options: Any) -> Program:
    """Start the command line with the configuration in a folder."""
    command = ("-m", "auto_defender", *arguments, "--config", "auto-defender.yaml")
    return start(*command, cwd=folder, **options)


def wait_until(true: Callable[[], bool], program: Program) -> None:
    while not true() and not program.has_ended:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def _slow() -> Iterator[RunningServer]:
    # Slow enough that two workers are still reading when the signal comes, whatever the machine.
    with running_server(ACCOUNTS, functions=2, regions=REGIONS, latency_ms=100) as server:
        yield server


@pytest.fixture
def slow(_slow: RunningServer) -> RunningServer:
    """AWS with a latency, whose counts are at zero."""
    _slow.reset()
    return _slow


def outcomes(folder: Path) -> list[str]:
    """Return the outcome of each unit of the only run, which has a report."""
    (run,) = (folder / "out" / "runs").glob("*/*/*/*")
    assert "timed_out" in (run / "report.html").read_text()
    with (run / "units.csv").open(encoding="utf-8-sig", newline="") as file:
        return [row["outcome"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP, signal.SIGHUP],  # of the kernel and of the shell
        [signal.SIGHUP, signal.SIGTERM],  # of a session that systemd ends
    ],
)
def test_what_was_not_reached_is_reported_and_the_report_is_written(
    slow: RunningServer, folder: Path, numbers: list[signal.Signals]
) -> None:
    program = started(folder, "scan", "--json", env=environment(**slow.environment()))
    wait_until(lambda: slow.stats()["operations"].get("lambda.ListFunctions", 0) >= 3, program)
    for number in numbers:
        program.send_signal(number)
        time.sleep(0.1)  # two signals at once are one
    done = program.wait(300)
    assert done.exit_code == 3, done.stderr
    assert "stopping: units and changes not reached are reported as such" in done.stderr
    assert 0 < done.summary["units_read"] < done.summary["units_expected"]
    units = outcomes(folder)
    assert len(units) == done.summary["units_expected"]
    assert set(units) == {"read", "timed_out"}


def test_what_the_parent_ignores_stays_ignored(folder: Path) -> None:
    """A script's background job ignores Ctrl-C, which is for the script; nohup ignores a lost connection."""
    ignored = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    with running_server(20, functions=2, regions=REGIONS, latency_ms=20) as server:
        program = started(folder, "scan", "--json", env=environment(**server.environment()), ignored=ignored)
        wait_until(lambda: server.stats()["operations"].get("lambda.ListFunctions", 0) >= 3, program)
        for number in ignored:
            program.send_signal(number)
        done = program.wait(300)
    assert done.exit_code == 0, done.stderr
    assert "stopping" not in done.stderr
    assert done.summary["units_read"] == done.summary["units_expected"]


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

    while not is_changing() and process.poll() is None:
        pass
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
    again = started(tmp_path, "run", "--apply", env=environment(server)).wait()
    assert again.exit_code == 3, again.stderr  # 5, if the lock had been left
    assert "run 2" in again.stdout


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
        program = started(folder, *command, env=environment(url, AWS_REGION="us-east-1"))
        wait_until(called.is_set, program)
        program.send_signal(signal.SIGINT)
        done = program.wait(60)
    assert done == Done(130, "", "auto-defender: interrupted\n")


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGINT, ("plan", "--out", "plan.json")),
        (signal.SIGTERM, ("plan", "--out", "plan.json")),
        (signal.SIGHUP, ("plan", "--out", "plan.json")),
        (signal.SIGINT, ("doctor",)),
    ],
)
def test_a_command_that_only_reads_ends_at_once_in_mid_work(
    slow: RunningServer, folder: Path, number: signal.Signals, command: tuple[str, ...]
) -> None:
    program = started(folder, *command, env=environment(**slow.environment()))
    wait_until(lambda: slow.stats()["operations"].get("sts.AssumeRole", 0) >= 3, program)
    program.send_signal(number)
    done = program.wait(60)
    assert (done.exit_code, done.stdout) == (128 + number, "")
    assert done.stderr.splitlines()[-1] == "auto-defender: interrupted"
    assert "Traceback" not in done.stderr
    assert not (folder / "plan.json").exists()


def test_accounts_that_a_signal_kept_from_being_listed_are_no_bad_input(
    slow: RunningServer, folder: Path
) -> None:
    program = started(folder, "scan", env=environment(**slow.environment()))
    wait_until(lambda: slow.stats()["operations"].get("organizations.ListAccounts", 0) >= 1, program)
    program.send_signal(signal.SIGINT)
    done = program.wait(60)
    assert (done.exit_code, done.stdout) == (130, "")
    assert "accounts could not be listed: the run was stopped" in done.stderr.splitlines()[-1]


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
    process = subprocess.Popen(
        [sys.executable, "-m", "auto_defender", "demo", "--accounts", "6", "--verbose"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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
    program = start("-m", "auto_defender", "demo", "--accounts", "200", env=os.environ, cwd=folder)
    wait_until((folder / "demo-out").exists, program)
    program.send_signal(signal.SIGINT)
    done = program.wait(300)
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "auto-defender: the demo was stopped before its first run"
    assert "Traceback" not in done.stderr


LOST = """
import os, signal, time
from auto_defender.signals import Interrupted, StopSignals
with StopSignals(lost_after_sec=0.1):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except Interrupted:
        pass  # as where it is raised within a finalizer
    time.sleep(60)
"""


def test_an_interruption_that_is_lost_ends_the_command_all_the_same() -> None:
    assert start("-c", LOST, env=os.environ).wait(50) == Done(130, "", "auto-defender: interrupted\n")
