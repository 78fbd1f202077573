"""A run that meets a defect of its own after its first change reports what it did, and does nothing more."""

import csv
import io
import threading
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from rich.console import Console

from auto_defender.config import read_configuration
from auto_defender.context import Context, new_run_id, open_context
from auto_defender.jobs.run import run
from auto_defender.progress import Display
from scanner.core.clock import SYSTEM_CLOCK
from tests.functional.moto_server import environment, workspace_with


def test_an_answer_about_another_function_costs_no_run_its_report(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_with(server, tmp_path, 4)
    for name, value in environment(server, AWS_DEFAULT_REGION="us-east-1").items():
        monkeypatch.setenv(name, value)
    context = opened(Path(workspace.configure()))
    call, reads = context.aws.call, count(1)

    def mixed_up(*where: str, **parameters: Any) -> dict[str, Any]:
        answer = call(*where, **parameters)
        if where[-1] == "get_function_configuration" and next(reads) > 2:
            return answer | {"FunctionArn": answer["FunctionArn"] + "-of-another"}
        return answer

    monkeypatch.setattr(context.aws, "call", mixed_up)
    result = run(context)

    assert result.exit_code == 5
    assert result.summary["stopped_by"] == "internal_error"
    assert "AWS answered about another function" in result.text
    rows = list(csv.DictReader(io.StringIO(workspace.run_file(context.run_id, "changes.csv"))))
    assert {row["outcome"] for row in rows} <= {"changed", "deferred", "failed"}
    assert [row["detail"] for row in rows if row["outcome"] == "failed"]


def opened(configuration: Path) -> Context:
    return open_context(
        read_configuration(configuration.read_bytes(), configuration.name, {}),
        boto3.Session(),
        run_id=new_run_id(SYSTEM_CLOCK.now()),
        mode="apply",
        display=Display(Console(stderr=True)),
        stop=threading.Event(),
    )
