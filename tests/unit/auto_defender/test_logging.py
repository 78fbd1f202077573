"""The log on a terminal and to a file: each line names its run, and on a terminal it can still be read."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from auto_defender import logging as logs

RUN_ID, NEXT = "20261124T034232Z-1a2b3c", "20261124T034233Z-4d5e6f"
ARN = "arn:aws:lambda:us-east-1:222233334444:function:payments-settlement-nightly"


@pytest.fixture(autouse=True)
def levels_and_handlers() -> Iterator[None]:
    names = (None, "auto_defender", "reports", "remediator", "storage", "scanner", logs.SKIPS)
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def on_a_terminal(width: int, *, verbose: bool = True) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    logs.set_up(RUN_ID, verbose=verbose, console=console)
    return text


def test_each_line_on_a_terminal_names_its_run_behind_the_message() -> None:
    text = on_a_terminal(160)
    logging.getLogger("scanner.inventory.sweep").info("24 accounts, 23 in scope")
    logging.getLogger(logs.SKIPS).warning("skipped %s: architecture", ARN)
    logs.set_run_id(NEXT)
    logging.getLogger("botocore").warning("a library's [bold]own[/bold]")
    lines = [re.sub(r"^(\[\d\d:\d\d:\d\d\]| {10}) ", "", line) for line in text.getvalue().splitlines()]
    assert [line.rstrip() for line in lines] == [
        f"INFO     24 accounts, 23 in scope  {RUN_ID}",
        f"WARNING  skipped {ARN}: architecture  {RUN_ID}",
        f"WARNING  a library's [bold]own[/bold]  {NEXT}",
    ]


def test_on_a_narrow_terminal_nothing_is_cut_off() -> None:
    text = on_a_terminal(80)
    logging.getLogger(logs.SKIPS).warning("skipped %s: architecture;memory", ARN)
    reported = "".join(text.getvalue().split())
    assert f"skipped{ARN}:architecture;memory{RUN_ID}" in reported


def test_a_traceback_names_its_run_too() -> None:
    text = on_a_terminal(160)
    try:
        int("no number")
    except ValueError:
        logging.getLogger("auto_defender.cli").exception("a defect")
    assert "ValueError: invalid literal" in text.getvalue()
    assert text.getvalue().count(RUN_ID) == 1


def test_where_nobody_watches_each_line_is_a_document_with_the_runs_id() -> None:
    text = io.StringIO()
    logs.set_up(RUN_ID, verbose=False, console=Console(file=text, force_terminal=False))
    logging.getLogger("scanner.inventory.sweep").info("read", extra={"region": "us-east-1"})
    logging.getLogger("scanner.inventory.sweep").debug("only with --verbose")
    logs.set_run_id(NEXT)
    logging.getLogger("botocore").warning("a library's own")
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    reported = [(line["message"], line["run_id"], line.get("region")) for line in lines]
    assert reported == [("read", RUN_ID, "us-east-1"), ("a library's own", NEXT, None)]
