"""What counts as our layer, our wrapper, and as protected."""

import pandas as pd
import pytest

from scanner.risk.engine import assess_risk
from scanner.risk.protection import family_of
from scanner.settings import EXEC_WRAPPER
from tests.unit.scanner.risk.assessed import (
    ACCOUNT,
    LAYERS,
    PUBLISHER,
    REGION,
    TODAY,
    WRAPPER,
    assess,
    frame,
    function,
    layer,
    protection,
    reasons,
    rules,
    verdict,
)

OURS = {EXEC_WRAPPER: WRAPPER}


@pytest.mark.parametrize(
    ("version", "variables", "expected"),
    [
        (4, OURS, "protected"), (5, OURS, "ahead"), (40, OURS, "ahead"), (3, OURS, "outdated"),
        (None, OURS, "partial"), (4, None, "partial"), (3, None, "partial"), (5, {"A": "b"}, "partial"),
        (None, None, "unprotected"), (None, {EXEC_WRAPPER: "/opt/other"}, "unprotected"),
    ],
)  # fmt: skip
def test_protection_is_layer_and_wrapper(
    version: int | None, variables: dict[str, str] | None, expected: str
) -> None:
    layers = [layer(version=version)] if version else []
    assert protection(function(layers=layers, variables=variables)) == expected


@pytest.mark.parametrize(("version", "expected"), [(3, "outdated"), (4, "protected"), (5, "protected")])
def test_with_at_least_a_newer_version_is_protected(version: int, expected: str) -> None:
    by = rules(defender={"version_policy": "at_least"})
    assert protection(function(layers=[layer(version=version)], variables=OURS), by) == expected


@pytest.mark.parametrize(
    ("version", "expected"), [(3, "outdated"), (4, "partial"), (5, "ahead"), (None, "partial")]
)
def test_a_variable_with_another_value_is_a_difference(version: int | None, expected: str) -> None:
    by = rules(defender={"environment": {"TW_POLICY": "policy of {function_name}"}})
    layers = [layer(version=version)] if version else []
    rotated = function(layers=layers, variables={**OURS, "TW_POLICY": "policy of another"})
    assert protection(rotated, by) == expected
    equal = function(layers=[layer()], variables={**OURS, "TW_POLICY": "policy of app"})
    assert (protection(equal, by), verdict(equal, by)) == ("protected", "protected")


@pytest.mark.parametrize("version", [3, 4, 5])
def test_without_a_configured_variable_nothing_is_protected(version: int) -> None:
    by = rules(defender={"environment": {"TW_POLICY": "p"}})
    found = assess(function(layers=[layer(version=version)], variables=OURS), by=by).iloc[0]
    assert (found["protection"], found["verdict"], found["installed"]) == ("partial", "eligible", True)


def test_a_layer_for_another_architecture_protects_nothing() -> None:
    arm = function(layers=[layer()], variables=OURS, Architectures=["arm64"])
    assert (protection(arm), verdict(arm), reasons(arm)) == ("partial", "skipped", ["architecture"])
    assert protection(arm, rules({"architectures": ["x86_64", "arm64"]})) == "protected"


BEFORE = {"layers": ["arn:aws:lambda:{region}:444455556666:layer:old:*"], "wrappers": ["/opt/old/wrapper"]}
OLD = layer("old", 9, "444455556666")


@pytest.mark.parametrize(
    ("layers", "wrapper", "expected"),
    [
        ([OLD], "/opt/old/wrapper", "outdated"), ([OLD], WRAPPER, "outdated"), ([OLD], None, "partial"),
        ([OLD, layer()], WRAPPER, "outdated"), ([layer(), OLD], WRAPPER, "outdated"), ([layer()], "/opt/old/wrapper", "partial"),
        ([layer(version=5), OLD], WRAPPER, "outdated"), ([], "/opt/old/wrapper", "partial"), ([layer()], WRAPPER, "protected"),
    ],
)  # fmt: skip
def test_what_was_used_before_is_ours_and_outdated(
    layers: list[str], wrapper: str | None, expected: str
) -> None:
    by = rules(defender={"previous": BEFORE})
    variables = {EXEC_WRAPPER: wrapper} if wrapper else None
    assert protection(function(layers=layers, variables=variables), by) == expected


@pytest.mark.parametrize(
    ("pattern", "version", "ours"),
    [("", 9, True), (":*", 9, True), (":9", 9, True), (":8", 9, False), ("-x", 9, False)],
)
def test_a_layer_used_before_may_be_named_in_one_version_or_in_any(
    pattern: str, version: int, ours: bool
) -> None:
    old = f"arn:aws:lambda:{{region}}:444455556666:layer:old{pattern}"
    by = rules(defender={"previous": {"layers": [old]}})
    carried = function(layers=[layer("old", version, "444455556666")], variables=OURS)
    assert protection(carried, by) == ("outdated" if ours else "partial")


def test_the_configured_layer_is_never_one_used_before() -> None:
    """The publisher moved from an account of its own to each function's: in that one account both are the same layer."""
    own = "arn:aws:lambda:{region}:{account_id}:layer:tw"
    by = rules(
        defender={
            "layers": {"python": f"{own}:4"},
            "previous": {"layers": [own.replace("{account_id}", ACCOUNT)]},
        }
    )
    assert protection(function(layers=[layer("tw", 4, ACCOUNT)], variables=OURS), by) == "protected"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_our_layer_is_found_at_any_place(place: int) -> None:
    layers = [layer("a"), layer("b")]
    layers.insert(place, layer())
    assert protection(function(layers=layers, variables=OURS)) == "protected"


@pytest.mark.parametrize(
    "other",
    [
        layer("prisma"), layer("prisma-orm"), layer("twistlock-python-3"), layer("twistlock-pytho"),
        layer("my-twistlock-python"), layer("Twistlock-Python"), layer("twistlock-nodejs"),
        layer(publisher="999999999999"), layer(publisher=ACCOUNT), layer(region="eu-west-1"),
        layer().replace("arn:aws:", "arn:aws-cn:"), layer() + ":4", layer().rpartition(":")[0], layer().replace(":layer:", ":function:"),
        "", " ", f"x {layer()}", f"{layer()} x",
    ],
)  # fmt: skip
def test_a_layer_that_only_looks_like_ours_is_not_ours(other: str) -> None:
    configuration = function(variables=OURS, Layers=[{"Arn": other}])
    assert protection(configuration) == "partial"


@pytest.mark.parametrize("arn", [f"{layer()} {layer('b')}", " ", "a b"])
def test_an_arn_with_a_space_cannot_be_read(arn: str) -> None:
    assert reasons(function(Layers=[{"Arn": arn}])) == ["layers"]


def test_a_layer_in_every_account_belongs_to_the_function_s_own_account() -> None:
    own = rules(defender={"layers": {"python": "arn:aws:lambda:{region}:{account_id}:layer:tw:4"}})
    for publisher, expected in ((ACCOUNT, "protected"), (PUBLISHER, "partial"), ("999999999999", "partial")):
        carried = function(layers=[layer("tw", 4, publisher)], variables=OURS)
        assert protection(carried, own) == expected
    both = function(layers=[layer("tw", 4, PUBLISHER), layer("tw", 3, ACCOUNT)], variables=OURS)
    assert protection(both, own) == "outdated"


def test_own_account_layers_are_matched_account_by_account() -> None:
    own = rules(defender={"layers": {"python": "arn:aws:lambda:{region}:{account_id}:layer:tw:4"}})
    other = "555566667777"
    frames = [
        frame(
            function("a", account=account, layers=[layer("tw", 4, ACCOUNT)], variables=OURS),
            by=own,
            account=account,
        )
        for account in (ACCOUNT, other)
    ]
    functions = pd.concat(frames, ignore_index=True).astype({"account_id": "category"})
    assert list(assess_risk(functions, own, TODAY)["protection"]) == ["protected", "partial"]


@pytest.mark.parametrize(
    ("template", "name", "publisher"),
    [
        ("arn:aws:lambda:{region}:111122223333:layer:tw-{region}:4", f"tw-{REGION}", PUBLISHER),
        ("arn:aws:lambda:{region}:{account_id}:layer:tw-{account_id}:4", f"tw-{ACCOUNT}", ACCOUNT),
        ("arn:aws:lambda:{region}:111122223333:layer:tw-{account_id}:4", f"tw-{ACCOUNT}", PUBLISHER),
        ("arn:aws:lambda:us-east-1:111122223333:layer:tw:4", "tw", PUBLISHER),
        ("arn:aws:lambda:us-east-1:111122223333:layer:{region}:4", REGION, PUBLISHER),
    ],
)
def test_placeholders_may_stand_anywhere_in_the_template(template: str, name: str, publisher: str) -> None:
    by = rules(defender={"layers": {"python": template}})
    assert protection(function(layers=[layer(name, 4, publisher)], variables=OURS), by) == "protected"
    assert protection(function(layers=[layer(name, 3, publisher)], variables=OURS), by) == "outdated"
    assert protection(function(layers=[layer("tw-other", 4, publisher)], variables=OURS), by) == "partial"


BY_REGION = {
    "us-east-1": "arn:aws:lambda:us-east-1:111122223333:layer:twistlock-python:4",
    "us-west-2": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:7",
}


def test_each_region_may_have_a_version_of_its_own() -> None:
    by = rules(defender={"layers": {"python": BY_REGION}})
    expected = {
        ("us-east-1", 3): "outdated",
        ("us-east-1", 4): "protected",
        ("us-west-2", 4): "outdated",
        ("us-west-2", 7): "protected",
    }
    for (region, version), protected in expected.items():
        carried = function(region=region, layers=[layer(version=version, region=region)], variables=OURS)
        functions = assess_risk(frame(carried, by=by, region=region), by, TODAY)
        assert functions["protection"].item() == protected
        assert str(by.defender.layer_for("python", region, ACCOUNT)) == layer(
            version=4 if region == REGION else 7, region=region
        )


def test_a_region_without_a_layer_has_none_for_any_runtime() -> None:
    by = rules(defender={"layers": {"python": BY_REGION, "nodejs": LAYERS["nodejs"]}})
    both = frame(
        function("p", region="eu-west-1"),
        function("n", region="eu-west-1", Runtime="nodejs22.x"),
        by=by,
        region="eu-west-1",
    )
    functions = assess_risk(both, by, TODAY)
    assert list(functions["reasons"]) == ["runtime", ""]
    assert list(functions["family"]) == ["", "nodejs"]


def test_each_family_has_its_own_layer_and_wrapper() -> None:
    by = rules(defender={"wrapper": {"python": "/opt/py", "nodejs": "/opt/js"}})
    node = {"Runtime": "nodejs22.x"}
    assert (
        protection(
            function(layers=[layer("twistlock-nodejs")], variables={EXEC_WRAPPER: "/opt/js"}, **node), by
        )
        == "protected"
    )
    assert (
        protection(
            function(layers=[layer("twistlock-python")], variables={EXEC_WRAPPER: "/opt/js"}, **node), by
        )
        == "partial"
    )
    assert (
        protection(
            function(layers=[layer("twistlock-nodejs")], variables={EXEC_WRAPPER: "/opt/py"}, **node), by
        )
        == "partial"
    )


def test_a_runtime_of_no_family_is_never_protected() -> None:
    java = function(Runtime="java21", layers=[layer()], variables=OURS)
    assert (protection(java), verdict(java), reasons(java)) == ("partial", "skipped", ["runtime"])


def test_an_unreadable_environment_is_not_taken_for_protected() -> None:
    hidden = function(layers=[layer()], Environment={"Error": {"ErrorCode": "AccessDeniedException"}})
    assert (protection(hidden), verdict(hidden), reasons(hidden)) == (
        "partial",
        "skipped",
        ["env_unreadable"],
    )


def test_of_two_versions_of_our_layer_the_first_counts() -> None:
    assert protection(function(layers=[layer(version=3), layer(version=4)], variables=OURS)) == "outdated"
    assert protection(function(layers=[layer(version=4), layer(version=3)], variables=OURS)) == "protected"


@pytest.mark.parametrize(
    ("runtime", "family"),
    [
        ("python3.8", "python"), ("python3.14", "python"), ("nodejs10.x", "nodejs"), ("nodejs24.x", "nodejs"),
        ("python3.7", None), ("python2.7", None), ("nodejs8.10", None), ("nodejs", None), ("nodejs24", None),
        ("python3.\u0668", None), ("python3.12\n", None), ("", None), ("?", None),
    ],
)  # fmt: skip
def test_the_family_of_a_runtime(runtime: str, family: str | None) -> None:
    assert family_of(runtime) == family


def test_another_wrapper_is_seen_beside_our_variables() -> None:
    by = rules(defender={"environment": {"TW_POLICY": "p"}})
    foreign = {"TW_POLICY": "p", EXEC_WRAPPER: "/opt/other/wrapper"}
    assert reasons(function(variables=foreign), by) == ["wrapper_conflict"]
    ours = function(layers=[layer()], variables={"TW_POLICY": "p", EXEC_WRAPPER: WRAPPER})
    assert protection(ours, by) == "protected"


def test_region_by_region_each_family_is_held_against_its_own_layer() -> None:
    versions = {family: {REGION: layer(f"twistlock-{family}", 4)} for family in ("python", "nodejs")}
    by = rules(defender={"layers": versions})
    for family, runtime in (("python", "python3.12"), ("nodejs", "nodejs22.x")):
        made = function(
            Runtime=runtime, layers=[layer(f"twistlock-{family}", 4)], variables={EXEC_WRAPPER: WRAPPER}
        )
        assert protection(made, by) == "protected", family


def test_a_runtime_that_nobody_could_read_is_of_no_family() -> None:
    functions = frame(function(), function("other"))
    functions.loc[0, "runtime"] = None
    assert assess_risk(functions, rules(), TODAY)["family"].tolist() == ["", "python"]
