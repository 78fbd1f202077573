"""One emulator for all end-to-end tests; tests found their own organizations in it."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.e2e import emulator, organization
from tests.e2e.emulator import Emulator
from tests.e2e.organization import Organization
from tests.e2e.world import PACKAGE, World

HERE = Path(__file__).parent
BUILT = Path(
    os.environ.get("AUTO_DEFENDER_PACKAGE", emulator.ROOT / "dist" / "auto-defender-python3.11-x86_64.zip")
)
_central_accounts = count(111_122_223_333)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    """The emulator. Where it is missing a developer's run skips; in CI that is a failure."""
    if not emulator.PROGRAM.is_file():
        missing = f"ministack is not at {emulator.PROGRAM}; run `make test`, or set AUTO_DEFENDER_MINISTACK"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with emulator.running() as started:
        yield started


@pytest.fixture(scope="session")
def new_organization(aws: Emulator) -> Callable[[], Organization]:
    """Give what founds a further organization in the emulator: a central account, and no member yet."""
    return lambda: organization.found(aws, str(next(_central_accounts)))


@pytest.fixture(scope="session")
def package() -> bytes:
    """Give the Lambda zip. Where it was not built a developer's run skips; in CI that is a failure."""
    if not BUILT.is_file():
        missing = f"{BUILT} is missing; run `make package`"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return BUILT.read_bytes()


@pytest.fixture
def world(new_organization: Callable[[], Organization], tmp_path: Path) -> World:
    """Give a new organization with the central stack and the layer to be shared."""
    organization = new_organization()
    organization.deploy_central(PACKAGE)
    return World(organization, tmp_path)
