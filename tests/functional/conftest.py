"""Shared fixtures: a moto server, a session in moto, a fake Lambda with its harness, and short waits."""

import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from tests.functional.moto_server import Workspace, serving, workspace_with
from tests.unit.remediator.fake_lambda import FakeLambda
from tests.unit.remediator.harness import Harness, wait_briefly


@pytest.fixture(autouse=True)
def ctrl_c_arrives() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and so would the programs that its tests start."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds where the protocol waits seconds."""
    wait_briefly(monkeypatch)


@pytest.fixture
def aws() -> FakeLambda:
    return FakeLambda(polls_to_settle=1)


@pytest.fixture
def harness(aws: FakeLambda, tmp_path: Path) -> Harness:
    return Harness(aws, tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve moto over HTTP; yield its address."""
    with serving() as url:
        yield url


@pytest.fixture
def workspace(server: str, tmp_path: Path) -> Workspace:
    """The central account, one that refuses its role, a suspended one, and one with functions."""
    return workspace_with(server, tmp_path, 4)


@pytest.fixture
def moto_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """Yield a session whose calls moto answers in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.Session(region_name="us-east-1")
