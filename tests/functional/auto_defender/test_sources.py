"""Where a configuration, opt-outs and a plan are read from: addresses as written, buckets of the expected account."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.s3.models import s3_backends

from auto_defender.demo.simulated_aws import CENTRAL_ACCOUNT_ID
from tests.functional.moto_server import (
    Done,
    OneAtATime,
    Workspace,
    auto_defender,
    environment,
    workspace_with,
)

BUCKET, OTHERS_BUCKET = "security-team", "somebody-elses"
OTHER_ACCOUNT = "999988887777"
OWNERS = {BUCKET: CENTRAL_ACCOUNT_ID, OTHERS_BUCKET: OTHER_ACCOUNT}
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.fixture
def workspace(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace, and buckets whose objects are refused to who expects another owner, or none: moto has no owners."""
    whole = OneAtATime.__call__

    def with_owners(self: OneAtATime, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        bucket = environ["PATH_INFO"].split("/")[1]
        expected = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
        if bucket in OWNERS and expected != OWNERS[bucket]:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [DENIED]
        answer: Iterable[bytes] = whole(self, environ, start_response)
        return answer

    monkeypatch.setattr(OneAtATime, "__call__", with_owners)
    made = workspace_with(server, tmp_path, 3)
    for bucket in OWNERS:
        s3_backends[CENTRAL_ACCOUNT_ID]["aws"].create_bucket(bucket, "us-east-1")
    return made


def put(bucket: str, key: str, path: str) -> str:
    """Put a file into a bucket; return its address."""
    s3_backends[CENTRAL_ACCOUNT_ID]["aws"].put_object(bucket, key, Path(path).read_bytes())
    return f"s3://{bucket}/{key}"


def check(server: str, config: str, **environ: str) -> Done:
    return auto_defender("optouts", "check", "--config", config, env=environment(server, **environ))


def line_of(done: Done) -> str:
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "key",
    [
        "optouts.yaml",
        "team#1/optouts.yaml",
        "optouts.yaml?v=2",
        "a%20b+c.yaml",
        "/rooted//optouts.yaml",
        "ö.yaml",
    ],
)
def test_a_key_is_read_as_written(server: str, workspace: Workspace, key: str) -> None:
    workspace.configure()
    optouts = put(BUCKET, key, str(workspace.folder / "optouts.yaml"))
    config = put(BUCKET, f"configuration {key}", workspace.configure(optouts=optouts))
    done = check(server, config, AWS_REGION="us-east-1")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{optouts}: ")


def test_a_plan_is_read_as_written(server: str, workspace: Workspace) -> None:
    config, env = workspace.configure(), environment(server)
    plan = str(workspace.folder / "plan.json")
    assert auto_defender("plan", "--config", config, "--out", plan, env=env).exit_code == 3
    address = put(BUCKET, "change #4711?.json", plan)
    applied = auto_defender("apply", "--config", config, address, env=env)
    assert applied.exit_code == 0, applied.stderr[-2000:]


@pytest.mark.parametrize("address", ["s3://", "s3:///optouts.yaml", f"s3://{BUCKET}", f"s3://{BUCKET}/"])
def test_an_address_that_names_no_object_is_one_clear_line(
    server: str, workspace: Workspace, address: str
) -> None:
    line = line_of(check(server, workspace.configure(optouts=address), AWS_REGION="us-east-1"))
    assert f"opt-out file: '{address}' names no " in line


def test_no_region_is_needed_to_read_a_configuration(server: str, workspace: Workspace) -> None:
    config = put(BUCKET, "auto-defender.yaml", workspace.configure())
    assert check(server, config).exit_code == 0


def test_opt_outs_in_a_bucket_of_another_account_are_refused(server: str, workspace: Workspace) -> None:
    workspace.configure()
    optouts = put(OTHERS_BUCKET, "optouts.yaml", str(workspace.folder / "optouts.yaml"))
    line = line_of(check(server, workspace.configure(optouts=optouts), AWS_REGION="us-east-1"))
    assert f"opt-out file {optouts}: access is denied, or the bucket is not owned" in line
    assert f"by account {CENTRAL_ACCOUNT_ID}" in line
    assert line.endswith("or set storage.bucket_owner")
    run = auto_defender("run", "--config", workspace.configure(optouts=optouts), env=environment(server))
    assert line_of(run) == line

    named = workspace.configure(optouts=optouts, storage={"bucket_owner": OTHER_ACCOUNT})
    assert check(server, named, AWS_REGION="us-east-1").exit_code == 0


def test_a_plan_in_a_bucket_of_another_account_is_refused(server: str, workspace: Workspace) -> None:
    config, env = workspace.configure(), environment(server)
    plan = put(OTHERS_BUCKET, "plan.json", config)
    line = line_of(auto_defender("apply", "--config", config, plan, env=env))
    assert (
        f"plan {plan}: access is denied, or the bucket is not owned by account {CENTRAL_ACCOUNT_ID}" in line
    )


def test_a_configuration_in_a_bucket_of_another_account_is_refused(server: str, workspace: Workspace) -> None:
    config = put(OTHERS_BUCKET, "auto-defender.yaml", workspace.configure())
    line = line_of(check(server, config, AWS_REGION="us-east-1"))
    assert f"configuration {config}: access is denied, or the bucket is not owned" in line
    assert line.endswith("or set AUTO_DEFENDER_CONFIG_BUCKET_OWNER")
    named = {"AWS_REGION": "us-east-1", "AUTO_DEFENDER_CONFIG_BUCKET_OWNER": OTHER_ACCOUNT}
    assert check(server, config, **named).exit_code == 0
    named["AUTO_DEFENDER_CONFIG_BUCKET_OWNER"] = "security-team"
    assert "expected an account id of 12 digits" in line_of(check(server, config, **named))


def test_credentials_that_do_not_work_are_one_clear_line(server: str, workspace: Workspace) -> None:
    env = environment("http://127.0.0.1:9", AWS_REGION="us-east-1", AWS_MAX_ATTEMPTS="1")
    done = auto_defender("doctor", "--config", f"s3://{BUCKET}/auto-defender.yaml", env=env)
    assert "the AWS credentials do not work: EndpointConnectionError" in line_of(done)
