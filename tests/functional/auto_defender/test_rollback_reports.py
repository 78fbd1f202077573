"""A rollback that has changed functions reports them, whatever goes wrong besides."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from rich.console import Console

from auto_defender.config import read_configuration
from auto_defender.context import Context, new_run_id, open_context
from auto_defender.jobs.rollback import roll_back
from auto_defender.progress import Display
from remediator.journal.selection import Selection
from scanner.core.errors import WrongAccount
from tests.functional.auto_defender.test_incident import Incident


def opened(incident: Incident, monkeypatch: pytest.MonkeyPatch) -> Context:
    for name, value in {**incident.env, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    return open_context(
        read_configuration(Path(incident.config).read_bytes(), incident.config, {}),
        boto3.Session(),
        run_id=new_run_id(datetime.now(UTC)),
        mode="rollback",
        display=Display(Console(stderr=True)),
        stop=threading.Event(),
    )


def test_an_answer_about_another_account_in_the_alias_reads_does_not_cost_the_report(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = Incident(server, tmp_path)
    context = opened(incident, monkeypatch)
    call = context.aws.call

    def wrong(account_id: str, region: str, service: str, method: str, **parameters: Any) -> dict[str, Any]:
        if method == "list_aliases":
            raise WrongAccount("AWS answered about another function")
        return call(account_id, region, service, method, **parameters)

    monkeypatch.setattr(context.aws, "call", wrong)
    result = roll_back(context, Selection(functions=[incident.arn]), apply=True)
    assert result.exit_code == 1
    assert result.summary["exit_code"] == 1
    assert "AWS answered about another function" in result.text.splitlines()[-1]
    (row,) = incident.rows(context.run_id)
    assert (row["outcome"], row["as_before"]) == ("rolled_back", "true")
    assert row["aliases"] == "unknown: AWS answered about another function"
