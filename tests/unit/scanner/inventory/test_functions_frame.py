"""From Lambda's answers to the frame: types, defaults, order, other accounts, and no secrets."""

import json
from typing import Any

import botocore.session
import pytest
from botocore.model import StructureShape
from pydantic import SecretStr

from scanner.aws.errors import BrokenAnswer
from scanner.core.errors import WrongAccount
from scanner.inventory.functions_frame import (
    COLUMNS,
    KIND_FIELDS,
    KNOWN_FIELDS,
    FunctionsFrame,
    facts,
    frame_of,
    measured_bytes,
)
from scanner.settings import EXEC_WRAPPER
from tests.unit.scanner.risk.assessed import ACCOUNT, REGION, WRAPPER, frame, function, layer

WATCHED = (
    (EXEC_WRAPPER, None),
    ("TW_POLICY", SecretStr("the policy of {function_name} in {region} of {account_id}")),
)


def row(configuration: dict[str, Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = frame_of([configuration], "aws", ACCOUNT, REGION, WATCHED).iloc[0].to_dict()
    return made


def test_every_field_lands_in_its_column() -> None:
    configuration = function(
        "app", layers=[layer(), layer("b", 7)], variables={"TW_POLICY": "secret", "A": "secret", EXEC_WRAPPER: WRAPPER},
        State="Active", LastUpdateStatus="Successful", SigningJobArn="x",
    )  # fmt: skip
    assert row(configuration) == {
        "account_id": ACCOUNT, "region": REGION, "function_name": "app", "runtime": "python3.12", "package_type": "Zip",
        "architecture": "x86_64", "memory_mb": 512, "timeout_sec": 30, "code_size_bytes": 5_000_000,
        "layers": f"{layer()} {layer('b', 7)}", "layer_count": 2, "exec_wrapper": WRAPPER,
        "env_names": f"{EXEC_WRAPPER};TW_POLICY",
        "env_bytes": len(json.dumps({"TW_POLICY": "secret", "A": "secret", EXEC_WRAPPER: WRAPPER}, separators=(",", ":"))),
        "env_readable": True, "revision_id": "a-revision", "state": "Active", "last_update_status": "Successful",
        "edge_replica": False, "signed": True, "kinds": "", "env_different": "TW_POLICY",
        "env_growth": len(f"the policy of app in {REGION} of {ACCOUNT}") - len("secret"),
    }  # fmt: skip


def test_what_aws_leaves_out_has_aws_s_defaults() -> None:
    found = row({"FunctionName": "app", "FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:app"})
    assert (found["package_type"], found["architecture"], found["runtime"]) == ("Zip", "x86_64", "")
    assert (found["layers"], found["layer_count"], found["env_names"], found["env_bytes"]) == ("", 0, "", 2)
    assert found["env_readable"]
    assert (found["memory_mb"], found["timeout_sec"], found["code_size_bytes"]) == (-1, -1, -1)


def test_columns_have_the_types_that_keep_a_million_rows_small() -> None:
    types = {name: str(dtype) for name, dtype in frame(function()).dtypes.items()}
    assert list(types) == list(COLUMNS)
    numbers = {
        "memory_mb": "int32",
        "timeout_sec": "int32",
        "code_size_bytes": "int64",
        "layer_count": "int8",
        "env_bytes": "int32",
        "env_growth": "int32",
    }
    flags = dict.fromkeys(("env_readable", "edge_replica", "signed"), "bool")
    texts = dict.fromkeys(("function_name", "revision_id"), "str")
    assert types == {**dict.fromkeys(COLUMNS, "category"), **numbers, **flags, **texts}
    assert {name: str(dtype) for name, dtype in frame().dtypes.items()} == types


def test_rows_keep_the_order_they_came_in_across_units() -> None:
    made = FunctionsFrame()
    for account, region, names in (
        ("222233334444", "us-east-1", "ba"),
        ("111122223333", "eu-west-1", "c"),
        ("222233334444", "us-east-1", ""),
    ):
        made.add(
            account,
            region,
            facts(
                [function(n, account=account, region=region) for n in names], "aws", account, region, WATCHED
            ),
        )
    assert len(made) == 3
    found = made.finish()
    assert list(found["function_name"]) == ["b", "a", "c"]
    assert list(found["account_id"]) == ["222233334444", "222233334444", "111122223333"]
    assert list(found["region"]) == ["us-east-1", "us-east-1", "eu-west-1"]


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:lambda:{REGION}:999999999999:function:app", f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:app",
        f"arn:aws-cn:lambda:{REGION}:{ACCOUNT}:function:app", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:app:3", "", None, 7, ["arn"],
    ],
)  # fmt: skip
def test_an_answer_for_somebody_else_stops_everything(arn: Any) -> None:
    with pytest.raises(WrongAccount, match="asked for"):
        facts([{**function("app"), "FunctionArn": arn}], "aws", ACCOUNT, REGION, WATCHED)


@pytest.mark.parametrize(
    "item",
    [
        None,
        "app",
        7,
        [],
        {},
        {"FunctionName": "app"},
        {"FunctionArn": "x"},
        {"FunctionName": 7, "FunctionArn": "x"},
    ],
)
def test_an_item_that_is_no_function_is_a_broken_answer(item: Any) -> None:
    with pytest.raises(BrokenAnswer):
        facts([function(), item], "aws", ACCOUNT, REGION, WATCHED)


@pytest.mark.parametrize(
    ("variables", "size"),
    [
        ({}, 2),
        ({"A": "b"}, 9),
        ({"A": "b", "C": "d"}, 17),
        ({"A": 'b"'}, 11),
        ({"A": "é"}, 10),
        ({"A": "\ud800"}, 11),
    ],
)
def test_the_measure_is_compact_json(variables: dict[str, str], size: int) -> None:
    assert measured_bytes(variables) == size


@pytest.mark.parametrize(
    ("variables", "different", "growth"),
    [
        ({"TW_POLICY": f"the policy of app in {REGION} of {ACCOUNT}"}, "", 0),
        ({"TW_POLICY": f"the policy of App in {REGION} of {ACCOUNT}"}, "TW_POLICY", 0),
        ({"TW_POLICY": "é"}, "TW_POLICY", len(f"the policy of app in {REGION} of {ACCOUNT}") - 2),
        ({EXEC_WRAPPER: "/opt/another"}, "", 0),
        ({"OTHER": "x"}, "", 0),
    ],
)
def test_values_are_compared_with_the_configured_ones_where_they_are_read(
    variables: dict[str, str], different: str, growth: int
) -> None:
    found = row(function(variables=variables))
    assert (found["env_different"], found["env_growth"]) == (different, growth)


def test_no_value_but_the_wrapper_s_is_kept() -> None:
    made = frame_of(
        [function(variables={"TW_POLICY": "s3cr3t", "PASSWORD": "s3cr3t", EXEC_WRAPPER: "/opt/w"})],
        "aws",
        ACCOUNT,
        REGION,
        WATCHED,
    )
    categories = [list(column.cat.categories) for _, column in made.items() if hasattr(column, "cat")]
    assert "s3cr3t" not in made.to_csv() + str(categories)
    assert made["exec_wrapper"].iloc[0] == "/opt/w"


def test_botocore_knows_no_field_of_a_function_that_nobody_looked_at() -> None:
    """When a new botocore fails this: decide whether the field says something against a layer, and list it."""
    model = botocore.session.get_session().get_service_model("lambda").shape_for("FunctionConfiguration")
    assert isinstance(model, StructureShape)
    assert set(model.members) == (KNOWN_FIELDS | KIND_FIELDS.keys()) - {"ResponseMetadata"}


def test_a_get_function_configuration_answer_makes_the_same_row() -> None:
    listed, read = function(), {**function(), "ResponseMetadata": {"HTTPStatusCode": 200}}
    assert row(listed) == row(read)
