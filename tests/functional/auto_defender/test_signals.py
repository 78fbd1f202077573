"""Ctrl-C and SIGTERM in mid-sweep, sent to a real process of the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.server_process import ROOT
from tests.functional.loopback import REGIONS, loopback

ACCOUNTS = 60
CONFIGURATION = f"""
organization: {{role_name: AutoDefenderMember, regions: [{", ".join(REGIONS)}]}}
defender:
  layers: {{python: "arn:aws:lambda:{{region}}:111122223333:layer:twistlock-python:4"}}
  wrapper: /opt/twistlock/wrapper
risk: {{utilization: {{enabled: false}}}}
sweep: {{workers: 2}}
output: ./out
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_not_reached_is_reported_and_the_report_is_written(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "auto-defender.yaml").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "auto_defender", "scan", "--config", "auto-defender.yaml", "--json"]
    # Slow enough that two workers are still reading when the signal comes, whatever the machine.
    with loopback(ACCOUNTS, functions=2, latency_ms=250) as server:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while server.stats()["operations"].get("lambda.ListFunctions", 0) < 3 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        reported, log = process.communicate(timeout=300)
    assert process.returncode == 3, log
    summary = json.loads(reported)
    assert "stopping: units and changes not reached are reported as such" in log
    assert 0 < summary["units_read"] < summary["units_expected"]
    (folder,) = (tmp_path / "out" / "runs").glob("*/*/*/*")
    with (folder / "units.csv").open(encoding="utf-8-sig", newline="") as file:
        outcomes = [row["outcome"] for row in csv.DictReader(file)]
    assert len(outcomes) == summary["units_expected"]
    assert set(outcomes) == {"read", "timed_out"}
    assert "timed_out" in (folder / "report.html").read_text()
