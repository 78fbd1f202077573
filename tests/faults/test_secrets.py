"""Secrets planted in every environment: no job lets one out, into whatever it writes, logs, prints or raises."""

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.jobs.apply import apply_saved
from auto_defender.jobs.explain import explain_function
from auto_defender.jobs.plan import write_plan
from auto_defender.jobs.rollback import roll_back
from auto_defender.jobs.run import run, scan
from auto_defender.logging import JsonLines, RunIdFilter
from auto_defender.notify.metrics import embedded_metrics
from remediator.journal.selection import Selection
from scanner.core.errors import AutoDefenderError
from simulator.http import serving
from storage.folder import FolderStore
from tests.faults.campaign import Campaign, environment
from tests.faults.files import check_secrets
from tests.faults.random_organization import OWNERS_SECRET, POLICY

OWN = ("auto_defender", "reports", "remediator", "storage", "scanner")


@contextmanager
def everything_logged(run_id: str = "a-run") -> Iterator[io.StringIO]:
    """Take the log as --verbose writes it, JSON lines with tracebacks, and other libraries' warnings."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    handler.addFilter(RunIdFilter(run_id))
    loggers = [logging.getLogger(name) for name in OWN]
    levels = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Outputs:
    """All that a user sees of jobs."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.texts: dict[str, str] = {}

    def do(self, name: str, job: Callable[[Context], JobResult], mode: Any = "apply") -> None:
        try:
            ending = job(self.campaign.context(mode))
        except AutoDefenderError as error:
            self.texts[name] = "".join(traceback.format_exception(error))
        else:
            self.texts[name] = ending.text + json.dumps(ending.summary)
            if "stages_sec" in ending.summary:
                self.texts[f"metrics of {name}"] = embedded_metrics(ending.summary, datetime.now(UTC))
        self.campaign._let_go()


def test_no_secret_is_let_out(tmp_path: Path) -> None:
    campaign = Campaign(23, tmp_path, accounts=2, functions=24, fault_rate=3.0)
    outputs, plan = Outputs(campaign), tmp_path / "PLAN.json"
    with serving(campaign.simulator) as url, environment(url, read_timeout=0.4), everything_logged() as log:
        outputs.do("scan", scan, "scan")
        outputs.do("run", run)
        campaign.owners_deploy(30)
        outputs.do("plan", partial(write_plan, out=str(plan)), "dry_run")
        outputs.do("apply", partial(apply_saved, source=str(plan)))
        runs = FolderStore(campaign.root).folders("journals/")
        outputs.do("rollback", partial(roll_back, selection=Selection(runs=runs), apply=True), "rollback")
        for arn in sorted({write.arn for write in campaign.simulator.writes})[:5]:
            outputs.do(f"explain {arn}", partial(explain_function, text=arn), "scan")
    faults = campaign.simulator.faults.drawn
    assert faults["UpdateFunctionConfiguration: quotes the environment"] > 0
    assert len(campaign.simulator.writes) > 10
    assert "env_overflow" in log.getvalue()
    assert "retry" in log.getvalue(), "what only --verbose logs"
    outputs.texts |= {"log": log.getvalue(), "plan file": plan.read_text()}
    for secret in (OWNERS_SECRET, POLICY):
        assert [name for name, text in outputs.texts.items() if secret in text] == []
    assert check_secrets(campaign.root) == []
