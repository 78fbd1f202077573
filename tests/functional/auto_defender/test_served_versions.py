"""Which aliases still serve versions with our layer; what could not be read is unknown, never none."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from auto_defender.context import Context
from auto_defender.stages.served_versions import served_versions
from remediator.change.delta import Delta
from remediator.change.records import Intent, Undo
from scanner.core.clock import SYSTEM_CLOCK
from tests.functional.members import MEMBERS, REGION, SWEEP, Faulty, members, refused
from tests.unit.remediator.fake_lambda import arn_of, layer, refusal
from tests.unit.remediator.harness import RUN, settings

RENAMED = layer(7, "twistlock-of-last-year")


@pytest.fixture
def aws() -> Iterator[Faulty]:
    with members() as faulty:
        yield faulty


def undo(name: str, account: str = MEMBERS[0]) -> Undo:
    """A rollback of a layer that the configuration no longer names."""
    arn = arn_of(name, account, REGION)
    intent = Intent("1", RUN, "protect", account, REGION, name, arn, "python", "r", Delta(RENAMED, 0), (), "")
    return Undo(account, REGION, name, arn, (intent,))


def read(aws: Faulty, undos: list[Undo]) -> dict[str, str]:
    configuration = SimpleNamespace(sweep=SWEEP, defender=settings())
    context = SimpleNamespace(aws=aws, configuration=configuration, deadline=None, clock=SYSTEM_CLOCK)
    return {
        arn.rpartition(":")[2]: text for arn, text in served_versions(cast(Context, context), undos).items()
    }


def answers(aliases: dict[str, tuple[str, ...]], layers: dict[str, Any], fault: Any = None) -> Any:
    """Answer for every function. aliases: by name; layers: by version, what FunctionConfiguration has."""

    def answer(account: str, method: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if fault and (error := fault(account, method, parameters)):
            raise error
        name = parameters.get("FunctionName", "").rpartition(":")[2]
        if method == "get_function_configuration":
            version = parameters.get("Qualifier", "$LATEST")
            qualified = f":{version}" if "Qualifier" in parameters else ""
            return {
                "FunctionName": name,
                "FunctionArn": arn_of(name, account, REGION) + qualified,
                "Version": version,
                "Layers": layers.get(version),
            }
        if method == "list_aliases":
            return {"Aliases": [_alias(alias, versions) for alias, versions in aliases.items()]}
        if method == "list_provisioned_concurrency_configs":
            return {"ProvisionedConcurrencyConfigs": []}
        return None

    return answer


def _alias(name: str, versions: tuple[str, ...]) -> dict[str, Any]:
    main, *others = versions
    weights = {"AdditionalVersionWeights": dict.fromkeys(others, 0.1)}
    return {"Name": name, "FunctionVersion": main, "RoutingConfig": weights}


def test_every_version_with_a_layer_of_ours_is_named_whatever_its_number(aws: Faulty) -> None:
    carries = {
        "1": [{"Arn": layer(3)}],  # older than the configured one
        "2": [{"Arn": layer(1, "datadog")}],
        "3": [{"Arn": layer(1, "datadog")}, {"Arn": RENAMED}],
        "4": "broken",
    }
    aliases = {"old": ("1",), "theirs": ("2",), "both": ("2", "3"), "latest": ("$LATEST",), "odd": ("4", "3")}
    aws.fault = answers(aliases, carries)
    assert read(aws, [undo("f")]) == {"f": "both=3;odd=4?,3;old=1"}


def test_without_such_a_version_there_is_none(aws: Faulty) -> None:
    aws.fault = answers({"live": ("2",)}, {"2": [{"Arn": layer(1, "datadog")}]})
    assert read(aws, [undo("f")]) == {"f": ""}


@pytest.mark.parametrize("method", ["get_function_configuration", "list_aliases"])
def test_what_can_not_be_read_is_unknown_for_that_function_alone(aws: Faulty, method: str) -> None:
    aws.fault = answers(
        {"live": ("1",)},
        {"1": [{"Arn": layer(3)}]},
        lambda account, called, parameters: (
            refused(called) if called == method and parameters["FunctionName"].endswith("bad") else None
        ),
    )
    found = read(aws, [undo("bad"), undo("good"), undo("good2", MEMBERS[1])])
    assert found.pop("bad").startswith("unknown: access_denied: ")
    assert found == {"good": "live=1", "good2": "live=1"}


def test_a_function_that_is_gone_has_none(aws: Faulty) -> None:
    gone = refusal("ResourceNotFoundException", "Function not found", "GetFunctionConfiguration", 404)
    aws.fault = answers({}, {}, lambda *_: gone)
    assert read(aws, [undo("f")]) == {"f": ""}
