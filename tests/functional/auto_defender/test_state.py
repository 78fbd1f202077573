"""`state`: what runs left is shown, and taken out by command and under the lock instead of by an editor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from remediator.journal.upgrade import upgrade
from remediator.rollout.lock import RunLock
from remediator.state.functions import records
from remediator.state.quarantine import Quarantined, quarantined
from tests.functional.moto_server import Workspace, auto_defender, environment, workspace_with
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, arn_of, layer, refusal
from tests.unit.remediator.harness import RUN, WRAPPER, Harness

pytestmark = pytest.mark.usefixtures("short_waits")
OTHER = "444455556666"
FAILED, GIVEN_UP, WELL, AWAY = arn_of("failed"), arn_of("given-up"), arn_of("well"), arn_of("away", OTHER)


@pytest.fixture
def workspace(server: str, tmp_path: Path) -> Workspace:
    return workspace_with(server, tmp_path, 4)


@pytest.fixture
def left(workspace: Workspace) -> Harness:
    """What runs left: two failures, a function that lost the Defender three times, two in quarantine."""
    harness = Harness(FakeLambda(), workspace.folder / "out")
    upgrade(harness.journals, RUN)
    for name in ("failed", "given-up", "well"):
        harness.aws.add(name)
    harness.aws.add("away", OTHER)

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and arn in {FAILED, AWAY}:
            raise refusal("AccessDeniedException", "with an explicit deny in a service control policy")

    harness.aws.before = refuse
    for hour in range(3):
        harness.apply(run_id=f"20261124T0{hour}4232Z-hourly")
        harness.aws.owner_edits(GIVEN_UP, Layers=[], Environment={"Variables": {}})
    harness.quarantine(
        *(Quarantined(arn, "2026-11-24T03:42:32+00:00", RUN, "rolled back") for arn in (WELL, AWAY))
    )
    return harness


def command(server: str, workspace: Workspace, *arguments: str) -> Any:
    ours = {"layers": [layer(4).rpartition(":")[0] + ":*"], "wrappers": [WRAPPER]}
    path = workspace.configure(defender={"previous": ours})
    return auto_defender("state", *arguments, "--config", path, env=environment(server))


def test_show_lists_what_the_next_run_goes_by(server: str, workspace: Workspace, left: Harness) -> None:
    text = command(server, workspace, "show").stdout
    assert (
        f"  {FAILED}: denied_by_scp: an organization policy (SCP) forbids the change; tried 3 times in a row"
        in text
    )
    summary = command(server, workspace, "show", "--json").summary
    assert [one["function_arn"] for one in summary["failures"]] == [FAILED, AWAY]
    assert summary["failures"][0]["next_try"] > summary["failures"][0]["at"]
    assert [one["function_arn"] for one in summary["drift"]] == [GIVEN_UP]
    assert [one["function_arn"] for one in summary["quarantine"]] == [WELL, AWAY]
    narrowed = command(server, workspace, "show", "--account", OTHER, "--json").summary
    assert [len(narrowed[key]) for key in ("failures", "drift", "quarantine")] == [1, 0, 1]


def test_retry_forgets_failures_and_drift_of_what_is_named(
    server: str, workspace: Workspace, left: Harness
) -> None:
    done = command(server, workspace, "retry", "--function", FAILED, "--function", GIVEN_UP, "--json")
    assert (done.exit_code, done.summary["functions"]) == (0, [FAILED, GIVEN_UP])
    known = records(left.store)
    assert {arn for arn, one in known.items() if one.failure} == {AWAY}
    assert {arn for arn, one in known.items() if one.protections} == {WELL}
    assert command(server, workspace, "retry", "--account", OTHER).exit_code == 0
    assert records(left.store)[AWAY].failure is None


def test_release_takes_out_of_the_quarantine(server: str, workspace: Workspace, left: Harness) -> None:
    done = command(server, workspace, "release", "--account", OTHER)
    assert (done.exit_code, done.stdout) == (0, f"{AWAY}: out of the quarantine\n")
    assert [entry.function_arn for entry in quarantined(left.store)] == [WELL]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["retry", "--function", WELL], "well does not have a failure, or drift that is given up"),
        (["release", "--function", FAILED], "failed does not have an entry in the quarantine"),
        (["release", "--account", "999999999999"], "no function of account 999999999999 has an entry"),
        (["retry", "--function", FAILED, "--function", WELL], "well does not have"),
        (["retry", "--function", "failed"], "'failed' is no function ARN"),
        (["show", "--account", "12"], "'12' is no account id"),
        (["retry"], "name at least one --function ARN or --account ID"),
    ],
)
def test_what_is_not_there_ends_with_one_line_and_changes_nothing(
    server: str, workspace: Workspace, left: Harness, arguments: Sequence[str], says: str
) -> None:
    before = records(left.store), quarantined(left.store)
    done = command(server, workspace, *arguments)
    assert done.exit_code == 2
    assert says in done.stderr.splitlines()[-1]
    assert (records(left.store), quarantined(left.store)) == before


def test_a_run_under_way_is_not_disturbed(server: str, workspace: Workspace, left: Harness) -> None:
    with RunLock(left.store, RUN):
        done = command(server, workspace, "retry", "--account", ACCOUNT)
        assert (done.exit_code, RUN in done.stderr) == (5, True)
        assert command(server, workspace, "show").exit_code == 0
    assert records(left.store)[FAILED].failure is not None


def test_without_any_state_there_is_nothing_to_show(server: str, workspace: Workspace) -> None:
    summary = json.loads(command(server, workspace, "show", "--json").stdout)
    assert summary == {"quarantine": [], "failures": [], "drift": [], "releases": []}
    assert not (workspace.folder / "out").exists()


def test_rebuild_writes_what_is_lost_and_says_so(server: str, workspace: Workspace, left: Harness) -> None:
    path = f"state/functions/{ACCOUNT}.json"
    before = left.store.read(path)
    left.store.delete(path)
    left.store.write("state/quarantine.json", b"{", "application/json")
    assert command(server, workspace, "show").exit_code == 2
    done = command(server, workspace, "rebuild", "--json")
    assert (done.exit_code, done.summary) == (
        0,
        {
            "files": [
                {"path": path, "done": "written"},
                {"path": "state/quarantine.json", "done": "replaced"},
            ],
            "refused": [],
        },
    )
    assert left.store.read(path) == before
    assert [entry.function_arn for entry in quarantined(left.store)] == [WELL, AWAY]
    again = command(server, workspace, "rebuild")
    assert (again.exit_code, again.stdout) == (0, "nothing differs from what the journals say\n")


def test_rebuild_names_what_is_refused_and_ends_with_3(
    server: str, workspace: Workspace, left: Harness
) -> None:
    left.store.write("journals/20261124T000000Z-ffffff/00001.jsonl", b"{}\n", "")
    done = command(server, workspace, "rebuild")
    assert done.exit_code == 3
    assert "refused: " in done.stdout
    assert "journals/20261124T000000Z-ffffff/00001.jsonl: not a segment of a journal" in done.stdout


def test_rebuild_waits_for_no_run_under_way(server: str, workspace: Workspace, left: Harness) -> None:
    with RunLock(left.store, RUN):
        assert command(server, workspace, "rebuild").exit_code == 5


def test_an_older_copy_is_named_until_a_run_adds_what_it_lacks(
    server: str, workspace: Workspace, left: Harness
) -> None:
    left.store.delete("state/journals.json")
    text = command(server, workspace, "show").stdout
    assert "not included: the journals of 20261101T000000Z-earlier, 20261124T004232Z-hourly" in text
    assert command(server, workspace, "retry", "--function", FAILED).exit_code == 0
    assert "not included" not in command(server, workspace, "show").stdout
