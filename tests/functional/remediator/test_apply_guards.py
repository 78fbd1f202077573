"""Each guard stops a run by itself, says which it is and how to go on, and leaves what is in flight settled."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.execution.executor import _TICK_SECONDS
from remediator.rollout.guards import FRESH_SECONDS
from remediator.rollout.lock import LOCK, RunLock
from remediator.state.quarantine import Quarantined, quarantined
from remediator.state.store import STOP
from scanner.core.errors import BadInput, GuardStop
from storage.protocol import JSON, StoreFailed
from tests.unit.remediator.fake_lambda import FakeLambda, arn_of, refusal
from tests.unit.remediator.harness import RUN, Harness, take_over

OTHER = "20261124T044232Z-other"
PATIENCE = 30.0  # seconds until a test that hangs fails


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(polls_to_settle=2), tmp_path)


def add(harness: Harness, count: int) -> list[str]:
    return [harness.aws.add(f"f{number:03}", f"{1 + number % 5:012}") for number in range(count)]


def outcomes(applied: Any) -> dict[str, int]:
    return dict(applied.changes["outcome"].value_counts())


def check_settled(harness: Harness) -> None:
    """Every intent has its outcome, and nothing is half done."""
    assert all(entry.outcome for entry in harness.entries())
    assert harness.store.list("state/open/") == []
    assert all(f["LastUpdateStatus"] == "Successful" for f in harness.aws.functions.values())


def test_the_kill_switch_stops_before_the_first_change(harness: Harness) -> None:
    add(harness, 3)
    harness.store.write(STOP, b"incident 4711", "text/plain")
    applied = harness.apply()
    assert outcomes(applied) == {"deferred": 3}
    assert harness.aws.calls.total() == 0
    assert applied.stopped_by is not None
    assert applied.stopped_by.exit_code == 5
    line = str(applied.stopped_by)
    assert "kill_switch" in line
    assert "says: incident 4711" in line
    assert line.endswith("Delete it to go on")


class Gate:
    """Lets some updates go, stops the following right before they are sent, and lets those go once `then` was done."""

    def __init__(self, free: int, held: int, then: Callable[[], None]) -> None:
        self.arrived, self.opens_at, self.then = 0, free + held, then
        self.free = free
        self.opened = threading.Event()
        self.counting = threading.Lock()

    def __call__(self, arn: str) -> None:
        with self.counting:
            self.arrived += 1
            number = self.arrived
        if number == self.opens_at:
            self.then()
            time.sleep(4 * FRESH_SECONDS)
            self.opened.set()
        elif number > self.free:
            assert self.opened.wait(PATIENCE)


def switch_on(harness: Harness) -> None:
    harness.store.write(STOP, b"", "text/plain")


def lose_the_lock(harness: Harness) -> None:
    take_over(harness.store)


STOPS = pytest.mark.parametrize(("stop", "guard"), [(switch_on, "kill_switch"), (lose_the_lock, "lock")])


@STOPS
def test_what_is_in_flight_is_not_sent_once_a_guard_stops(
    harness: Harness, stop: Callable[[Harness], None], guard: str
) -> None:
    for number in range(240):
        harness.aws.add(f"f{number:03}", f"{1 + number % 40:012}")
    harness.aws.waits = Gate(free=40, held=20, then=lambda: stop(harness))
    applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == guard
    assert harness.aws.calls["update_function_configuration"] == 40
    assert outcomes(applied) == {"changed": 40, "deferred": 200}
    in_flight = [entry.outcome for entry in harness.entries() if entry.outcome]
    stopped = [(end.detail, end.attempts) for end in in_flight if end.outcome == "deferred"]
    assert len(stopped) >= 20
    assert set(stopped) == {(f"stopped by the guard '{guard}'", 0)}
    check_settled(harness)


def test_a_stop_on_the_last_changes_is_reported_too(harness: Harness) -> None:
    add(harness, 1)
    harness.aws.waits = Gate(free=0, held=1, then=lambda: switch_on(harness))
    applied = harness.apply()
    assert outcomes(applied) == {"deferred": 1}
    assert applied.stopped_by is not None
    assert applied.stopped_by.exit_code == 5


def test_told_to_stop_what_waits_for_the_journal_is_not_sent(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(harness, 5)
    stop, create = threading.Event(), harness.store.create

    def told(path: str, body: bytes, content_type: str = JSON) -> str | None:
        if path.startswith("journals/") and b'"intent"' in body:
            stop.set()
            time.sleep(10 * _TICK_SECONDS)  # until the run has noticed
        return create(path, body, content_type)

    monkeypatch.setattr(harness.store, "create", told)
    assert outcomes(harness.apply(stop=stop)) == {"deferred": 5}
    assert harness.aws.calls["update_function_configuration"] == 0
    check_settled(harness)


@pytest.mark.parametrize(
    ("stop", "outcome", "guard"),
    [(switch_on, "rolled_back", None), (lose_the_lock, "deferred", "lock")],
)
def test_a_rollback_ends_by_a_lost_lock_and_not_by_the_kill_switch(
    harness: Harness, stop: Callable[[Harness], None], outcome: str, guard: str | None
) -> None:
    add(harness, 20)
    harness.apply()
    harness.aws.calls.clear()
    harness.aws.waits = Gate(free=0, held=5, then=lambda: stop(harness))
    applied = harness.rollback([RUN])
    assert outcomes(applied) == {outcome: 20}
    assert (applied.stopped_by and applied.stopped_by.guard) == guard
    assert harness.aws.calls["update_function_configuration"] == (0 if guard else 20)


def test_what_aws_could_not_carry_out_is_removed_while_the_kill_switch_is_on(harness: Harness) -> None:
    (arn,) = add(harness, 1)
    harness.aws.fail_next(arn)
    harness.aws.after = lambda method, on, n: switch_on(harness) if method.startswith("update") else None
    assert harness.apply().changes["detail"][0].endswith("it was removed again")
    assert harness.aws.layers(arn) == []


def test_with_a_lost_lock_nothing_is_removed_and_the_next_run_goes_on(harness: Harness) -> None:
    (arn,) = add(harness, 1)
    harness.aws.fail_next(arn)
    gate = Gate(free=1, held=1, then=lambda: lose_the_lock(harness))
    harness.aws.waits = gate
    applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "lock"
    assert applied.changes["detail"][0].endswith("(stopped by the guard 'lock'); the next run tries again")
    assert harness.aws.layers(arn) != []
    harness.store.delete(LOCK)
    harness.aws.waits = lambda arn: None
    assert harness.resolve().changes["detail"][0].endswith("it was removed again")
    assert harness.aws.layers(arn) == []


def test_a_kill_switch_that_cannot_be_read_stops_too(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(harness, 1)
    plan = harness.plan()
    read = harness.store.read

    def broken(path: str) -> bytes | None:
        if path == STOP:
            raise BadInput("no access")
        return read(path)

    monkeypatch.setattr(harness.store, "read", broken)
    applied = harness.apply(plan)
    assert applied.stopped_by is not None
    assert "could not be read" in str(applied.stopped_by)
    assert harness.aws.calls.total() == 0


def fail_every(harness: Harness, every: int) -> None:
    failing = {arn for arn in harness.aws.functions if int(arn[-3:]) % every == every - 1}

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and arn in failing:
            raise refusal(
                "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"
            )

    harness.aws.before = refuse


def test_the_breaker_opens_when_everything_fails_and_few_were_tried(harness: Harness) -> None:
    add(harness, 200)
    fail_every(harness, 1)
    applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "stop_after_failure_pct"
    assert 20 <= outcomes(applied)["failed"] <= 60
    assert outcomes(applied)["failed"] + outcomes(applied)["deferred"] == 200
    check_settled(harness)


def test_the_breaker_stays_closed_below_its_threshold(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(polls_to_settle=2), tmp_path, stop_after_failure_pct=20)
    add(harness, 100)
    fail_every(harness, 10)
    applied = harness.apply()
    assert applied.stopped_by is None
    assert outcomes(applied) == {"changed": 90, "failed": 10}


def test_fewer_than_twenty_prove_nothing(harness: Harness) -> None:
    add(harness, 19)
    fail_every(harness, 1)
    applied = harness.apply()
    assert applied.stopped_by is None
    assert outcomes(applied) == {"failed": 19}


def test_asked_to_stop_it_settles_what_is_in_flight_and_begins_nothing_more(harness: Harness) -> None:
    add(harness, 120)
    stop = threading.Event()

    def sigterm(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration":
            stop.set()

    harness.aws.after = sigterm
    applied = harness.apply(stop=stop)
    assert outcomes(applied)["changed"] >= 1
    assert outcomes(applied)["deferred"] >= 60
    assert len(applied.changes) == 120
    assert "the run was told to stop" in set(applied.changes["detail"])
    assert (applied.stopped_by, applied.cut_short) == (None, True)
    check_settled(harness)


def test_asked_to_stop_once_all_is_sent_it_is_not_cut_short(harness: Harness) -> None:
    add(harness, 1)
    stop = threading.Event()
    harness.aws.after = lambda method, arn, n: stop.set() if method == "tag_resource" else None
    applied = harness.apply(stop=stop)
    assert (outcomes(applied), applied.cut_short) == ({"changed": 1}, False)


def test_at_the_deadline_it_returns_and_leaves_the_journal_open(harness: Harness) -> None:
    (arn,) = add(harness, 1)
    release = threading.Event()

    def hang(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            release.wait(20)

    harness.aws.after = hang
    started = time.monotonic()
    applied = harness.apply(deadline=started + 3.0)
    release.set()
    assert applied.changes["detail"].tolist() == [
        "not settled before the run's time was up; the next run finds out"
    ]
    assert harness.entries()[0].outcome is None
    assert harness.resolve().changes["outcome"].tolist() == ["changed"]
    assert harness.aws.tags[arn] == {"SecurityProtected": "True"}


def test_a_journal_that_cannot_be_written_stops_everything_unsent(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(harness, 50)

    create = harness.store.create

    def full(path: str, body: bytes, content_type: str = JSON) -> str | None:
        if path.startswith("journals/"):
            raise StoreFailed("no space left on device")
        return create(path, body, content_type)

    monkeypatch.setattr(harness.store, "create", full)
    applied = harness.apply()
    assert applied.stopped_by is not None
    assert applied.stopped_by.guard == "journal"
    assert harness.aws.calls["update_function_configuration"] == 0
    assert outcomes(applied) == {"deferred": 50}


def test_progress_ends_at_the_total(harness: Harness) -> None:
    add(harness, 30)
    seen: list[tuple[int, int]] = []
    harness.apply(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 30) for n in range(1, 31)]


def test_one_run_at_a_time(harness: Harness) -> None:
    held = pytest.raises(GuardStop, match=f"run {RUN} on .* is under way")
    with RunLock(harness.store, RUN), held, RunLock(harness.store, OTHER):
        pytest.fail("two runs hold the lock")
    with RunLock(harness.store, OTHER):
        pass
    assert RunLock(harness.store, RUN).held_by() is None


def test_of_many_takers_of_an_expired_lock_one_wins(harness: Harness) -> None:
    dead = RunLock(harness.store, RUN, expires=timedelta(seconds=-1))
    dead.__enter__()
    dead._released.set()
    won, lost = [], []
    gate = threading.Barrier(8)
    leave = threading.Event()

    def take(number: int) -> None:
        gate.wait()
        try:
            with RunLock(harness.store, f"20261124T044232Z-{number}") as lock:
                won.append(number)
                leave.wait(20)
                lock.check()
        except GuardStop:
            lost.append(number)

    threads = [threading.Thread(target=take, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    while len(lost) < 7 and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    with pytest.raises(GuardStop):
        dead.check()


def test_a_run_whose_lock_was_taken_over_begins_nothing_more(harness: Harness) -> None:
    add(harness, 3)
    with RunLock(harness.store, OTHER) as lock:
        take_over(harness.store)
        with pytest.raises(GuardStop, match="taken the lock over"):
            lock.check()


def test_an_invalid_lock_file_is_reported(harness: Harness) -> None:
    harness.store.write(LOCK, b"nonsense", "application/json")
    with (
        pytest.raises(BadInput, match="not a lock file; restore an older version"),
        RunLock(harness.store, RUN),
    ):
        pass


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'[{"function_arn": "x"}]'])
def test_a_broken_quarantine_never_reads_as_an_empty_one(harness: Harness, text: bytes) -> None:
    harness.store.write("state/quarantine.json", text, "application/json")
    with pytest.raises(BadInput, match=r"quarantine\.json: "):
        quarantined(harness.store)


def test_the_quarantine_keeps_the_first_entry_of_a_function(harness: Harness) -> None:
    for run_id in (RUN, OTHER):
        harness.quarantine(
            *(
                Quarantined(arn, "2026-11-24T00:00:00+00:00", run_id, "slow")
                for arn in (arn_of("b"), arn_of("a"))
            )
        )
    assert [(entry.function_arn, entry.run_id) for entry in quarantined(harness.store)] == [
        (arn_of("b"), RUN),
        (arn_of("a"), RUN),
    ]
