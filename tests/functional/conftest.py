"""What tests of changes start from: a Lambda that behaves, a house around it, and no waiting."""

from pathlib import Path

import pytest

from tests.unit.remediator.fake_lambda import FakeLambda
from tests.unit.remediator.house import House, hurry


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds where the protocol waits seconds."""
    hurry(monkeypatch)


@pytest.fixture
def aws() -> FakeLambda:
    return FakeLambda(polls_to_settle=1)


@pytest.fixture
def house(aws: FakeLambda, tmp_path: Path) -> House:
    return House(aws, tmp_path)
