"""What the output is connected to: any encoding, a closed pipe, a full disk, a terminal without escape codes, nothing."""

import fcntl
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auto_defender.demo.organization import Organization
from tests.functional.loopback import loopback
from tests.functional.moto_server import Workspace, auto_defender, environment, workspace_with
from tests.machine import ROOT

PROGRAM = [sys.executable, "-m", "auto_defender"]
OPTOUTS = """
optouts:
- {account: "111122223333", reason: Größe des Budgets 予算, owner: søren@example.com}
"""


@pytest.fixture
def paper(tmp_path: Path) -> Workspace:
    """A workspace of which only the opt-outs are read, without any call to AWS."""
    (tmp_path / "optouts.yaml").write_text(OPTOUTS, encoding="utf-8")
    return Workspace(tmp_path, Organization([]))


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "Größe des Budgets 予算 (søren@"),
        ("latin-1", r"Größe des Budgets \u4e88\u7b97 (søren@"),
        ("ascii", r"Gr\xf6\xdfe des Budgets \u4e88\u7b97 (s\xf8ren@"),
        ("ascii:strict", r"Gr\xf6\xdfe des Budgets \u4e88\u7b97 (s\xf8ren@"),
    ],
)
def test_characters_that_the_output_lacks_are_escaped(paper: Workspace, encoding: str, printed: str) -> None:
    env = environment(PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0", PYTHONPATH=str(ROOT))
    command = [*PROGRAM, "optouts", "check", "--config", paper.configure()]
    done = subprocess.run(command, env=env, cwd=paper.folder, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert printed in done.stdout.decode(encoding.partition(":")[0])


def test_an_error_that_quotes_such_characters_is_one_line(paper: Workspace) -> None:
    env = environment(PYTHONIOENCODING="ascii:strict", LC_ALL="C", PYTHONUTF8="0", PYTHONPATH=str(ROOT))
    command = [*PROGRAM, "optouts", "check", "--config", b"gr\xc3\xb6\xff.yaml"]
    done = subprocess.run(command, env=env, cwd=paper.folder, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode("ascii").splitlines()
    assert line.startswith("auto-defender: configuration gr")
    assert line.endswith(".yaml: No such file or directory")


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "--config", "~nobody-here/c.yaml"),
        ("demo", "--output", "~nobody-here/out"),
        ("scan", "--config", "auto-defender.yaml", "--output", "~nobody-here/out"),
        ("report", "link", "--config", "output.yaml"),
        ("plan", "--config", "auto-defender.yaml", "--out", "~nobody-here/plan.json"),
        ("apply", "--config", "auto-defender.yaml", "~nobody-here/plan.json"),
        ("optouts", "check", "--config", "optouts-of-nobody.yaml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_home_folder_of_nobody_is_one_clear_line(
    server: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    workspace = workspace_with(server, tmp_path, 3)
    for name, keys in (
        ("output.yaml", {"output": "~nobody-here/out"}),
        ("optouts-of-nobody.yaml", {"optouts": "~nobody-here/optouts.yaml"}),
    ):
        Path(workspace.configure(**keys)).rename(tmp_path / name)
    workspace.configure()
    env = environment(server, AWS_REGION="us-east-1")
    done = auto_defender(*arguments, env=env, cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "the home folder ~nobody-here is not known; write the whole path" in line


def test_a_closed_pipe_costs_neither_the_work_nor_the_exit_code(server: str, tmp_path: Path) -> None:
    workspace = workspace_with(server, tmp_path, 4)
    reads, writes = os.pipe()
    os.close(reads)
    for stderr in (subprocess.PIPE, writes):
        done = subprocess.run(
            [*PROGRAM, "run", "--config", workspace.configure()],
            env={**environment(server), "PYTHONPATH": str(ROOT)},
            stdout=writes,
            stderr=stderr,
            check=False,
            text=True,
        )
        assert done.returncode == 3, done.stderr  # as without: an account refuses its role
        for line in (done.stderr or "").splitlines():
            assert line.startswith("{"), line
    os.close(writes)
    assert len(list((tmp_path / "out" / "runs").glob("*/*/*/*/report.html"))) == 2


def test_a_reader_that_has_read_enough_sees_no_traceback(paper: Workspace) -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            '"$@" | head -1; echo "${PIPESTATUS[0]}"',
            "-",
            *PROGRAM,
            "optouts",
            "check",
            "--config",
            paper.configure(),
        ],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [f"{paper.folder / 'optouts.yaml'}: 1 entries", "0"]
    assert done.stderr == ""


def test_a_full_disk_under_the_output_is_reported_and_changes_no_exit_code(paper: Workspace) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "optouts", "check", "--config", paper.configure()],
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert done.stderr == "auto-defender: the result could not be printed: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_from_the_beginning(server: str, tmp_path: Path, closed: str) -> None:
    workspace = workspace_with(server, tmp_path, 3)
    done = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "-", *PROGRAM, "run", "--config", workspace.configure()],
        env={**environment(server), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out" / "runs").glob("*/*/*/*/report.html"))


CONFIGURATION = """
organization: {role_name: AutoDefenderMember, regions: [us-east-1, us-west-2]}
defender:
  layers: {python: "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"}
  wrapper: /opt/twistlock/wrapper
risk: {utilization: {enabled: false}}
output: ./out
"""


def shown(folder: Path, environ: dict[str, str], *options: str) -> str:
    """Return what a scan shows on a terminal."""
    (folder / "auto-defender.yaml").write_text(CONFIGURATION)
    own, theirs = pty.openpty()
    with loopback(3, functions=2):
        process = subprocess.Popen(
            [*PROGRAM, "scan", "--config", "auto-defender.yaml", *options],
            cwd=folder,
            env={**_plain(), "PYTHONPATH": str(ROOT), **environ},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        output = bytearray()
        try:
            while part := os.read(own, 65_536):
                output.extend(part)
        except OSError:  # how a terminal's end reads
            pass
        assert process.wait(timeout=60) == 0, output.decode()
    os.close(own)
    return output.decode()


def _plain() -> dict[str, str]:
    """Return this environment without what changes how a terminal is written to."""
    return {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    output = shown(tmp_path, {"TERM": "xterm-256color"})
    assert "\x1b[" in output
    assert "units read: " not in output


@pytest.mark.parametrize(
    "environ", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}, {"TERM": "unknown"}]
)
def test_without_escape_codes_it_shows_lines(tmp_path: Path, environ: dict[str, str]) -> None:
    output = shown(tmp_path, environ)
    assert "\x1b" not in output
    assert "units read: 8 of 8" in output
    assert " INFO " in output  # not JSON
    assert "units read     8 of 8" in output


def test_progress_that_nobody_watches_is_lines(server: str, tmp_path: Path) -> None:
    workspace = workspace_with(server, tmp_path, 3)
    done = auto_defender("run", "--config", workspace.configure(), env=environment(server))
    assert [line for line in done.log if re.match(r"units read: (\d+) of \1 ", line["message"])]
    assert "\x1b" not in done.stderr + done.stdout


def test_two_runs_share_a_folder_at_once(server: str, tmp_path: Path) -> None:
    workspace = workspace_with(server, tmp_path, 4)
    config = workspace.configure()
    both = [
        subprocess.Popen(
            [*PROGRAM, "run", "--json", "--config", config],
            env={**environment(server), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [3, 3], ended
    folders = {path.name: path for path in (tmp_path / "out" / "runs").glob("*/*/*/*")}
    assert len(folders) == 2
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders.values()]
    assert names[0] == names[1]
    assert {"report.html", "functions.csv", "summary.json", "changes.csv"} <= set(names[0])
    latest = (tmp_path / "out" / "latest").resolve()
    assert latest in {folder.resolve() for folder in folders.values()}
    left = [path for path in (tmp_path / "out").rglob(".*") if path.suffix != ".lock"]
    assert left == []  # no write that was begun and left


def test_two_demos_share_a_folder_at_once(tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [*PROGRAM, "demo", "--accounts", "3", "--output", "out"],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert len(list((tmp_path / "out" / "runs").glob("*/*/*/*/report.html"))) == 4
    assert (tmp_path / "out" / "latest" / "report.html").exists()


NON_BLOCKING = """
import sys
from auto_defender.terminal import open_streams, print_result
open_streams(float(sys.argv[2]))
getattr(sys, sys.argv[1]).write("x" * 200_000 + "\\n")
print_result("y" * 200_000)
sys.exit(3)
"""


def into_a_full_pipe(name: str, wait_sec: str) -> tuple[subprocess.Popen[bytes], int]:
    """Print into a pipe that is non-blocking, as ssh and node leave them, and holds 4 KiB."""
    own, theirs = os.pipe()
    os.set_blocking(theirs, False)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-c", NON_BLOCKING, name, wait_sec]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, name: theirs}
    process = subprocess.Popen(command, cwd=ROOT, **streams)  # type: ignore[call-overload]
    os.close(theirs)
    return process, own


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_non_blocking_pipe_gets_everything_that_its_reader_takes(name: str) -> None:
    process, own = into_a_full_pipe(name, "60")
    with os.fdopen(own, "rb") as pipe:
        printed = pipe.read()
    assert process.wait() == 3
    assert printed.count(b"x") == 200_000
    assert printed.count(b"y") == (200_000 if name == "stdout" else 0)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_non_blocking_pipe_that_nobody_reads_costs_no_exit_code(name: str) -> None:
    process, own = into_a_full_pipe(name, "0.1")
    assert process.wait() == 3
    os.close(own)
