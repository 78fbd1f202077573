"""A run ends although nobody can find out what became of its changes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from remediator.change.delta import Delta
from remediator.change.records import Intent
from remediator.execution.apply import ApplyResult
from remediator.journal.journal import Journal
from remediator.rollout.guards import BREAKER_FROM
from scanner.aws.errors import ClockSkew, LostAnswer, Unreachable
from tests.unit.remediator.fake_lambda import FakeLambda, refusal
from tests.unit.remediator.harness import OURS, RUN, WRAPPER, Harness, wait_briefly

PATIENCE = 60.0  # seconds until a run that hangs fails its test
MORE_THAN_UNANSWERED = BREAKER_FROM + 5


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeLambda:
    wait_briefly(monkeypatch)
    return FakeLambda(polls_to_settle=1)


def outcomes(work: Callable[[], ApplyResult]) -> dict[str, int]:
    """Run on a thread that may hang; return the outcomes of its changes."""
    ended: Future[ApplyResult] = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the test
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return dict(ended.result(PATIENCE).changes["outcome"].value_counts())


def leave_open(harness: Harness) -> None:
    """Write the intents of a run that was killed right after."""
    Journal(harness.store, RUN).record_intents(
        [
            Intent(
                id=f"0.{number}",
                run_id=RUN,
                action="protect",
                account_id=change.account_id,
                region=change.region,
                function_name=change.function_name,
                function_arn=change.function_arn,
                family=change.family,
                revision_id=change.revision_id,
                delta=Delta(layer=change.layer, position=0, variables_added=tuple(OURS), wrapper=WRAPPER),
                layers_before=(),
                wrapper_before="",
            )
            for number, change in enumerate(harness.plan().changes)
        ]
    )


def test_open_changes_that_nobody_may_read_are_all_looked_at(aws: FakeLambda, tmp_path: Path) -> None:
    for number in range(MORE_THAN_UNANSWERED):
        aws.add(f"f{number:02}")
    harness = Harness(aws, tmp_path)
    leave_open(harness)

    def refuse(method: str, *_: object) -> None:
        if method == "get_function_configuration":
            raise refusal("AccessDenied", "no", "AssumeRole", 403)

    aws.before = refuse
    assert outcomes(harness.resolve) == {"deferred": MORE_THAN_UNANSWERED}
    assert {entry.outcome for entry in harness.entries()} == {None}


def test_changes_whose_answers_are_lost_for_good_end(aws: FakeLambda, tmp_path: Path) -> None:
    for number in range(MORE_THAN_UNANSWERED):
        aws.add(f"f{number:02}")
    harness = Harness(aws, tmp_path)

    def lose(method: str, _: str, times: int) -> None:
        if method == "update_function_configuration":
            raise LostAnswer("reset")
        if method == "get_function_configuration" and times > 1:
            raise Unreachable("no answer")

    aws.before = lose
    assert outcomes(harness.apply) == {"deferred": MORE_THAN_UNANSWERED}


def test_a_clock_that_can_not_be_corrected_is_no_fault_of_the_journal(
    aws: FakeLambda, tmp_path: Path
) -> None:
    aws.add()

    def refuse(*_: object) -> None:
        raise ClockSkew("this machine's clock differs from AWS's by 600 seconds; set it by NTP")

    aws.before = refuse
    applied = Harness(aws, tmp_path).apply()
    assert applied.stopped_by is None
    assert list(applied.changes["outcome"]) == ["deferred"]
    assert "clock" in applied.changes["detail"][0]
