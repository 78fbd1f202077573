"""AWS Lambda entry points: the hourly run and the weekly report, in time for the function's own timeout.

The configuration's address comes from AUTO_DEFENDER_CONFIG (s3://bucket/key or ssm:NAME).
"""

import os
import threading
from typing import Any, Protocol

import boto3
from rich.console import Console

from auto_defender import logs
from auto_defender.configuration import read_configuration
from auto_defender.context import new_run_id, open_context
from auto_defender.hourly import run
from auto_defender.progress import Display
from auto_defender.sources import read_source
from auto_defender.weekly import report_week
from scanner.errors import BadInput

# What the report needs at the end, in seconds, of the function's remaining time.
REPORT_SECONDS = 60.0


class LambdaContext(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Give the milliseconds left until the function is ended."""
