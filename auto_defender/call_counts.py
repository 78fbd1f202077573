"""Counts the calls of the central account's own clients: S3, Security Hub, SNS and Systems Manager.

Those clients retry by themselves; calls to member accounts are counted in scanner/aws/caller.py.
"""

from typing import Any

import boto3
from botocore import xform_name
from botocore.model import OperationModel

from scanner.aws.errors import THROTTLES
from scanner.aws.rate_limits import CallCounts

_SERVICES = ("s3", "securityhub", "sns", "ssm")


def count_own_calls(session: boto3.Session, calls: CallCounts) -> None:
    """Count each attempt of the clients that the session creates from now on."""

    def count(operation: OperationModel, attempts: int, response: Any, **_: Any) -> None:
        # botocore emits needs-retry after each attempt; returning None leaves the decision to its own handlers.
        label = f"{operation.service_model.service_name}.{xform_name(operation.name)}"
        calls.add(label, "calls")
        if attempts > 1:
            calls.add(label, "retries")
        if response is not None and response[1].get("Error", {}).get("Code") in THROTTLES:
            calls.add(label, "throttles")

    for service in _SERVICES:
        session.events.register(f"needs-retry.{service}", count)
