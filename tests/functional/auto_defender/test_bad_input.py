"""Bad input, through the command line as a process: one clear line, exit code 2, and nothing written anywhere."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from moto.core.exceptions import AccessDeniedError
from moto.organizations.models import OrganizationsBackend
from moto.s3.models import s3_backends

from auto_defender.demo.organization import Organization
from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from tests.functional.moto_server import (
    Done,
    Workspace,
    auto_defender,
    configurations,
    environment,
    reset,
    workspace_with,
)

NO_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


@pytest.fixture
def workspace(server: str, tmp_path: Path) -> Workspace:
    """Everything in order, but for what a test breaks."""
    return workspace_with(server, tmp_path, 3)


@pytest.fixture
def paper(tmp_path: Path) -> Workspace:
    """A workspace whose mistakes are found on paper: no server is there to ask."""
    return Workspace(tmp_path, Organization([]))


def refused(workspace: Workspace, *arguments: str, env: Mapping[str, str]) -> str:
    """Run a command that writes, assert that it is refused before anything is written, and return the line with the reason."""
    everything = [account.id for account in workspace.organization.accounts]
    files, functions = _files(workspace.folder), configurations(everything)
    done = auto_defender(*arguments, env=env, cwd=workspace.folder)
    assert done.exit_code == 2, (done.exit_code, done.stderr)
    assert done.stdout == ""
    assert _files(workspace.folder) == files
    assert configurations(everything) == functions
    assert not [
        key for bucket in s3_backends[CENTRAL_ACCOUNT_ID]["aws"].buckets.values() for key in bucket.keys
    ]
    return _one_line(done)


def _files(folder: Path) -> dict[str, bytes]:
    # A run that may write leaves the lock's number, and a file that says that it has begun.
    begun = {"99999999.json", "format.json", "lock.json", ".lock.json.lock", "run.json"}
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in begun)
    return {str(path): path.read_bytes() for path in found}


def _one_line(done: Done) -> str:
    (line,) = done.stderr.splitlines()
    assert line.startswith("auto-defender: ")
    return line


def apply(workspace: Workspace, env: Mapping[str, str], **sections: Any) -> str:
    return refused(workspace, "run", "--apply", "--config", workspace.configure(**sections), env=env)


def test_no_credentials(server: str, workspace: Workspace) -> None:
    env = {name: value for name, value in environment(server).items() if name not in NO_CREDENTIALS}
    assert "no AWS credentials" in apply(workspace, env)


def test_a_profile_that_does_not_exist(server: str, workspace: Workspace) -> None:
    line = apply(workspace, environment(server, AWS_PROFILE="prodution"))
    assert "prodution" in line


def test_an_organization_call_denied(server: str, workspace: Workspace) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise AccessDeniedError("arn:aws:iam::123456789012:root", "organizations:ListAccounts")

    with patch.object(OrganizationsBackend, "list_accounts", denied):
        line = apply(workspace, environment(server))
    assert "accounts could not be listed" in line
    assert "AccessDenied" in line
    assert "organizations:List*" in line


def test_an_account_in_no_organization(server: str, tmp_path: Path) -> None:
    reset(server)
    line = apply(Workspace(tmp_path, Organization([])), environment(server))
    assert "in no organization" in line


def test_an_empty_organization(server: str, workspace: Workspace) -> None:
    with patch.object(OrganizationsBackend, "list_accounts", lambda *_, **__: ([], None)):
        assert "no active account is in scope (0 listed)" in apply(workspace, environment(server))


def test_an_organization_of_which_nothing_is_left_in_scope(server: str, workspace: Workspace) -> None:
    accounts = [account.id for account in workspace.organization.accounts]
    line = apply(workspace, environment(server), organization={"exclude_accounts": accounts})
    assert "no active account is in scope (3 listed)" in line


def test_an_ou_that_does_not_exist(server: str, workspace: Workspace) -> None:
    line = apply(workspace, environment(server), organization={"exclude_ous": ["ou-abcd-12345678"]})
    assert "organization.exclude_ous" in line
    assert "ou-abcd-12345678" in line


def test_a_region_that_does_not_exist(server: str, workspace: Workspace) -> None:
    line = apply(workspace, environment(server), organization={"regions": ["us-east-1", "us-esat-2"]})
    assert "organization.regions" in line
    assert "us-esat-2" in line


def test_a_bucket_that_does_not_exist(server: str, workspace: Workspace) -> None:
    line = apply(workspace, environment(server), output="s3://nobody-has-this-bucket/reports")
    assert "s3://nobody-has-this-bucket does not exist" in line


def test_a_folder_that_cannot_be_written(server: str, workspace: Workspace) -> None:
    (workspace.folder / "occupied").touch()
    line = apply(workspace, environment(server), output=str(workspace.folder / "occupied" / "out"))
    assert f"can't write to the folder {workspace.folder / 'occupied' / 'out'}" in line


# What follows is found before anything is asked of AWS.


@pytest.mark.parametrize(
    ("sections", "reported"),
    [
        ({"rollout": {"dryrun": False}}, ("rollout.dryrun", "unknown key")),
        ({"risk": {"max_layers": "5"}}, ("risk.max_layers", "integer")),
        (
            {"defender": {"layers": {"python": "arn:aws:lambda:us-east-1:1:layer:x"}}},
            ("defender.layers", "ARN"),
        ),
    ],
)
def test_a_configuration_with_a_wrong_key_type_or_arn(
    paper: Workspace, sections: dict[str, Any], reported: tuple[str, str]
) -> None:
    line = apply(paper, environment(), **sections)
    assert f"{paper.folder / 'auto-defender.yaml'}, line " in line
    for part in reported:
        assert part in line


def test_a_configuration_with_a_key_twice(paper: Workspace) -> None:
    path = Path(paper.configure())
    path.write_text("output: a\norganization:\n  role_name: A\noutput: b\n")
    line = refused(paper, "run", "--apply", "--config", str(path), env=environment())
    assert f"{path}, line 4: the key 'output' stands twice" in line


def test_a_configuration_that_is_not_there(paper: Workspace) -> None:
    line = refused(paper, "run", "--apply", "--config", "nowhere.yaml", env=environment())
    assert "nowhere.yaml: No such file" in line


def test_a_variable_that_overrides_with_nonsense(paper: Workspace) -> None:
    line = apply(paper, environment(DRY_RUN="maybe"))
    assert "DRY_RUN: expected true or false" in line


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (None, "No such file"),
        ("", "write 'optouts: []'"),
        ("optouts:\n- {account: '111122223333', reason: r, owner: o, expires: 2027-02-30}\n", "line 2: "),
        ("optouts:\n- {account: '111122223333', reason: r, owner: o, expires: soon}\n", "expires: "),
    ],
)
def test_an_opt_out_file_that_is_missing_empty_or_has_no_date(
    paper: Workspace, text: str | None, reported: str
) -> None:
    config, optouts = paper.configure(), paper.folder / "optouts.yaml"
    optouts.unlink() if text is None else optouts.write_text(text)
    line = refused(paper, "run", "--apply", "--config", config, env=environment())
    assert str(optouts) in line
    assert reported in line


@pytest.mark.parametrize("text", [None, '{"format": 1}'])
def test_a_plan_that_is_missing_or_none(server: str, workspace: Workspace, text: str | None) -> None:
    plan = workspace.folder / "plan.json"
    if text is not None:
        plan.write_text(text)
    line = refused(workspace, "apply", "--config", workspace.configure(), str(plan), env=environment(server))
    assert str(plan) in line


def test_a_broken_segment_of_a_journal_is_a_line_and_costs_itself_alone(
    server: str, workspace: Workspace
) -> None:
    run_id = f"{datetime.now(UTC) - timedelta(hours=2):%Y%m%dT%H%M%SZ}-1a2b3c"
    journal = workspace.folder / "out/journals" / run_id / "00001.jsonl"
    marker = workspace.folder / "out/state/open" / f"{run_id}.json"
    for path, text in ((journal, '{"event": "intent"}\n'), (marker, "{}")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    done = auto_defender("run", "--apply", "--config", workspace.configure(), env=environment(server))
    assert "changed" in done.stdout, done.stderr
    assert f"refused: {journal}: not a segment of a journal" in "".join(done.stderr.split("\n"))
    assert not marker.exists()
