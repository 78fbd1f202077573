"""Is a region disabled, or is the token bad? And what an account's own opt-out saves."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from scanner.aws import caller
from scanner.aws.errors import BrokenAnswer, Throttled, TimedOut, Unreachable
from scanner.core.clock import SYSTEM_CLOCK, Clock
from scanner.inventory.ledger import Unit
from scanner.inventory.sweep import Sweep
from scanner.inventory.unit_reader import SILENT_UNITS, RegionSilent, UnitReader
from scanner.organization.optouts import OptOut, OptOuts
from scanner.organization.regions import enabled_regions, is_disabled
from scanner.settings import OrganizationSettings, SweepSettings
from tests.clocks import StandingClock
from tests.functional.members import MEMBERS, REGION, members

DENIED = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetRegionOptStatus")


class Answers:
    """An Aws that answers from functions by method."""

    home_region = "us-east-1"
    partition = "aws"

    def __init__(self, clock: Clock = SYSTEM_CLOCK, **methods: Callable[..., dict[str, Any]]) -> None:
        self.methods = methods
        self.clock = clock
        self.asked: list[tuple[str, str]] = []
        self.stop = threading.Event()

    def call(
        self, account_id: str, region: str, service: str, method: str, **parameters: Any
    ) -> dict[str, Any]:
        self.asked.append((account_id, method))
        return self.methods[method](**parameters)


def raising(error: Exception) -> Callable[..., dict[str, Any]]:
    def method(**parameters: Any) -> dict[str, Any]:
        raise error

    return method


@pytest.mark.parametrize(
    ("status", "disabled"),
    [
        ("DISABLED", True),
        ("DISABLING", False),
        ("ENABLED", False),
        ("ENABLED_BY_DEFAULT", False),
        ("NEW", False),
    ],
)
def test_only_a_region_that_says_so_is_disabled(status: str, disabled: bool) -> None:
    aws = Answers(get_region_opt_status=lambda **_: {"RegionOptStatus": status})
    assert is_disabled(aws, "111122223333", "ap-east-1") is disabled


def test_ec2_is_asked_where_account_may_not_be() -> None:
    regions = {"Regions": [{"RegionName": "ap-east-1", "OptInStatus": "not-opted-in"}]}
    aws = Answers(get_region_opt_status=raising(DENIED), describe_regions=lambda **_: regions)
    assert is_disabled(aws, "111122223333", "ap-east-1") is True


def test_a_list_of_regions_that_never_ends_is_no_list() -> None:
    page = {"Regions": [{"RegionName": "us-east-1"}], "NextToken": "again"}
    with pytest.raises(BrokenAnswer, match="list_regions: the same NextToken came twice"):
        enabled_regions(Answers(list_regions=lambda **_: page), "111122223333")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [DENIED, BrokenAnswer("cut"), Unreachable("gone")])
def test_without_evidence_nothing_is_said(error: Exception) -> None:
    aws = Answers(get_region_opt_status=raising(error), describe_regions=raising(DENIED))
    assert is_disabled(aws, "111122223333", "ap-east-1") is None


def accounts_frame(*account_ids: str) -> pd.DataFrame:
    rows = [(account_id, "name", "Root", "ACTIVE", True, "") for account_id in account_ids]
    return pd.DataFrame(
        rows, columns=["account_id", "account_name", "ou_path", "state", "in_scope", "detail"]
    )


def test_an_account_that_opted_out_is_not_even_asked_for_its_regions() -> None:
    entry = OptOut(account="222233334444", reason="sold", owner="legal@example.com")
    organization = OrganizationSettings(role_name="R", regions="enabled")
    aws = Answers(list_regions=raising(DENIED), describe_regions=raising(DENIED))
    swept = Sweep(aws, organization, SweepSettings(workers=2), ()).run(
        accounts_frame("111122223333", "222233334444"), OptOuts((entry,)), date(2026, 11, 24)
    )
    assert {account_id for account_id, _ in aws.asked} == {"111122223333"}
    assert swept.units.set_index("account_id")["outcome"].to_dict() == {
        "111122223333": "access_denied",
        "222233334444": "opted_out",
    }


def silent() -> Unreachable:
    error = Unreachable("no answer")
    error.__cause__ = EndpointConnectionError(endpoint_url="https://lambda.eu-west-1.example")
    return error


UNIT = Unit("111122223333", "eu-west-1")


def test_a_region_is_given_up_only_after_so_many_silent_accounts_in_a_row() -> None:
    answers = [silent()] * (SILENT_UNITS - 1)
    answers += [ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "ListFunctions")]
    answers += [Unreachable("STS is gone")] * SILENT_UNITS
    answers += [silent()] * SILENT_UNITS
    following = iter(answers)

    def list_functions(**_: Any) -> dict[str, Any]:
        raise next(following)

    reader = UnitReader(Answers(list_functions=list_functions), ())
    for _ in answers:
        with pytest.raises((Unreachable, ClientError)):
            reader.read(UNIT, math.inf)
    with pytest.raises(RegionSilent):
        reader.read(UNIT, math.inf)


@pytest.mark.parametrize(
    ("fault", "code"), [(Throttled, "TooManyRequestsException"), (Unreachable, "ServiceException")]
)
def test_a_region_that_throttles_or_fails_is_not_silent(fault: type[Exception], code: str) -> None:
    error = fault("after every attempt")
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": ""}}, "ListFunctions")
    following = iter([*[silent()] * (SILENT_UNITS - 1), error, *[silent()] * 2])

    def list_functions(**_: Any) -> dict[str, Any]:
        raise next(following)

    reader = UnitReader(Answers(list_functions=list_functions), ())
    for _ in range(SILENT_UNITS + 2):
        with pytest.raises((Unreachable, Throttled)):
            reader.read(UNIT, math.inf)


class Silence(StandingClock):
    """Moves only where a call waits for its deadline."""

    def never(self, *, deadline: float, **_: Any) -> dict[str, Any]:
        self.advance(deadline - self.monotonic())
        raise silent()


def test_a_silent_region_takes_little_of_a_run_even_from_one_worker() -> None:
    clock = Silence()
    aws = Answers(clock, list_functions=clock.never)
    reader = UnitReader(aws, ())
    for number in range(5_000):
        with pytest.raises((Unreachable, RegionSilent)):
            reader.read(Unit(f"{number:012}", "eu-west-1"), clock.monotonic() + 3_600)
    assert len(aws.asked) == SILENT_UNITS
    assert clock.advanced <= 150


def test_an_answer_gives_the_next_account_as_long_as_the_first_had() -> None:
    clock, waits = Silence(), []
    aws = Answers(clock)
    reader = UnitReader(aws, ())
    for answer in (clock.never, clock.never, lambda **_: {"Functions": []}, clock.never):
        aws.methods["list_functions"], begun = answer, clock.monotonic()
        with contextlib.suppress(Unreachable):
            reader.read(UNIT, math.inf)
        waits.append(clock.monotonic() - begun)
    assert waits[0] > waits[1] > waits[2] == 0
    assert waits[3] == waits[0]


def test_only_the_first_page_has_to_come_soon() -> None:
    deadlines = []

    def list_functions(*, deadline: float, Marker: str = "", **_: Any) -> dict[str, Any]:
        deadlines.append(deadline)
        return {"Functions": [], "NextMarker": "" if Marker else "2"}

    UnitReader(Answers(list_functions=list_functions), ()).read(UNIT, math.inf)
    first, second = deadlines
    assert first < second == math.inf


def test_an_account_that_the_deadline_ends_between_two_attempts_counts_as_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        caller, "_full_jitter", lambda state: 1e6
    )  # every second attempt is after the deadline

    def no_answer(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://lambda.us-east-1.amazonaws.com", error="timed out")

    with members() as aws:
        aws.clients.get("lambda", REGION).meta.events.register_first("before-send.lambda", no_answer)
        reader = UnitReader(aws, ())
        for _ in range(SILENT_UNITS):
            with pytest.raises(TimedOut, match="ReadTimeoutError"):
                reader.read(Unit(MEMBERS[0], REGION), time.monotonic() + 60)
        with pytest.raises(RegionSilent):
            reader.read(Unit(MEMBERS[0], REGION), math.inf)
