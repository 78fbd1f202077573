"""An emulator for each file of end-to-end tests; tests create their own organizations in it."""

import platform
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.e2e import emulator, organization
from tests.e2e.deployment import PACKAGE, Deployment
from tests.e2e.emulator import Emulator
from tests.e2e.organization import Organization
from tests.machine import ROOT, built

HERE = Path(__file__).parent
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = "arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64"
PACKAGE_PATH = ROOT / "dist" / f"auto-defender-{RUNTIME}-{ARCHITECTURE}.zip"
_central_accounts = count(111_122_223_333)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            # The tests of a file share an organization, where each does not deploy its own.
            if "deployment" not in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(f"e2e {item.path.stem}"))


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    """The emulator of this process: xdist's workers have one each."""
    with emulator.running(built(emulator.PROGRAM)) as started:
        yield started


@pytest.fixture(scope="session")
def new_organization(aws: Emulator) -> Callable[[], Organization]:
    """A function that creates a further organization in the emulator: a central account, and no member yet."""
    return lambda: organization.create(aws, str(next(_central_accounts)))


@pytest.fixture(scope="session")
def package() -> bytes:
    """The Lambda zip."""
    return built(PACKAGE_PATH).read_bytes()


@pytest.fixture
def deployment(new_organization: Callable[[], Organization], tmp_path: Path) -> Deployment:
    """A new organization with the central stack."""
    created = new_organization()
    created.deploy_central(PACKAGE)
    return Deployment(created, tmp_path)
