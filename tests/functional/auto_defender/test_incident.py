"""Three in the morning: one function is slow, a run may be under way, and an operator has a terminal."""

import csv
import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.awslambda.models import lambda_backends

from auto_defender.config import read_configuration
from auto_defender.demo.function_kinds import WRAPPER
from remediator.change.records import OutcomeRecord
from remediator.journal.journal import Entry, Journal
from remediator.journal.journals import Journals
from remediator.rollout.lock import RunLock
from remediator.state.order import Order
from remediator.state.quarantine import quarantined
from scanner.settings import EXEC_WRAPPER
from storage.folder import FolderStore
from tests.functional.moto_server import Done, auto_defender, environment, workspace_with
from tests.machine import ROOT

HOLDER = "20261124T034232Z-1a2b3c"


class Incident:
    """An organization after a run; `arn` is one of the functions that the run protected."""

    def __init__(self, server: str, folder: Path) -> None:
        self.workspace = workspace_with(server, folder, 4)
        self.env = environment(server)
        self.config = self.workspace.configure(risk={"utilization": {"enabled": False}})
        self.store = FolderStore(folder / "out")
        done = auto_defender("run", "--config", self.config, "--apply", "--json", env=self.env)
        self.run_id: str = done.summary["run_id"]
        protected = {"action": "protect", "outcome": "changed"}
        changed = [row for row in self.rows(self.run_id) if protected.items() <= row.items()]
        self.arn, self.other, *_ = [row["function_arn"] for row in changed]

    def rows(self, run_id: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.workspace.run_file(run_id, "changes.csv"))))

    def command(self, *arguments: str) -> Done:
        return auto_defender("rollback", "--config", self.config, *arguments, env=self.env)

    def function(self, arn: str) -> Any:
        _, _, _, region, account, _, name = arn.split(":")
        return lambda_backends[account][region].get_function(name)

    @property
    def layers(self) -> list[str]:
        return [layer["Arn"] for layer in self.function(self.arn).layers]

    def history(self) -> list[Entry]:
        settings = read_configuration(Path(self.config).read_bytes(), self.config, {})
        return Journals(self.store, settings.defender).history()

    def files(self) -> set[str]:
        return {path.as_posix() for path in self.store.root.rglob("*") if path.is_file()}

    @contextmanager
    def begun(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "auto_defender", "rollback", "--config", self.config, *arguments]
        process = subprocess.Popen(
            command,
            env={**self.env, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def incident(server: str, tmp_path: Path) -> Incident:
    return Incident(server, tmp_path)


def first_line(process: subprocess.Popen[str], having: str) -> str:
    """Read the log up to the first line that has a text."""
    assert process.stderr is not None
    for line in process.stderr:
        if having in line:
            return line
    raise AssertionError(f"the process ended without a line that has {having!r}")


def test_one_command_rolls_a_function_back_and_reports_what_it_did(incident: Incident) -> None:
    arn, function = incident.arn, incident.function(incident.arn)
    functions = lambda_backends[arn.split(":")[4]][arn.split(":")[3]]
    functions.publish_version(arn, "with the Defender")
    functions.create_alias("live", function.function_name, "1", "", {"AdditionalVersionWeights": {}})
    functions.create_alias("next", function.function_name, "$LATEST", "", {})
    (ours,) = [layer for layer in incident.layers if "layer:twistlock-" in layer]

    dry = incident.command("--function", arn)
    assert dry.exit_code == 0, dry.stderr[-2000:]
    assert (
        f"planned        {arn}\n  layer        {ours} -> none\n  wrapper      {WRAPPER} -> none\n"
        in dry.stdout
    )
    assert "aliases      live=1 (" in dry.stdout
    assert "dry run: nothing was changed" in dry.stdout
    assert ours in incident.layers

    done = incident.command("--function", arn, "--apply", "--wait", "--json")
    assert done.exit_code == 0, done.stderr[-2000:]
    (row,) = done.summary["rollback"]
    assert row == {
        "function_arn": arn,
        "outcome": "rolled_back",
        "as_before": True,
        "layer_before": ours,
        "layer_after": "",
        "wrapper_before": WRAPPER,
        "wrapper_after": "",
        "aliases": "live=1",
        "detail": row["detail"],
    }
    assert ours not in incident.layers
    assert EXEC_WRAPPER not in incident.function(arn).environment_vars
    (reported,) = incident.rows(done.summary["run_id"])
    assert {key: reported[key] for key in ("layer_before", "layer_after", "wrapper_after", "as_before", "aliases")} == {
        "layer_before": ours, "layer_after": "", "wrapper_after": "", "as_before": "true", "aliases": "live=1",
    }  # fmt: skip

    again = incident.command("--function", arn, "--apply")
    assert again.exit_code == 0, "it is as it was"
    assert f"already rolled back by run {done.summary['run_id']}" in again.stdout
    assert "as before      1 of 1 functions" in again.stdout


def test_what_is_not_done_ends_with_4_and_names_each_function(incident: Incident) -> None:
    newer = [{"Arn": layer.rpartition(":")[0] + ":9"} for layer in incident.layers]
    incident.function(incident.arn).layers = newer
    back = incident.command("--function", incident.arn, "--function", incident.other, "--apply")
    assert back.exit_code == 4, back.stderr[-2000:]
    assert f"dropped        {incident.arn}\n" in back.stdout
    assert "it carries version 9 of the layer now" in back.stdout
    assert f"rolled_back    {incident.other}\n" in back.stdout
    assert "as before      1 of 2 functions" in back.stdout
    assert incident.arn not in {entry.function_arn for entry in quarantined(incident.store)}
    assert incident.command("--function", incident.arn).exit_code == 4, "the dry run foretells it"


def test_a_typo_ends_with_2_before_anything_is_written(incident: Incident) -> None:
    before, typo = incident.files(), f"{incident.arn}x"
    for arguments in (
        ("--function", typo),
        ("--function", typo, "--apply", "--stop"),
        ("--function", incident.arn, "--function", typo, "--apply"),
        ("--function", f"{incident.arn}:live", "--apply"),
        ("--account", "1234", "--apply", "--stop"),
        ("--account", "999999999999", "--apply"),
        ("--wave", "no-such-wave", "--apply"),
        ("--run", "yesterday", "--apply"),
        ("--run", "20260101T000000Z-ffffff", "--apply", "--stop"),
    ):
        done = incident.command(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith("auto-defender: ")
        assert done.stderr.count("\n") == 1
    assert incident.files() == before


def test_an_account_then_everything_is_rolled_back(incident: Incident) -> None:
    account = incident.arn.split(":")[4]
    changed = {row["function_arn"] for row in incident.rows(incident.run_id) if row["outcome"] == "changed"}
    of_account = {arn for arn in changed if arn.split(":")[4] == account}
    done = incident.command("--account", account, "--apply", "--json")
    assert {row["function_arn"] for row in done.summary["rollback"]} == of_account
    rest = incident.command("--all", "--apply", "--json")
    left = not_as_before(done) | not_as_before(rest)
    assert {row["function_arn"] for row in rest.summary["rollback"]} == changed - of_account | not_as_before(
        done
    )
    assert not [layer for layer in incident.layers if "layer:twistlock-" in layer]
    again = incident.command("--all", "--json")
    assert {row["function_arn"] for row in again.summary["rollback"]} == left


def not_as_before(done: Done) -> set[str]:
    """Return the functions that are not as they were: those whose replaced values nobody knows, and exit code 4."""
    rows = [row for row in done.summary["rollback"] if not row["as_before"]]
    assert all(row["detail"].startswith("only values were replaced") for row in rows)
    assert done.exit_code == (4 if rows else 0), done.stderr[-2000:]
    return {row["function_arn"] for row in rows}


def test_a_function_whose_journal_is_lost_is_rolled_back_by_what_it_carries(incident: Incident) -> None:
    shutil.rmtree(incident.store.root / "journals")
    before = dict(incident.function(incident.arn).environment_vars)
    dry = incident.command("--function", incident.arn)
    assert dry.exit_code == 0, dry.stderr[-2000:]
    done = incident.command("--function", incident.arn, "--apply", "--json")
    assert done.exit_code == 0, done.stderr[-2000:]
    (row,) = done.summary["rollback"]
    assert (row["outcome"], row["as_before"], row["wrapper_before"]) == ("rolled_back", True, WRAPPER)
    assert not [layer for layer in incident.layers if "layer:twistlock-" in layer]
    removed = before.keys() - incident.function(incident.arn).environment_vars.keys()
    assert removed == {EXEC_WRAPPER, "TW_POLICY"}
    explained = auto_defender("explain", "--config", incident.config, incident.arn, env=incident.env)
    assert f"rolled_back; removes layer {row['layer_before']}, {EXEC_WRAPPER}, TW_POLICY" in explained.stdout
    again = incident.command("--function", incident.arn, "--apply")
    assert again.exit_code == 0, "a journal knows it now"


def test_a_dry_run_can_not_stop_a_run(incident: Incident) -> None:
    done = incident.command("--function", incident.arn, "--stop")
    assert done.exit_code == 2
    assert "--stop needs --apply" in done.stderr
    assert incident.store.read("state/stop") is None


def test_a_run_under_way_is_named_with_what_can_be_done_about_it(incident: Incident) -> None:
    with RunLock(incident.store, HOLDER):
        done = incident.command("--function", incident.arn, "--apply")
        dry = incident.command("--function", incident.arn)
    assert (done.exit_code, done.stdout) == (5, "")
    for text in (HOLDER, "--wait", "--stop"):
        assert text in done.stderr
    assert dry.exit_code == 0
    assert f"run {HOLDER} is under way: with --apply, add --wait or --stop" in dry.stderr


def test_wait_lets_a_run_end_and_sees_what_it_did_until_then(incident: Incident) -> None:
    """What is rolled back is chosen under the lock: meanwhile the run under way has rolled back one function itself."""
    (entry,) = [entry for entry in incident.history() if entry.intent.function_arn == incident.arn]
    undoes = ((entry.intent.run_id, entry.intent.id),)
    meanwhile = replace(entry.intent, id="0.0.1", run_id=HOLDER, action="rollback", undoes=undoes)
    with ExitStack() as held, incident.begun("--run", incident.run_id, "--apply", "--wait") as process:
        held.enter_context(RunLock(incident.store, HOLDER))
        assert f"run {HOLDER} has it until" in first_line(process, "waiting until the lock is free")
        journal = Journal(incident.store, HOLDER, Order(incident.store))
        journal.record_intents([meanwhile])
        journal.record_outcomes([OutcomeRecord(meanwhile.id, "rolled_back", "", 1)])
        held.close()
        out, log = process.communicate(timeout=120)
    assert process.returncode == 4, log[-2000:]
    assert f"already rolled back by run {HOLDER}, and deployed again since" in out
    assert f"rolled_back    {incident.other}\n" in out
    assert incident.store.read("state/stop") is None


def test_ctrl_c_ends_the_wait(incident: Incident) -> None:
    with (
        RunLock(incident.store, HOLDER),
        incident.begun("--function", incident.arn, "--apply", "--wait") as process,
    ):
        first_line(process, "waiting until the lock is free")
        process.send_signal(signal.SIGINT)
        out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Nothing was rolled back" in log
    assert incident.layers


def test_stop_puts_state_stop_waits_and_leaves_it_on(incident: Incident) -> None:
    with ExitStack() as held, incident.begun("--function", incident.arn, "--apply", "--stop") as process:
        held.enter_context(RunLock(incident.store, HOLDER))
        assert incident.store.url("state/stop") in first_line(process, "makes no further change")
        first_line(process, "waiting until the lock is free")
        assert incident.layers, "not before the run under way has ended"
        held.close()
        out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log[-2000:]
    note = (incident.store.read("state/stop") or b"").decode()
    assert note.startswith("put by rollback --stop, run 2")
    assert f"rm {incident.store.url('state/stop')}" in out
    incident.function(incident.other).layers = []  # something that a run would do
    stopped = auto_defender("run", "--config", incident.config, "--apply", "--json", env=incident.env)
    assert (stopped.exit_code, stopped.summary["changed"]) == (5, 0)
    assert "put by rollback --stop" in stopped.stderr
    again = incident.command("--function", incident.other, "--apply", "--stop", "--json")
    assert again.exit_code == 0, "a rollback does not ask state/stop"
    assert again.summary["stop_left"] == incident.store.url("state/stop")
    assert (incident.store.read("state/stop") or b"").decode() == note, "another's note stays"


def test_what_is_refused_of_a_runs_journal_is_no_success(incident: Incident) -> None:
    """Nothing to roll back is known, because nothing of the journal can be read."""
    for path in (incident.store.root / "journals" / incident.run_id).iterdir():
        path.write_bytes(b"garbage\n")
    for arguments in ((), ("--apply",)):
        done = incident.command("--run", incident.run_id, *arguments)
        assert done.exit_code == 4, done.stderr[-2000:]
        assert f"journals/{incident.run_id}/00001.jsonl: not a segment of a journal" in done.stdout
    done = incident.command("--function", incident.arn)
    assert done.exit_code == 0, "by what it carries"
    assert f"journals/{incident.run_id}/00001.jsonl: not a segment of a journal" in done.stdout
    done = incident.command("--function", f"{incident.arn}-typo")
    assert done.exit_code == 2
    assert "of journals is refused: " in done.stderr
    done = incident.command("--all")
    assert done.exit_code == 4, "which functions that run has changed is not known"


def test_what_release_0_1_left_is_no_empty_history(incident: Incident) -> None:
    incident.store.delete("state/format.json")
    incident.store.write("state/drift/111122223333.json", b"[]", "application/json")
    done = incident.command("--function", incident.arn)
    assert done.exit_code == 2
    assert "a run or a rollback with --apply takes it over first" in done.stderr
    explained = auto_defender("explain", "--config", incident.config, incident.arn, env=incident.env)
    assert explained.exit_code == 3, explained.stderr[-2000:]
    assert "what an earlier release left is not read" in explained.stdout
    assert incident.command("--function", incident.arn, "--apply").exit_code == 0


def test_a_broken_quarantine_and_opt_out_file_do_not_keep_a_function_from_being_rolled_back(
    incident: Incident,
) -> None:
    broken = incident.store.root / "state/quarantine.json"
    broken.write_text("[{]")
    optouts = incident.workspace.folder / "optouts.yaml"
    optouts.write_text("optouts: [")
    config = incident.workspace.configure(risk={"utilization": {"enabled": False}}, optouts=str(optouts))
    command = ("rollback", "--config", config, "--function", incident.arn)
    assert auto_defender(*command, env=incident.env).exit_code == 0
    back = auto_defender(*command, "--apply", "--json", env=incident.env)
    assert back.exit_code == 5, back.stderr[-2000:]
    (row,) = back.summary["rollback"]
    assert (row["outcome"], row["as_before"]) == ("rolled_back", True)
    assert back.summary["stopped_by"] == "memory"
    assert "is not in quarantine" in back.stderr
    assert "quarantine.json" in back.stderr
    assert [row["outcome"] for row in incident.rows(back.summary["run_id"])] == ["rolled_back"]
    assert broken.read_text() == "[{]"

    broken.unlink()
    assert auto_defender(*command, "--apply", env=incident.env).exit_code == 0
    assert [entry.function_arn for entry in quarantined(incident.store)] == [incident.arn]
