"""What functions serve, read from moto: versions, aliases, weights, and what could not be read."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from scanner.aws.errors import TimedOut
from scanner.core.errors import WrongAccount
from scanner.inventory.alias_reader import AliasReader
from scanner.inventory.alias_traffic import effective_protection
from scanner.inventory.effective_coverage import add_effective_coverage
from scanner.risk.engine import assess_risk
from scanner.risk.protection import versions_protection
from tests.functional.members import MEMBERS, SWEEP, Faulty, client, functions_of, members, refused, throttled
from tests.unit.scanner.risk.assessed import TODAY, WRAPPER, rules

A, B = MEMBERS
# moto attaches only layers of the function's own account.
BY = rules(defender={"layers": {"python": "arn:aws:lambda:us-east-1:{account_id}:layer:twistlock-python:1"}})
ON = {"AWS_LAMBDA_EXEC_WRAPPER": WRAPPER}
READS = {"list_functions", "list_aliases", "list_provisioned_concurrency_configs"}
Provisioned = dict[str, list[tuple[str, int]]]


@pytest.fixture
def aws() -> Iterator[Faulty]:
    with members() as found:
        found.fault = provisioned()
        yield found


def provisioned(configs: Provisioned | None = None) -> Any:
    """Answer ListProvisionedConcurrencyConfigs, which moto does not know."""

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if method != "list_provisioned_concurrency_configs":
            return None
        name = parameters["FunctionName"]
        arn = f"arn:aws:lambda:us-east-1:{account_id}:function:{name}"
        return {
            "ProvisionedConcurrencyConfigs": [
                {"FunctionArn": f"{arn}:{qualifier}", "RequestedProvisionedConcurrentExecutions": count}
                for qualifier, count in (configs or {}).get(name, ())
            ]
        }

    return fault


class Account:
    """A member account in moto: deploys functions and publishes their versions, as their owner does."""

    def __init__(self, account_id: str = A) -> None:
        self.id = account_id
        self.deployed = client("lambda", account_id)
        role = client("iam", account_id).create_role(RoleName="app", AssumeRolePolicyDocument="{}")
        self.role = role["Role"]["Arn"]
        self.layer = self.deployed.publish_layer_version(
            LayerName="twistlock-python", Content={"ZipFile": b"x"}
        )["LayerVersionArn"]

    def function(self, name: str, *published: bool, protected: bool = True) -> None:
        """Publish a version each, protected or not, and leave $LATEST protected or not."""
        self.deployed.create_function(
            FunctionName=name, Runtime="python3.12", Role=self.role, Handler="a.b", Code={"ZipFile": b"x"},
            MemorySize=512, Timeout=30,
        )  # fmt: skip
        for number, state in enumerate(published):
            self.set(name, state)
            self.deployed.update_function_code(FunctionName=name, ZipFile=f"{number}".encode(), Publish=True)
        self.set(name, protected)

    def set(self, name: str, protected: bool) -> None:
        self.deployed.update_function_configuration(
            FunctionName=name,
            Layers=[self.layer] if protected else [],
            Environment={"Variables": ON if protected else {"STAGE": "prod"}},
        )

    def alias(self, function: str, name: str, version: str, **weights: float) -> None:
        routing = {
            "AdditionalVersionWeights": {key.removeprefix("v"): weight for key, weight in weights.items()}
        }
        self.deployed.create_alias(
            FunctionName=function, Name=name, FunctionVersion=version,
            **({"RoutingConfig": routing} if weights else {}),
        )  # fmt: skip


def reader(aws: Faulty) -> AliasReader:
    return AliasReader(aws, BY.defender.watched_variables, partial(versions_protection, rules=BY))


def read(aws: Faulty, *accounts: Account, seconds: float = 60.0) -> pd.DataFrame:
    listed = {account.id: account.deployed.list_functions()["Functions"] for account in accounts}
    assessed = assess_risk(functions_of(listed, BY), BY, TODAY)
    settings = SWEEP.model_copy(update={"unit_timeout_sec": seconds, "workers": 2})
    found = add_effective_coverage(assessed, reader(aws).read_unit, aws, settings)
    assert len(found) == len(assessed)
    return found.assign(effective=effective_protection(found)).set_index("function_name")


def test_a_function_without_versions_is_what_its_latest_is_and_is_asked_nothing_more(aws: Faulty) -> None:
    account = Account()
    account.function("plain")
    account.function("bare", protected=False)
    found = read(aws, account)
    assert list(found["served"]) == ["latest_only"] * 2
    assert found["effective"].to_dict() == {"plain": "protected", "bare": "unprotected"}
    assert found["provisioned_concurrency"].to_dict() == {"plain": 0, "bare": 0}
    assert {method for _, method, _ in aws.asked} == {"list_functions"}


def test_an_alias_on_an_unprotected_version_is_not_protected_where_traffic_goes(aws: Faulty) -> None:
    account = Account()
    account.function("old", False)
    account.alias("old", "live", "1")
    account.function("new", False, True)
    account.alias("new", "live", "2")
    account.function("rolled-out", True, protected=False)
    account.alias("rolled-out", "live", "1")
    found = read(aws, account)
    assert found["served"].to_dict() == {
        "old": "served_unprotected", "new": "served_protected", "rolled-out": "served_protected",
    }  # fmt: skip
    assert list(found["protection"]) == ["protected", "protected", "unprotected"]
    assert list(found["effective"]) == ["unprotected", "protected", "protected"]
    assert list(found["aliases"]) == ["live=1:unprotected", "live=2:protected", "live=1:protected"]
    assert set(found["served_outcome"]) == {"read"}


def test_versions_that_nothing_serves_do_not_count(aws: Faulty) -> None:
    account = Account()
    account.function("packaged", False, False)
    found = read(aws, account)
    assert list(found["served"]) == ["latest_only"]
    assert list(found["effective"]) == ["protected"]


def test_a_weighted_alias_counts_only_if_both_of_its_versions_do(aws: Faulty) -> None:
    account = Account()
    account.function("canary", False, True)
    account.alias("canary", "live", "2", v1=0.05)
    account.function("done", True, True)
    account.alias("done", "live", "2", v1=0.05)
    found = read(aws, account)
    assert list(found["served"]) == ["served_unprotected", "served_protected"]
    assert list(found["aliases"]) == [
        "live=2:protected,1:unprotected", "live=2:protected,1:protected",
    ]  # fmt: skip


def test_an_alias_on_latest_beside_one_on_a_version_needs_both(aws: Faulty) -> None:
    account = Account()
    account.function("both", True, protected=False)
    account.alias("both", "live", "1")
    account.alias("both", "test", "$LATEST")
    found = read(aws, account)
    assert list(found["served"]) == ["served_protected"]
    assert list(found["serves_latest"]) == [True]
    assert list(found["effective"]) == ["unprotected"]


def test_provisioned_concurrency_is_shown_and_a_version_that_has_some_is_served(aws: Faulty) -> None:
    account = Account()
    account.function("warm", False, True)
    account.alias("warm", "live", "2")
    aws.fault = provisioned({"warm": [("live", 5), ("1", 2)]})
    found = read(aws, account)
    assert list(found["provisioned_concurrency"]) == [7]
    assert list(found["aliases"]) == ["1=1:unprotected;live=2:protected"]
    assert list(found["served"]) == ["served_unprotected"]


def test_snap_start_is_shown(aws: Faulty) -> None:
    account = Account()
    account.function("plain")
    listed = aws.call(A, "us-east-1", "lambda", "list_functions", FunctionVersion="ALL")["Functions"]
    listed[0]["SnapStart"] = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    aws.fault = lambda account_id, method, parameters: (
        {"Functions": listed} if method == "list_functions" else None
    )
    assert list(read(aws, account)["snap_start"]) == ["PublishedVersions"]


def test_aws_ends_the_arns_of_all_versions_with_the_version(aws: Faulty) -> None:
    account = Account()
    account.function("app", True)
    account.alias("app", "live", "1")
    listed = aws.call(A, "us-east-1", "lambda", "list_functions", FunctionVersion="ALL")["Functions"]
    for item in listed:
        item["FunctionArn"] = f"arn:aws:lambda:us-east-1:{A}:function:app:{item['Version']}"
    answer = provisioned()
    aws.fault = lambda account_id, method, parameters: (
        {"Functions": listed} if method == "list_functions" else answer(account_id, method, parameters)
    )
    assert list(read(aws, account)["served"]) == ["served_protected"]


def test_pages_are_followed_and_a_marker_that_comes_twice_ends_in_unknown(aws: Faulty) -> None:
    account = Account()
    account.function("app", False)
    answer = provisioned()
    pages: dict[str | None, dict[str, Any]] = {
        None: {"Aliases": [{"Name": "a", "FunctionVersion": "$LATEST"}], "NextMarker": "2"},
        "2": {"Aliases": [{"Name": "b", "FunctionVersion": "1"}]},
    }
    aws.fault = lambda account_id, method, parameters: (
        pages[parameters.get("Marker")]
        if method == "list_aliases"
        else answer(account_id, method, parameters)
    )
    assert list(read(aws, account)["aliases"]) == ["a=$LATEST;b=1:unprotected"]
    pages["2"]["NextMarker"] = "2"
    assert list(read(aws, account)["served"]) == ["unknown"]


@pytest.mark.parametrize("method", sorted(READS))
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (refused("ListX"), "access_denied"),
        (throttled("ListX"), "throttled"),
        (TimedOut("no answer"), "timed_out"),
        (OSError("x"), "error"),
    ],
)
def test_what_could_not_be_read_is_unknown_and_never_protected(
    aws: Faulty, caplog: pytest.LogCaptureFixture, method: str, error: Exception, outcome: str
) -> None:
    account, other = Account(), Account(B)
    for owner in (account, other):
        owner.function("app", True)
        owner.alias("app", "live", "1")
    answer = provisioned()

    def fault(account_id: str, asked: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if account_id == A and asked == method:
            raise error
        result: dict[str, Any] | None = answer(account_id, asked, parameters)
        return result

    aws.fault = fault
    found = read(aws, account, other)
    assert list(found["served"]) == ["unknown", "served_protected"]
    assert list(found["served_outcome"]) == [outcome, "read"]
    assert list(found["effective"]) == ["unknown", "protected"]
    assert list(found["provisioned_concurrency"]) == [-1, 0]
    assert f"versions and aliases not read: {A} in us-east-1: {outcome}" in caplog.text


def test_a_fault_on_the_way_keeps_what_was_read_before_it(aws: Faulty) -> None:
    account = Account()
    account.function("no-versions")
    for name in ("first", "second"):
        account.function(name, True)
        account.alias(name, "live", "1")
    answer = provisioned()

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if method == "list_aliases" and parameters["FunctionName"] == "second":
            raise throttled("ListAliases")
        result: dict[str, Any] | None = answer(account_id, method, parameters)
        return result

    aws.fault = fault
    assert read(aws, account)["served"].to_dict() == {
        "no-versions": "latest_only", "first": "served_protected", "second": "unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    "aliases",
    [
        ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "ListAliases"),
        {"Aliases": [{"Name": "live"}]},
        {"Aliases": "none"},
        {"Aliases": [7]},
    ],
)
def test_one_function_that_makes_no_sense_costs_the_others_nothing(aws: Faulty, aliases: Any) -> None:
    account = Account()
    for name in ("first", "second"):
        account.function(name, True)
        account.alias(name, "live", "1")
    answer = provisioned()

    def fault(account_id: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if method == "list_aliases" and parameters["FunctionName"] == "first":
            if isinstance(aliases, Exception):
                raise aliases
            broken: dict[str, Any] = aliases
            return broken
        result: dict[str, Any] | None = answer(account_id, method, parameters)
        return result

    aws.fault = fault
    found = read(aws, account)
    assert list(found["served"]) == ["unknown", "served_protected"]
    assert list(found["served_outcome"]) == ["error", "read"]


def test_a_version_that_an_alias_names_and_the_listing_lacks_is_unknown(aws: Faulty) -> None:
    account = Account()
    account.function("app", True)
    answer = provisioned()
    aws.fault = lambda account_id, method, parameters: (
        {"Aliases": [{"Name": "live", "FunctionVersion": "9"}]}
        if method == "list_aliases"
        else answer(account_id, method, parameters)
    )
    assert list(read(aws, account)["served"]) == ["unknown"]


def test_a_function_that_the_listing_lacks_is_unknown(aws: Faulty) -> None:
    account = Account()
    account.function("app")
    aws.fault = lambda account_id, method, parameters: (
        {"Functions": []} if method == "list_functions" else None
    )
    found = read(aws, account)
    assert list(found["served"]) == ["unknown"]
    assert list(found["served_outcome"]) == ["error"]


def test_an_answer_for_another_account_ends_everything(aws: Faulty) -> None:
    account = Account()
    account.function("app", True)
    foreign = {
        "FunctionName": "app", "Version": "1", "FunctionArn": f"arn:aws:lambda:us-east-1:{B}:function:app:1",
    }  # fmt: skip
    aws.fault = lambda account_id, method, parameters: (
        {"Functions": [foreign]} if method == "list_functions" else None
    )
    with pytest.raises(WrongAccount):
        read(aws, account)
    assert aws.stop.is_set()


def test_only_reads_are_called(aws: Faulty) -> None:
    account = Account()
    account.function("app", True, False)
    account.alias("app", "live", "1", v2=0.5)
    read(aws, account)
    assert {method for _, method, _ in aws.asked} == READS
    aliases = account.deployed.list_aliases(FunctionName="app")["Aliases"]
    assert [alias["FunctionVersion"] for alias in aliases] == ["1"]


def read_alone(aws: Faulty, account: Account, name: str) -> pd.Series:
    """Read one function as explain does, and give its row."""
    configuration = account.deployed.get_function_configuration(FunctionName=name)
    assessed = assess_risk(functions_of({account.id: [configuration]}, BY), BY, TODAY)
    read_one = partial(reader(aws).read_function, configuration=configuration)
    found = add_effective_coverage(assessed, read_one, aws, SWEEP)
    return found.assign(effective=effective_protection(found)).iloc[0]


def test_one_function_alone_reads_as_in_the_listing_and_asks_for_no_other(aws: Faulty) -> None:
    account = Account()
    account.function("canary", False, True)
    account.alias("canary", "live", "2", v1=0.05)
    account.function("new", True, True)
    account.alias("new", "live", "2")
    account.alias("new", "test", "$LATEST")
    account.function("plain", False)
    aws.fault = provisioned({"new": [("live", 5), ("1", 2)]})
    listed = read(aws, account)
    aws.asked.clear()
    for name in listed.index:
        alone = read_alone(aws, account, name)
        assert alone[listed.columns].to_dict() == listed.loc[name].to_dict()
    assert {method for _, method, _ in aws.asked} == READS - {"list_functions"} | {
        "get_function_configuration"
    }


@pytest.mark.parametrize(
    "method", ["list_aliases", "list_provisioned_concurrency_configs", "get_function_configuration"]
)
def test_one_function_alone_that_could_not_be_read_is_unknown(aws: Faulty, method: str) -> None:
    account = Account()
    account.function("app", True)
    account.alias("app", "live", "1")
    answer = provisioned()

    def fault(account_id: str, asked: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if asked == method:
            raise refused("X")
        result: dict[str, Any] | None = answer(account_id, asked, parameters)
        return result

    aws.fault = fault
    found = read_alone(aws, account, "app")
    assert (found["served"], found["served_outcome"], found["effective"]) == (
        "unknown", "access_denied", "unknown",
    )  # fmt: skip
    aws.fault = answer
    assert read_alone(aws, account, "app")["effective"] == "protected"


def test_a_version_of_another_account_ends_explaining(aws: Faulty) -> None:
    account = Account()
    account.function("app", True)
    account.alias("app", "live", "1")
    answer = provisioned()
    foreign = {
        "FunctionName": "app",
        "Version": "1",
        "FunctionArn": f"arn:aws:lambda:us-east-1:{B}:function:app:1",
    }
    aws.fault = lambda account_id, method, parameters: (
        foreign if method == "get_function_configuration" else answer(account_id, method, parameters)
    )
    with pytest.raises(WrongAccount):
        read_alone(aws, account, "app")


def test_no_functions_need_no_calls(aws: Faulty) -> None:
    found = add_effective_coverage(
        assess_risk(functions_of({}, BY), BY, TODAY), reader(aws).read_unit, aws, SWEEP
    )
    assert len(found) == 0
    assert not aws.asked
    assert found["provisioned_concurrency"].dtype == "int32"
