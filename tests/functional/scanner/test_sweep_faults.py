"""Faults on the wire: each ends in its own outcome, and every other unit is read."""

import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import pandas as pd
import pytest

from benchmarks.answers import account_id
from benchmarks.server_process import RunningServer
from scanner.core.errors import WrongAccount
from scanner.inventory.sweep import Progress, Sweep, SweepResult
from scanner.organization.accounts import list_accounts
from scanner.organization.optouts import OptOuts
from scanner.settings import SweepSettings
from tests.functional.loopback import ORGANIZATION, REGIONS, aws_for, loopback

TODAY = date(2026, 11, 24)
FUNCTIONS = 25  # in three pages of ten
PATIENT = SweepSettings(workers=32, unit_timeout_sec=5, calls_per_second=100)
FAULTY, HEALTHY = REGIONS

# What each fault is, the outcome of its unit, and what the ledger says of it.
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "500 for ever": ({"kind": "error", "status": 500}, "error", "ServiceException"),
    "503 for ever": ({"kind": "error", "status": 503}, "error", "ServiceUnavailable"),
    "503 twice": ({"kind": "error", "status": 503, "times": 2}, "read", ""),
    "429 for ever": ({"kind": "error", "status": 429}, "throttled", "TooManyRequestsException"),
    "429 with Retry-After": ({"kind": "error", "status": 429, "times": 2, "retry_after": 1}, "read", ""),
    "403": ({"kind": "error", "status": 403}, "access_denied", "AccessDeniedException"),
    "a reset in the body": ({"kind": "reset"}, "error", ""),
    "a reset once, on page two": ({"kind": "reset", "after": 1, "times": 1}, "read", ""),
    "a truncated body": ({"kind": "truncated"}, "error", "lacks Functions"),
    "a truncated body once": ({"kind": "truncated", "times": 1}, "read", ""),
    "no JSON": ({"kind": "not_json"}, "error", "lacks Functions"),
    "an answer without Functions": ({"kind": "without_key"}, "error", "lacks Functions"),
    "a Marker that repeats": ({"kind": "same_marker"}, "error", "same Marker"),
    "one byte a second": ({"kind": "trickle"}, "timed_out", ""),
    "no answer": ({"kind": "hang"}, "timed_out", ""),
    "a session that expires on page two": ({"kind": "expired", "after": 1}, "read", ""),
    "a clock ten minutes off": ({"kind": "skew"}, "read", ""),
    "a region that is not enabled": ({"kind": "region_disabled"}, "region_disabled", "not enabled"),
}
ACCOUNT_OF = {name: account_id(number) for number, name in enumerate(FAULTS)}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    with loopback(len(FAULTS), functions=FUNCTIONS, page_size=10) as server:
        yield server


@pytest.fixture
def server(running: RunningServer) -> RunningServer:
    running.reset()
    return running


def members() -> pd.DataFrame:
    """The member accounts, as the sweep is given them."""
    listed = list_accounts(aws_for(PATIENT), ORGANIZATION)
    return listed[listed["account_id"] != "999988887777"].reset_index(drop=True)


def swept(settings: SweepSettings = PATIENT, **options: Any) -> SweepResult:
    """One sweep of every member account in both regions."""
    sweep = Sweep(aws_for(settings), ORGANIZATION, settings, ())
    return sweep.run(members(), OptOuts(), TODAY, **options)


@pytest.fixture(scope="module")
def units(running: RunningServer) -> pd.DataFrame:
    """The ledger of one sweep in which every account suffers one fault in one region."""
    running.reset()
    running.set_faults({f"{ACCOUNT_OF[name]}/{FAULTY}": [fault] for name, (fault, *_) in FAULTS.items()})
    result = swept()
    counted = result.functions.groupby(["account_id", "region"], observed=True).size()
    read = result.units[result.units["outcome"] == "read"].set_index(["account_id", "region"])
    assert counted.to_dict() == read["functions"].to_dict()
    return result.units.set_index(["account_id", "region"])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_its_outcome(units: pd.DataFrame, name: str) -> None:
    _, outcome, detail = FAULTS[name]
    unit = units.loc[(ACCOUNT_OF[name], FAULTY)]
    assert unit["outcome"] == outcome
    assert unit["functions"] == (FUNCTIONS if outcome == "read" else 0)
    assert detail in unit["detail"]
    assert bool(unit["detail"]) == (outcome != "read")


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_account_is_read_where_there_is_no_fault(units: pd.DataFrame, name: str) -> None:
    unit = units.loc[(ACCOUNT_OF[name], HEALTHY)]
    assert (unit["outcome"], unit["functions"]) == ("read", FUNCTIONS)


def test_a_throttled_account_slows_nobody_else(server: RunningServer) -> None:
    slow, *others = ACCOUNT_OF.values()
    server.set_faults({f"{slow}/*": [{"kind": "error", "status": 429, "retry_after": 1}]})
    settings = SweepSettings(workers=3, unit_timeout_sec=60, calls_per_second=100)
    done_before: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.unread:
            done_before.append(progress.done)

    sweep = Sweep(aws_for(settings), ORGANIZATION, settings, (), watch)
    units = sweep.run(members(), OptOuts(), TODAY).units.set_index(["account_id", "region"])

    assert list(units.loc[slow, "outcome"]) == ["throttled"] * 2
    assert (units.drop(index=slow)["outcome"] == "read").all()
    # The throttled units were begun first, on two of three workers, and still every other unit was read before them.
    assert done_before == [len(units) - 1, len(units)]
    signed = server.stats()["signed"]
    assert all(signed[f"{account}/{region}"] == 3 for account in others for region in REGIONS)


def test_a_role_that_may_not_be_assumed_is_asked_for_once(server: RunningServer) -> None:
    denied = account_id(0)
    server.set_faults(
        {f"{denied}/*": [{"kind": "error", "status": 403, "code": "AccessDenied", "service": "sts"}]}
    )
    units = swept().units.set_index(["account_id", "region"])
    assert [units.loc[(denied, region), "outcome"] for region in REGIONS] == ["access_denied"] * 2
    assert (units.drop(index=denied)["outcome"] == "read").all()
    # Each account's role once, and none again for the second region of the one that refused.
    assert server.stats()["operations"]["sts.AssumeRole"] == len(FAULTS)


def test_an_answer_for_another_account_stops_the_run(server: RunningServer) -> None:
    server.set_faults({f"{account_id(3)}/{FAULTY}": [{"kind": "wrong_account"}]})
    with pytest.raises(WrongAccount, match=account_id(3)) as stopped:
        swept()
    assert stopped.value.exit_code == 1


def test_what_the_deadline_leaves_unread_is_timed_out(server: RunningServer) -> None:
    silent = account_id(0)
    server.set_faults({f"{silent}/*": [{"kind": "hang"}]})
    settings = PATIENT.model_copy(update={"unit_timeout_sec": 30})
    units = swept(settings, deadline=time.monotonic() + 3).units.set_index(["account_id", "region"])
    assert len(units) == len(FAULTS) * len(REGIONS)
    assert list(units.loc[silent, "outcome"]) == ["timed_out"] * 2
    # Not after their own thirty seconds.
    assert set(units.loc[silent, "detail"]) == {"the run ended before it was read"}
    assert (units.drop(index=silent)["outcome"] == "read").all()


def test_a_sweep_that_is_stopped_accounts_for_every_unit(server: RunningServer) -> None:
    server.set_faults({f"*/{FAULTY}": [{"kind": "hang"}]})
    settings = PATIENT.model_copy(update={"workers": 2})
    aws = aws_for(settings)

    def stop(progress: Progress) -> None:
        aws.stop.set()

    units = Sweep(aws, ORGANIZATION, settings, (), stop).run(members(), OptOuts(), TODAY).units
    assert len(units) == len(FAULTS) * len(REGIONS)
    healthy = units.loc[units["region"] == HEALTHY, "outcome"]
    assert list(healthy.sort_values()) == ["read"] + ["timed_out"] * (len(FAULTS) - 1)
