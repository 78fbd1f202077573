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
from remediator.journal.journal import runs_with_journal
from scanner.core.errors import AutoDefenderError
from storage.folder import FolderStore
from tests.faults.campaign import Campaign, environment
from tests.faults.files import check_secrets
from tests.faults.simulator import serving
from tests.faults.world import OWNERS_SECRET, POLICY

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


class Told:
    """All that a user sees of jobs."""

    def __init__(self, course: Campaign) -> None:
        self.course = course
        self.texts: dict[str, str] = {}

    def do(self, name: str, job: Callable[[Context], JobResult], mode: Any = "apply") -> None:
        try:
            ending = job(self.course.context(mode))
        except AutoDefenderError as error:
            self.texts[name] = "".join(traceback.format_exception(error))
        else:
            self.texts[name] = ending.text + json.dumps(ending.summary)
            if "stages_sec" in ending.summary:
                self.texts[f"metrics of {name}"] = embedded_metrics(ending.summary, datetime.now(UTC))
        self.course._let_go()


def test_no_secret_is_let_out(tmp_path: Path) -> None:
    course = Campaign(23, tmp_path, accounts=2, functions=24, storm=3.0)
    told, plan = Told(course), tmp_path / "PLAN.json"
    with serving(course.simulator) as port, environment(port), everything_logged() as log:
        told.do("scan", scan, "scan")
        told.do("run", run)
        course.owners_deploy(30)
        told.do("plan", partial(write_plan, out=str(plan)), "dry_run")
        told.do("apply", partial(apply_saved, source=str(plan)))
        runs = runs_with_journal(FolderStore(course.root))
        told.do("rollback", partial(roll_back, run_ids=runs, function_arns=[], apply=True), "rollback")
        for arn in sorted({write.arn for write in course.simulator.writes})[:5]:
            told.do(f"explain {arn}", partial(explain_function, text=arn), "scan")
    faults = course.simulator.faults.drawn
    assert faults["UpdateFunctionConfiguration: quotes the environment"] > 0
    assert len(course.simulator.writes) > 10
    assert "env_overflow" in log.getvalue()
    assert "retry" in log.getvalue(), "what only --verbose tells"
    told.texts |= {"log": log.getvalue(), "plan file": plan.read_text()}
    for secret in (OWNERS_SECRET, POLICY):
        assert [name for name, text in told.texts.items() if secret in text] == []
    assert check_secrets(course.root) == []
