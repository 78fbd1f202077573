"""What the emulators do not have: throttling, policies, keys, sizes, accounts that leave, hooks and the record of writes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.caller import Caller
from simulator.calls import AnswerLost, Call
from simulator.clock import ManualClock
from simulator.core import Core, Denial
from simulator.state import Function

ACCOUNT, REGION = "111122223333", "us-east-1"
LAYER = f"arn:aws:lambda:{REGION}:999988887777:layer:twistlock-python:4"


class Lost(Exception):
    """What the caller is promised for a lost answer."""


@pytest.fixture
def core() -> Core:
    return Core(ManualClock(datetime(2026, 11, 24, tzinfo=UTC)))


@pytest.fixture
def function(core: Core) -> Function:
    return core.place(ACCOUNT, REGION, "f", Environment={"Variables": {"OWNER": "x"}})


def call(core: Core, method: str, service: str = "lambda", **parameters: Any) -> dict[str, Any]:
    return Caller(core, "AutoDefender-run", lost=Lost).call(ACCOUNT, REGION, service, method, **parameters)


def read(core: Core) -> dict[str, Any]:
    return call(core, "get_function_configuration", FunctionName="f")


def update(core: Core, **changes: Any) -> dict[str, Any]:
    return call(core, "update_function_configuration", FunctionName="f", **changes)


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return refused.value.response["Error"]["Code"]


def test_an_account_region_has_fifteen_calls_a_second(core: Core, function: Function) -> None:
    for _ in range(15):
        read(core)
    with pytest.raises(ClientError) as refused:
        read(core)
    assert code_of(refused) == "TooManyRequestsException"
    core.clock.sleep(0.1)
    assert read(core)["FunctionArn"] == function.arn


def test_a_denial_names_itself_and_ends(core: Core, function: Function) -> None:
    denial = core.deny(Denial("lambda:Update*", account=ACCOUNT))
    assert read(core)["FunctionArn"] == function.arn
    with pytest.raises(ClientError, match="explicit deny in a service control policy") as refused:
        update(core, Timeout=9)
    assert code_of(refused) == "AccessDeniedException"
    core.denials.remove(denial)
    assert update(core, Timeout=9)["Timeout"] == 9


@pytest.mark.parametrize("state", ["left", "suspended", "role gone"])
def test_nobody_acts_in_an_account_without_a_role(core: Core, function: Function, state: str) -> None:
    account = core.organization.accounts[ACCOUNT]
    account.status = "SUSPENDED" if state == "suspended" else "ACTIVE"
    account.role_denied = state == "role gone"
    if state == "left":
        core.organization.leave(ACCOUNT)
    with pytest.raises(ClientError) as refused:
        read(core)
    assert (code_of(refused), refused.value.operation_name) == ("AccessDenied", "AssumeRole")


def test_a_region_that_is_not_enabled_knows_no_token(core: Core, function: Function) -> None:
    core.organization.accounts[ACCOUNT].disabled_regions = {REGION}
    with pytest.raises(ClientError) as refused:
        read(core)
    assert code_of(refused) == "UnrecognizedClientException"


def test_a_key_that_denies_hides_the_variables_and_refuses_new_ones(core: Core, function: Function) -> None:
    function.key_denied = True
    assert read(core)["Environment"].keys() == {"Error"}
    with pytest.raises(ClientError) as refused:
        update(core, Environment={"Variables": {"OWNER": "y"}})
    assert code_of(refused) == "AccessDeniedException"
    function.key_denied = False
    assert read(core)["Environment"] == {"Variables": {"OWNER": "x"}}


def test_code_and_layers_together_have_a_size(core: Core, function: Function) -> None:
    core.publish_layer(LAYER, unzipped=1_000_000)
    function.unzipped = 262_144_000 - 1_000_000 + 1
    with pytest.raises(ClientError, match="combined with layers exceeds the maximum allowed size") as refused:
        update(core, Layers=[LAYER])
    assert code_of(refused) == "InvalidParameterValueException"
    function.unzipped -= 1
    assert update(core, Layers=[LAYER])["Layers"][0]["Arn"] == LAYER


def test_a_layer_of_another_account_is_granted(core: Core, function: Function) -> None:
    layer = core.publish_layer(LAYER, principals=set())
    with pytest.raises(
        ClientError, match="no resource-based policy allows the lambda:GetLayerVersion action"
    ):
        update(core, Layers=[LAYER])
    layer.principals = {ACCOUNT}
    assert update(core, Layers=[LAYER])["Layers"][0]["Arn"] == LAYER


def test_an_update_can_end_as_failed(core: Core, function: Function) -> None:
    core.fails_next[function.arn] = "EniLimitExceeded"
    update(core, Timeout=9)
    core.clock.sleep(2)
    ended = read(core)
    assert (ended["LastUpdateStatus"], ended["LastUpdateStatusReasonCode"]) == ("Failed", "EniLimitExceeded")


@pytest.mark.parametrize("done", [True, False])
def test_an_answer_is_lost_before_or_after_the_call(core: Core, function: Function, done: bool) -> None:
    def lose(of: Call, *_: object) -> None:
        if of.operation == "UpdateFunctionConfiguration":
            raise AnswerLost

    if done:
        core.after = lose
    else:
        core.before = lose
    with pytest.raises(Lost):
        update(core, Timeout=9)
    assert (read(core)["Timeout"] == 9) is done


def test_every_write_is_recorded_with_who_asked(core: Core, function: Function) -> None:
    update(core, Timeout=9)
    core.deploy(function.arn, MemorySize=1024)
    call(core, "tag_resource", Resource=function.arn, Tags={"TEAM": "x"})
    core.as_owner(ACCOUNT, REGION, "DeleteFunction", FunctionName="f")
    ours, owners, tagged, deleted = core.writes
    sessions = [write.call.session for write in core.writes]
    assert sessions == ["AutoDefender-run", "owner", "AutoDefender-run", "owner"]
    assert ours.before
    assert ours.after
    assert owners.after
    assert (ours.before["Timeout"], ours.after["Timeout"], owners.after["MemorySize"]) == (30, 9, 1024)
    assert (tagged.tags_before, tagged.tags_after) == ({}, {"TEAM": "x"})
    assert deleted.after is None


def test_cloudwatch_sums_what_was_counted(core: Core, function: Function) -> None:
    start = core.clock.now()
    counted = [(start + timedelta(minutes=minute), 2.0) for minute in (1, 2, 61)]
    core.cloudwatch.datapoints[function.arn, "Errors"] = counted
    metric = {
        "Namespace": "AWS/Lambda",
        "MetricName": "Errors",
        "Dimensions": [{"Name": "FunctionName", "Value": "f"}],
    }
    query = {"Id": "q0", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "Sum"}}
    times = {"StartTime": start, "EndTime": start + timedelta(hours=3)}
    (result,) = call(core, "get_metric_data", "cloudwatch", MetricDataQueries=[query], **times)[
        "MetricDataResults"
    ]
    assert (result["Values"], result["Timestamps"]) == ([4.0, 2.0], [start, start + timedelta(hours=1)])


def test_functions_are_found_by_their_tag(core: Core, function: Function) -> None:
    core.place(ACCOUNT, REGION, "other")
    function.tags = {"AutoDefender": "off"}
    filters = [{"Key": "AutoDefender", "Values": ["off"]}]
    found = call(core, "get_resources", "resourcegroupstaggingapi", TagFilters=filters)
    assert [one["ResourceARN"] for one in found["ResourceTagMappingList"]] == [function.arn]
