"""Secrets planted in every environment, and the services of AWS that a run talks to: none receives one.

The organization is the simulator's, with its faults; what a run writes goes to moto's S3, SNS and Security Hub.
"""

import gzip
import json
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.core import DEFAULT_ACCOUNT_ID
from moto.securityhub.models import securityhub_backends
from moto.sns.models import sns_backends

from auto_defender import lambda_handler
from auto_defender.lambda_handler import handler
from scanner.core.errors import AutoDefenderError
from simulator.http import serving
from tests.clocks import QuickClock
from tests.faults.campaign import Campaign, environment
from tests.faults.random_organization import OWNERS_SECRET, POLICY, REGIONS, write_configuration
from tests.faults.test_secrets import everything_logged
from tests.functional import moto_server

BUCKET, TOPIC = "reports-of-the-org", "runs"


class Invocation:
    """What Lambda passes to a function about its invocation."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


class Deployed:
    """The Lambda function, and all that went in and came out of it."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._clock = QuickClock()

    def invoke(self, **event: Any) -> Any:
        """Return what the function returned, or None: a state machine is then given its error with the traceback."""
        name = f"{len(self.texts):03} {event['job']}"
        self.texts[f"{name}, event"] = json.dumps(event)
        try:
            answer = handler(event, Invocation(), self._clock)
        except AutoDefenderError as error:
            self.texts[f"{name}, error"] = "".join(traceback.format_exception(error))
            return None
        self.texts[f"{name}, answer"] = json.dumps(answer)
        return answer

    def in_steps(self, number: int) -> list[str]:
        """Play the state machine; give what the store keeps between the steps."""
        started = f"2026-11-24T03:42:{number:02}Z"
        begun = self.invoke(job="manifest", execution=f"run-{number}", started=started, batch_size=2)
        items = json.loads(objects()[begun["manifest"]])
        for item in items:
            assert self.invoke(**item) is not None
        folder = f"state/batches/{begun['run_id']}/"
        kept = [text for key, text in objects().items() if key.startswith(folder)]
        assert len(kept) == len(items) + 2
        assert self.invoke(job="merge", run_id=begun["run_id"], stopped="") is not None
        return [*kept, objects()[f"{folder}ending.json"]]


def objects() -> dict[str, str]:
    """Return every object of the bucket by key, unpacked."""
    s3 = boto3.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    bodies = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    plain = {key: gzip.decompress(b) if b[:2] == b"\x1f\x8b" else b for key, b in bodies.items()}
    return {key: body.decode(errors="replace") for key, body in plain.items()}


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve what a run writes to."""
    with moto_server.serving() as url:
        moto_server.reset(url)
        for service in ("S3", "SNS", "SECURITYHUB"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        yield


def prepared(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the function with every notification that there is."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    topic = boto3.client("sns").create_topic(Name=TOPIC)["TopicArn"]
    boto3.client("securityhub").enable_security_hub()
    path = write_configuration(campaign.folder, campaign.version, tagged=campaign.tagged)
    settings = yaml.safe_load(path.read_text())
    settings |= {
        "output": f"s3://{BUCKET}",
        "storage": {"bucket_owner": DEFAULT_ACCOUNT_ID},
        "notifications": {"topic_arn": topic, "always": True},
        "security_hub": {"enabled": True},
    }
    path.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("AUTO_DEFENDER_CONFIG", str(path))
    # The log is taken as --verbose writes it, which is more than the function does.
    monkeypatch.setattr(lambda_handler.logs, "set_up", lambda *_, **__: None)


def test_no_service_receives_a_secret(
    services: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign, deployed = Campaign(23, tmp_path, accounts=2, functions=24, fault_rate=3.0), Deployed()
    with serving(campaign.simulator) as url, environment(url, read_timeout=0.4), everything_logged() as log:
        prepared(campaign, monkeypatch)
        monkeypatch.setenv("DRY_RUN", "true")
        deployed.invoke(job="run")
        monkeypatch.setenv("DRY_RUN", "false")
        kept = deployed.in_steps(1)
        campaign.owners_deploy(30)
        last = deployed.invoke(job="run")
        campaign.owners_deploy(30)
        kept += deployed.in_steps(2)
        year, week, _ = date.fromisoformat(last["run_id"][:8]).isocalendar()
        deployed.invoke(job="weekly", week=f"{year}-W{week:02}")
        deployed.invoke(job="merge", run_id="20261124T034200Z-1a2b3c", stopped={"Error": "States.Timeout"})
        files = objects()
    assert len(campaign.simulator.writes) > 10
    assert campaign.simulator.faults.drawn["UpdateFunctionConfiguration: quotes the environment"] > 0

    sent = sns_backends[DEFAULT_ACCOUNT_ID][REGIONS[0]].topics.values()
    reported = [
        f"{subject}\n{message}" for topic in sent for _, message, subject, *_ in topic.sent_notifications
    ]
    assert len(reported) == 6, "four runs, the week, and the job that failed"
    findings = [
        json.dumps(f.data, default=str) for f in securityhub_backends[DEFAULT_ACCOUNT_ID][REGIONS[0]].findings
    ]
    assert len(findings) > 5
    metrics = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert len(metrics) == 4
    assert sum(" answer" in name for name in deployed.texts) == 3 + 2 * 4
    assert sum(" error" in name for name in deployed.texts) == 1

    everything = {**deployed.texts, **files, "log": log.getvalue()} | {
        f"{name} {number}": text
        for name, texts in {"notice": reported, "finding": findings, "metrics": metrics, "part": kept}.items()
        for number, text in enumerate(texts)
    }
    for secret in (OWNERS_SECRET, POLICY):
        assert [name for name, text in everything.items() if secret in text] == []
