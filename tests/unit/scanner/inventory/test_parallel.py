"""The one loop over units: an answer each, a log line for what could not be read, and an end at a defect."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from scanner.aws.errors import Throttled
from scanner.core.clock import SYSTEM_CLOCK
from scanner.core.errors import InternalError
from scanner.inventory.ledger import Unit
from scanner.inventory.parallel import UnitAnswer, in_parallel, read_units
from scanner.settings import SweepSettings

UNITS = [Unit(f"{number:012}", "us-east-1") for number in range(50)]
SWEEP = SweepSettings(workers=2)


def aws() -> Any:
    return SimpleNamespace(stop=threading.Event(), clock=SYSTEM_CLOCK)


def test_each_unit_has_one_answer_and_what_was_not_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def read(unit: Unit, deadline: float) -> str:
        if unit == UNITS[7]:
            raise Throttled("ListTags: slow down")
        return unit.account_id

    answers = {answer.unit: answer for answer in read_units("tags", UNITS, read, aws(), SWEEP, None)}
    assert answers.pop(UNITS[7]) == UnitAnswer(UNITS[7], None, "throttled", "ListTags: slow down")
    assert answers == {unit: UnitAnswer(unit, unit.account_id) for unit in UNITS if unit != UNITS[7]}
    [record] = caplog.records
    assert record.getMessage() == "tags not read: 000000000007 in us-east-1: throttled: ListTags: slow down"
    assert (record.account_id, record.outcome) == ("000000000007", "throttled")


def test_a_defect_ends_the_reading_and_stops_every_call_of_the_run() -> None:
    def read(unit: Unit, deadline: float) -> None:
        raise InternalError("an answer of another account")

    run = aws()
    with pytest.raises(InternalError, match="another account"):
        list(read_units("tags", UNITS, read, run, SWEEP, None))
    assert run.stop.is_set()


def test_any_other_error_of_a_task_is_its_end_alone() -> None:
    ends = {done.task: done for done in in_parallel(lambda n: 1 // n, [0, 1], aws(), SWEEP, None)}
    assert isinstance(ends[0].error, ZeroDivisionError)
    assert ends[1].result == 1
