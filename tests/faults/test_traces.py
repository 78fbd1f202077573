"""By which signs others follow a run: one id everywhere, how long each stage took, what each service refused."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from auto_defender.jobs.run import run
from auto_defender.notify.metrics import embedded_metrics
from simulator.calls import AwsError, Call
from simulator.http import serving
from tests.faults.campaign import Campaign, environment
from tests.faults.random_organization import REGIONS
from tests.faults.test_secrets import everything_logged
from tests.unit.remediator.harness import journal_of


def test_a_run_can_be_followed_by_its_id_and_its_log_alone(tmp_path: Path) -> None:
    campaign = Campaign(31, tmp_path, accounts=2, functions=12)
    refusals = iter([AwsError("TooManyRequestsException", "Rate exceeded", 429)])

    def throttled_once(call: Call) -> None:
        if call.operation == "ListFunctions":
            for error in refusals:
                raise error

    campaign.simulator.core.before = throttled_once
    with serving(campaign.simulator) as url, environment(url):
        context = campaign.context("apply")
        with everything_logged(context.run_id) as log:
            ending = run(context)
    run_id, summary = context.run_id, ending.summary
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    metrics = json.loads(embedded_metrics(summary, datetime.now(UTC)))

    assert {line["run_id"] for line in lines} == {summary["run_id"], metrics["run_id"], run_id} == {run_id}
    assert campaign.simulator.session_names == {f"AutoDefender-{run_id}"}
    assert {write.run_id for write in campaign.simulator.writes} == {run_id}, "the user agent, in CloudTrail"
    assert journal_of(campaign.root, run_id)
    for name in ("functions.csv", "plan.json", "report.html", "summary.json"):
        assert len([path for path in campaign.root.rglob(name) if run_id in path.parts]) == 1

    for reported in (summary, metrics):
        assert {"accounts", "sweep", "assess", "plan", "apply"} <= reported["stages_sec"].keys()
        assert (
            reported["calls"]["lambda.list_functions"]["calls"]
            >= len(campaign.simulator.accounts) * len(REGIONS) - 2
        )
    counted = Counter[str]()
    for counts in summary["calls"].values():
        counted.update(counts)
    assert counted["retries"] >= counted["throttles"] > 0

    skipped = {line["function_arn"]: line["reasons"] for line in lines if line.get("verdict") == "skipped"}
    arm = [arn for arn in skipped if ":function:arm-" in arn]
    assert arm
    assert all(skipped[arn] == "architecture" for arn in arm)
    ended = {line["function_arn"] for line in lines if line.get("outcome") and line.get("action")}
    assert {write.arn for write in campaign.simulator.writes} <= ended
