"""One AssumeRole an account: shared while it is under way, waited for until the caller's own deadline."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from scanner.aws import credentials as module
from scanner.aws.credentials import ASSUME_ROLE_SECONDS, SILENT_IN_A_ROW, SILENT_SECONDS, MemberCredentials
from scanner.aws.errors import Throttled, TimedOut, Unreachable
from tests.clocks import StandingClock

PATIENCE = 30.0  # seconds until a test that hangs fails
REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")


class Sts:
    """What assumes roles: it raises `fault` if there is one, and waits for `gates` of accounts that have one."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.gates: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.clock = StandingClock()
        self.credentials = MemberCredentials(self._assume_role, self.clock)

    def _assume_role(self, account_id: str, deadline: float) -> dict[str, Any]:
        self.asked.append(account_id)
        self.deadlines.append(deadline)
        if account_id in self.gates:
            assert self.gates[account_id].wait(PATIENCE)
        if self.fault:
            raise self.fault
        key = f"{account_id}/{len(self.asked)}"
        return {"Credentials": {"AccessKeyId": key, "SecretAccessKey": "x", "SessionToken": "x"}}

    def fails(self, account_id: str, fault: Exception) -> Exception:
        """Ask for an account while STS has this fault; return what the caller meets."""
        self.fault = fault
        with pytest.raises(type(fault)) as met:
            self.credentials.of(account_id)
        self.fault = None
        return met.value


@pytest.fixture
def sts() -> Sts:
    return Sts()


def no_answer() -> TimedOut:
    error = TimedOut("no answer")
    error.__cause__ = ReadTimeoutError(endpoint_url="https://sts", error="x")
    return error


def from_answer(kind: type[Exception]) -> Exception:
    error = kind("STS answered with an error")
    error.__cause__ = ClientError({"Error": {"Code": "InternalError"}}, "AssumeRole")
    return error


def test_the_regions_of_an_account_share_one_assume_role(sts: Sts) -> None:
    sts.gates["a"] = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(sts.credentials.of, "a") for _ in range(8)]
        other = pool.submit(sts.credentials.of, "b")
        sts.gates["a"].set()
        keys = {future.result(PATIENCE).access_key for future in waiting}
        assert other.result(PATIENCE).access_key != keys.pop()
    assert not keys
    assert sorted(sts.asked) == ["a", "b"]


def test_an_account_that_waits_delays_no_other(sts: Sts) -> None:
    sts.gates["a"] = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sts.credentials.of, "a")
        assert sts.credentials.of("b", deadline=sts.clock.monotonic() + PATIENCE)
        assert not waiting.done()
        sts.gates["a"].set()
        assert waiting.result(PATIENCE)


def test_a_caller_waits_until_its_own_deadline_alone(sts: Sts) -> None:
    sts.gates["a"] = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(sts.credentials.of, "a")
        while not sts.asked:
            time.sleep(0.001)
        with pytest.raises(TimedOut, match="deadline came before STS answered"):
            sts.credentials.of("a", deadline=sts.clock.monotonic())
        sts.gates["a"].set()
        assert asking.result(PATIENCE)
    assert sts.asked == ["a"]


def test_who_asked_and_had_little_time_takes_nobody_else_with_it(sts: Sts) -> None:
    sts.gates["a"] = threading.Event()
    sts.fault = no_answer()
    with ThreadPoolExecutor(2) as pool:
        hurried = pool.submit(sts.credentials.of, "a", sts.clock.monotonic() + PATIENCE)
        while not sts.asked:
            time.sleep(0.001)
        patient = pool.submit(sts.credentials.of, "a")
        sts.gates["a"].set()
        with pytest.raises(TimedOut, match="no answer"):
            hurried.result(PATIENCE)
        with pytest.raises(TimedOut, match="no answer"):
            patient.result(PATIENCE)
    assert sts.asked == ["a", "a"], "the second asked for itself"


def test_an_assume_role_has_a_deadline_of_its_own_and_its_callers(sts: Sts) -> None:
    sts.credentials.of("a")
    sts.credentials.of("b", deadline=1000.0 + PATIENCE)
    assert sts.deadlines == [1000.0 + ASSUME_ROLE_SECONDS, 1000.0 + PATIENCE]


def test_credentials_are_renewed_before_they_expire(sts: Sts) -> None:
    first = sts.credentials.of("a")
    sts.clock.advance(module.SESSION_SECONDS - module.REFRESH_BEFORE_SECONDS - 1)
    assert sts.credentials.of("a") is first
    sts.clock.advance(1)
    assert sts.credentials.of("a") is not first


def test_credentials_that_are_called_expired_are_dropped_once(sts: Sts) -> None:
    first = sts.credentials.of("a")
    sts.credentials.forget("a", first)
    second = sts.credentials.of("a")
    sts.credentials.forget("a", first)
    sts.credentials.forget("b", first)
    assert sts.credentials.of("a") is second
    assert sts.asked == ["a", "a"]


def test_a_refusal_is_remembered_and_a_fault_is_not(sts: Sts) -> None:
    sts.fails("a", REFUSED)
    assert sts.fails("a", REFUSED) is REFUSED
    sts.credentials.forget("a", sts.credentials.of("b"))
    assert sts.asked == ["a", "b"]
    sts.fails("c", no_answer())
    assert sts.credentials.of("c")


def test_after_some_without_an_answer_nobody_is_asked_any_more(sts: Sts) -> None:
    known = sts.credentials.of("known")
    for number in range(SILENT_IN_A_ROW):
        sts.fails(f"{number}", no_answer())
        sts.clock.advance(SILENT_SECONDS)
    for account_id in ("0", "new"):
        with pytest.raises(TimedOut, match="STS did not answer 5 times in a row; not asked any more"):
            sts.credentials.of(account_id)
    assert len(sts.asked) == 1 + SILENT_IN_A_ROW
    assert sts.credentials.of("known") is known


def test_a_moment_without_connections_does_not_end_the_run(sts: Sts) -> None:
    for number in range(10 * SILENT_IN_A_ROW):
        sts.fails(f"{number}", Unreachable("connection refused"))
    sts.clock.advance(SILENT_SECONDS - 1)
    assert sts.credentials.of("new")


@pytest.mark.parametrize(
    "answer",
    [REFUSED, from_answer(Throttled), from_answer(Unreachable), None],
    ids=["403", "429", "500", "200"],
)
def test_an_answer_of_any_kind_begins_the_count_anew(sts: Sts, answer: Exception | None) -> None:
    for number in range(SILENT_IN_A_ROW - 1):
        sts.fails(f"{number}", no_answer())
    sts.clock.advance(SILENT_SECONDS)
    if answer is None:
        sts.credentials.of("answered")
    else:
        sts.fails("answered", answer)
    for number in range(SILENT_IN_A_ROW - 1):
        sts.fails(f"{number}", no_answer())
    sts.clock.advance(SILENT_SECONDS)
    assert sts.credentials.of("new")


def test_what_was_asked_before_the_last_answer_and_fails_after_it_is_no_silence(sts: Sts) -> None:
    hanging = [f"{number}" for number in range(SILENT_IN_A_ROW)]
    sts.gates = {account_id: threading.Event() for account_id in hanging}
    with ThreadPoolExecutor(SILENT_IN_A_ROW) as pool:
        waiting = [pool.submit(sts.credentials.of, account_id) for account_id in hanging]
        while len(sts.asked) < SILENT_IN_A_ROW:
            time.sleep(0.01)
        sts.clock.advance(SILENT_SECONDS - 1)
        sts.credentials.of("answered")
        sts.clock.advance(1)
        sts.fault = no_answer()
        for gate in sts.gates.values():
            gate.set()
        assert {type(future.exception(PATIENCE)) for future in waiting} == {TimedOut}
    sts.fault = None
    assert sts.credentials.of("new")
