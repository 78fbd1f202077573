"""The loopback AWS server for tests: who calls it, and how."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from benchmarks.server_process import RunningServer, running_server
from scanner.aws.caller import Aws
from scanner.settings import OrganizationSettings, SweepSettings

REGIONS = ("us-east-1", "us-west-2")
ORGANIZATION = OrganizationSettings(role_name="AutoDefenderMember", regions=REGIONS)


@contextmanager
def loopback(accounts: int, **options: Any) -> Iterator[RunningServer]:
    """A server that checks every signature, with this process's environment set to talk to it alone."""
    with (
        running_server(accounts, regions=REGIONS, check_signatures=True, **options) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in server.environment().items():
            if name != "PYTHONPATH":
                patch.setenv(name, value)
        yield server


def aws_for(settings: SweepSettings) -> Aws:
    """The central account's Aws, on the loopback server."""
    return Aws(boto3.Session(), ORGANIZATION, settings, "20261124T034232Z-1a2b3c")
