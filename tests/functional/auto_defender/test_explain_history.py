"""`explain` shows what runs did to a function, writes nothing, and shows the rest where the state can't be read."""

from unittest.mock import patch

import pytest
from moto.awslambda.models import lambda_backends
from moto.core.exceptions import AccessDeniedError
from moto.organizations.models import OrganizationsBackend
from moto.s3.models import s3_backends

from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from tests.functional.moto_server import Done, Workspace, auto_defender, environment


def explain(server: str, config: str, arn: str, *more: str) -> Done:
    return auto_defender("explain", "--config", config, arn, *more, env=environment(server))


def protected(server: str, workspace: Workspace, config: str) -> tuple[str, str]:
    """Run once; return the run's id, and a function that it has protected."""
    summary = auto_defender("run", "--config", config, "--apply", "--json", env=environment(server)).summary
    changes = workspace.run_file(summary["run_id"], "changes.csv").splitlines()
    return summary["run_id"], next(line.split(",")[3] for line in changes if ",protect,changed," in line)


def test_the_history_names_each_run_what_it_added_and_who_removed_it(
    server: str, workspace: Workspace
) -> None:
    config, env = workspace.configure(), environment(server)
    run_id, arn = protected(server, workspace, config)
    back = auto_defender(
        "rollback", "--config", config, "--function", arn, "--apply", "--json", env=env
    ).summary
    done = explain(server, config, arn)
    assert done.exit_code == 0, done.stderr[-2000:]
    history = done.stdout.partition("\nhistory:\n")[2].splitlines()
    first, second = history
    assert (
        f"run {run_id}: protect, changed; adds layer {back['rollback'][0]['layer_before']}, AWS_LAMBDA"
        in first
    )
    assert first.endswith(f"rolled back by run {back['run_id']}")
    assert second.endswith(f"run {back['run_id']}: rollback, rolled_back; removes what run {run_id} added")
    summary = explain(server, config, arn, "--json").summary
    added, removed = summary["history"]
    assert (added["run_id"], added["action"], added["outcome"], added["undone_by"]) == (
        run_id, "protect", "changed", back["run_id"],
    )  # fmt: skip
    assert added["variables"] == ["AWS_LAMBDA_EXEC_WRAPPER", "TW_POLICY"]
    assert removed["undoes"] == [run_id]
    assert summary["state_unread"] is None


def test_it_writes_nothing(server: str, workspace: Workspace) -> None:
    """As with rights that only read: state/write-check is not written either."""
    bucket = s3_backends[CENTRAL_ACCOUNT_ID]["aws"].create_bucket("reports-of-the-org", "us-east-1")
    config = workspace.configure(output=f"s3://{bucket.name}/coverage")
    arn = workspace.organization.quarantined[0]
    done = explain(server, config, arn)
    assert done.exit_code == 0, done.stderr[-2000:]
    assert "history: no run has changed it" in done.stdout
    assert list(bucket.keys) == []


def test_a_folder_that_is_not_there_is_not_made(server: str, workspace: Workspace) -> None:
    done = explain(server, workspace.configure(), workspace.organization.quarantined[0])
    assert done.exit_code == 0, done.stderr[-2000:]
    assert not (workspace.folder / "out").exists()


@pytest.mark.parametrize(
    ("broken", "unknown", "known"),
    [
        ("state/quarantine.json", "what a run would do: unknown, ", "history:\n"),
        ("state/waves.json", "what a run would do: unknown, ", "history:\n"),
        ("00001.jsonl", "history: not known in full: ", ""),
    ],
)
def test_where_the_state_can_not_be_read_the_rest_is_shown(
    server: str, workspace: Workspace, broken: str, unknown: str, known: str
) -> None:
    config = workspace.configure()
    _, arn = protected(server, workspace, config)
    out = workspace.folder / "out"
    path = next(out.rglob(broken), out / broken)
    path.write_text("not what it should be\n")
    done = explain(server, config, arn)
    assert done.exit_code == 3, done.stderr[-2000:]
    assert done.stdout.startswith(f"{arn}\nprotected, verdict: protected\n")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(unknown)]
    assert path.name in line
    assert known in done.stdout
    assert path.name in explain(server, config, arn, "--json").summary["state_unread"]


def test_a_quarantine_that_can_not_be_read_promises_no_change(server: str, workspace: Workspace) -> None:
    config = workspace.configure()
    planned = auto_defender("plan", "--config", config, "--out", str(workspace.folder / "p.json"), "--json", env=environment(server))  # fmt: skip
    arn = planned.summary["changes"][0]["function_arn"]
    (workspace.folder / "out/state/quarantine.json").mkdir(parents=True)
    done = explain(server, config, arn)
    assert done.exit_code == 3, done.stderr[-2000:]
    assert "would protect" not in done.stdout
    assert "what a run would do: unknown, can't read" in done.stdout


def test_a_function_that_is_gone_has_its_history(server: str, workspace: Workspace) -> None:
    config = workspace.configure()
    run_id, arn = protected(server, workspace, config)
    _, _, _, region, account, _, name = arn.split(":")
    lambda_backends[account][region].delete_function(name)
    done = explain(server, config, arn)
    assert done.exit_code == 3, done.stderr[-2000:]
    assert done.stdout.startswith(f"{arn}: no such function\nhistory:\n")
    assert f"run {run_id}: protect, changed" in done.stdout
    summary = explain(server, config, arn, "--json").summary
    assert summary["function_unread"] == f"{arn}: no such function"
    assert [entry["run_id"] for entry in summary["history"]] == [run_id]
    unknown = arn.replace(name, "org-was-never-here")
    assert explain(server, config, unknown).exit_code == 2


def test_the_history_is_shown_where_the_accounts_can_not_be_listed(server: str, workspace: Workspace) -> None:
    config = workspace.configure()
    run_id, arn = protected(server, workspace, config)
    denied = AccessDeniedError("no", "organizations:ListAccounts")
    with patch.object(OrganizationsBackend, "list_accounts", side_effect=denied):
        done = explain(server, config, arn)
    assert done.exit_code == 3, done.stderr[-2000:]
    assert done.stdout.startswith(f"{arn}\nprotected, verdict: protected\n")
    assert "what a run would do: unknown, " in done.stdout
    assert f"run {run_id}: protect, changed" in done.stdout
