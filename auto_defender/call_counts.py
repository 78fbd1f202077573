"""Counts what the central account calls for itself: where files go, who is told, what is read first.

Those clients retry by themselves, below the one way in which accounts are called (scanner/aws/caller.py).
"""

from typing import Any

import boto3
from botocore import xform_name
from botocore.model import OperationModel

from scanner.aws.errors import THROTTLES
from scanner.aws.rate_limits import CallCounts

_SERVICES = ("s3", "securityhub", "sns", "ssm")


def count_own_calls(session: boto3.Session, calls: CallCounts) -> None:
    """Count each attempt of clients that the session makes from now on."""

    def count(operation: OperationModel, attempts: int, response: Any, **_: Any) -> None:
        # botocore asks its handlers after each attempt whether to retry; this one has no opinion.
        label = f"{operation.service_model.service_name}.{xform_name(operation.name)}"
        calls.add(label, "calls")
        if attempts > 1:
            calls.add(label, "retries")
        if response is not None and response[1].get("Error", {}).get("Code") in THROTTLES:
            calls.add(label, "throttles")

    for service in _SERVICES:
        session.events.register(f"needs-retry.{service}", count)
