"""Is a region disabled, or is the token bad? And what an account's own opt-out saves."""

import math
import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from scanner.aws.errors import BrokenAnswer, Unreachable
from scanner.inventory.ledger import Unit
from scanner.inventory.sweep import Sweep
from scanner.inventory.unit_reader import SILENT_UNITS, RegionSilent, UnitReader
from scanner.organization.optouts import OptOut, OptOuts
from scanner.organization.regions import enabled_regions, is_disabled
from scanner.settings import OrganizationSettings, SweepSettings

DENIED = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetRegionOptStatus")


class Answers:
    """An Aws that answers from functions by method."""

    home_region = "us-east-1"
    partition = "aws"

    def __init__(self, **methods: Callable[..., dict[str, Any]]) -> None:
        self.methods = methods
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


def test_a_region_is_given_up_only_after_so_many_silent_accounts_in_a_row() -> None:
    answers = [silent()] * (SILENT_UNITS - 1)
    answers += [ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "ListFunctions")]
    answers += [Unreachable("STS is gone")] * SILENT_UNITS
    answers += [silent()] * SILENT_UNITS
    turns = iter(answers)

    def list_functions(**_: Any) -> dict[str, Any]:
        raise next(turns)

    reader = UnitReader(Answers(list_functions=list_functions), ())
    for _ in answers:
        with pytest.raises((Unreachable, ClientError)):
            reader.read(Unit("111122223333", "eu-west-1"), math.inf)
    with pytest.raises(RegionSilent):
        reader.read(Unit("111122223333", "eu-west-1"), math.inf)
