"""A run ends although nobody can find out what became of its changes."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.change.delta import Delta
from remediator.change.records import Intent
from remediator.execution.apply import ApplyResult
from remediator.journal.journal import Journal
from remediator.rollout.guards import BREAKER_FROM
from remediator.state.order import Order
from scanner.aws.errors import ClockSkew, LostAnswer, Unreachable
from tests.clocks import QuickClock
from tests.unit.remediator.fake_lambda import FakeLambda, layer, refusal
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
    Journal(harness.store, RUN, Order(harness.store)).record_intents(
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


def age(harness: Harness, days: float) -> None:
    """Let the entries have been written so long ago."""
    segment = harness.store.root / "journals" / RUN / "00001.jsonl"
    lines = [json.loads(line) for line in segment.read_text().splitlines()]
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    segment.write_text("".join(json.dumps(line | {"at": at}) + "\n" for line in lines))


@pytest.mark.parametrize(("days", "given_up"), [(6.9, False), (7.1, True)])
@pytest.mark.parametrize("trouble", ["denied", "failed"])
def test_what_stays_open_for_seven_days_is_given_up_and_rollback_knows_it(
    aws: FakeLambda, tmp_path: Path, days: float, given_up: bool, trouble: str
) -> None:
    arn = aws.add()
    harness = Harness(aws, tmp_path)
    leave_open(harness)
    age(harness, days)
    if trouble == "failed":  # the update was made and ended so, and its removal is forbidden
        harness.aws.functions[arn] |= {
            "Layers": [{"Arn": layer(4)}],
            "Environment": {"Variables": OURS},
            "LastUpdateStatus": "Failed",
        }

    def deny(method: str, *_: object) -> None:
        if method == "update_function_configuration" or trouble == "denied":
            raise refusal("AccessDenied", "no", "AssumeRole", 403)

    aws.before = deny
    (end,) = outcomes(harness.resolve)
    assert end == ("failed" if given_up or trouble == "failed" else "deferred")
    (entry,) = harness.entries()
    assert entry.in_effect
    if given_up:
        assert entry.outcome is not None
        assert (entry.outcome.outcome, entry.outcome.left) == ("failed", True)
        since = "unknown" if trouble == "denied" else "not removed"
        assert entry.outcome.detail.startswith(f"{since} for 7 days, given up: ")
        assert outcomes(harness.resolve) == {}
    else:
        assert entry.outcome is None
    aws.before = lambda *_: None
    rolled_back = harness.rollback([], [arn]).changes["outcome"].tolist()
    assert rolled_back == ["rolled_back" if trouble == "failed" else "dropped"]


def test_what_can_not_be_found_out_takes_a_small_share_of_a_runs_time(
    aws: FakeLambda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remediator.change.update.VERIFY_SECONDS", (1.0, 3.0, 6.0))
    aws.clock = QuickClock()
    for number in range(MORE_THAN_UNANSWERED):
        aws.add(f"f{number:02}")
    harness = Harness(aws, tmp_path)
    leave_open(harness)
    deadlines: list[float] = []
    call = aws.call

    def timed(*place: Any, deadline: float, **more: Any) -> dict[str, Any]:
        deadlines.append(deadline)
        return call(*place, deadline=deadline, **more)

    monkeypatch.setattr(aws, "call", timed)

    def refuse(*_: object) -> None:
        raise refusal("AccessDenied", "no", "AssumeRole", 403)

    aws.before = refuse
    deadline = aws.clock.monotonic() + PATIENCE
    resolved = harness.resolve(deadline=deadline)
    assert resolved.changes["outcome"].tolist() == ["deferred"] * MORE_THAN_UNANSWERED
    assert not resolved.cut_short
    assert max(deadlines) < deadline - PATIENCE / 2


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
