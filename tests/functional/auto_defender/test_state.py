"""`state`: what runs left is shown, and taken out by command and under the lock instead of by an editor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from remediator.journal.functions import records
from remediator.journal.quarantine import Quarantined, quarantined
from remediator.journal.upgrade import upgrade
from remediator.rollout.lock import RunLock
from tests.functional.moto_server import Workspace, auto_defender, environment, workspace_with
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, arn_of, refusal
from tests.unit.remediator.harness import RUN, Harness

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
    return auto_defender("state", *arguments, "--config", workspace.configure(), env=environment(server))


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
