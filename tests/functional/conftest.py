"""What tests of changes start from: a fake Lambda, a harness around it, and short waits."""

from pathlib import Path

import pytest

from tests.unit.remediator.fake_lambda import FakeLambda
from tests.unit.remediator.harness import Harness, wait_briefly


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
