"""Every check at its bound, one below and one above, and on what AWS leaves out or nobody can read."""

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from scanner.core.settings import Tag
from scanner.inventory.functions_frame import measured_bytes
from scanner.inventory.ledger import FAULTS
from scanner.inventory.utilization import OUTCOMES
from scanner.organization.optouts import OptOut, OptOuts
from scanner.risk.catalogue import CHECKS
from scanner.settings import EXEC_WRAPPER
from tests.unit.scanner.risk.assessed import (
    ACCOUNT,
    PUBLISHER,
    REGION,
    TODAY,
    WRAPPER,
    assess,
    function,
    layer,
    reasons,
    rules,
    verdict,
)

MB = 1024 * 1024
OTHERS = [layer(f"other-{n}", 1, "444455556666") for n in range(5)]


def test_a_plain_function_is_eligible() -> None:
    row = assess(function()).iloc[0]
    assert (row["family"], row["protection"], row["verdict"], row["reasons"]) == (
        "python",
        "unprotected",
        "eligible",
        "",
    )


@pytest.mark.parametrize(("memory_mb", "fails"), [(128, True), (255, True), (256, True), (257, False)])
def test_memory_is_strictly_above_the_floor(memory_mb: int, fails: bool) -> None:
    assert reasons(function(MemorySize=memory_mb)) == ["memory"] * fails


@pytest.mark.parametrize(("memory_mb", "fails"), [(511, True), (512, True), (513, False)])
def test_memory_floor_comes_from_the_configuration(memory_mb: int, fails: bool) -> None:
    assert reasons(function(MemorySize=memory_mb), rules({"min_memory_mb": 512})) == ["memory"] * fails


@pytest.mark.parametrize(
    ("seconds", "fails"), [(1, False), (869, False), (870, True), (871, True), (900, True)]
)
def test_timeout_is_strictly_below_900_s_minus_the_buffer(seconds: int, fails: bool) -> None:
    assert reasons(function(Timeout=seconds)) == ["timeout"] * fails


@pytest.mark.parametrize(("seconds", "fails"), [(839, False), (840, True), (841, True)])
def test_timeout_buffer_comes_from_the_configuration(seconds: int, fails: bool) -> None:
    assert reasons(function(Timeout=seconds), rules({"timeout_buffer_sec": 60})) == ["timeout"] * fails


@pytest.mark.parametrize(("seconds", "fails"), [(899, False), (900, True)])
def test_without_a_buffer_the_hard_limit_itself_still_fails(seconds: int, fails: bool) -> None:
    assert reasons(function(Timeout=seconds), rules({"timeout_buffer_sec": 0})) == ["timeout"] * fails


@pytest.mark.parametrize(("size", "fails"), [(70 * MB - 1, False), (70 * MB, True), (70 * MB + 1, True)])
def test_code_is_smaller_than_the_threshold(size: int, fails: bool) -> None:
    assert reasons(function(CodeSize=size)) == ["code_size"] * fails


@pytest.mark.parametrize(
    ("package_type", "fails"), [("Zip", False), (None, False), ("Image", True), ("zip", True), ("Wasm", True)]
)
def test_package_type_is_zip_and_absent_means_zip(package_type: str | None, fails: bool) -> None:
    assert reasons(function(PackageType=package_type)) == ["package_type"] * fails


@pytest.mark.parametrize(
    ("architectures", "fails"),
    [
        (["x86_64"], False),
        (None, False),
        (["arm64"], True),
        (["x86_64", "arm64"], True),
        ([], True),
        (["riscv"], True),
    ],
)
def test_architecture_is_x86_64_alone_and_absent_means_x86_64(
    architectures: list[str] | None, fails: bool
) -> None:
    assert reasons(function(Architectures=architectures)) == ["architecture"] * fails


def test_an_allowed_architecture_passes() -> None:
    by = rules({"architectures": ["x86_64", "arm64"]})
    assert reasons(function(Architectures=["arm64"]), by) == []
    assert reasons(function(Architectures=["x86_64", "arm64"]), by) == ["architecture"]


@pytest.mark.parametrize(
    ("runtime", "fails"),
    [
        ("python3.8", False), ("python3.14", False), ("nodejs16.x", False), ("nodejs24.x", False),
        ("java21", True), ("provided.al2023", True), ("ruby3.4", True), ("dotnet8", True), ("go1.x", True),
        ("python3.99", True), ("nodejs98.x", True), ("python3.1\u0662", True), ("python", True), ("", True), (None, True),
        ("python3.12 ", True), ("Python3.12", True),
    ],
)  # fmt: skip
def test_runtime_is_python_or_nodejs_and_known(runtime: str | None, fails: bool) -> None:
    assert reasons(function(Runtime=runtime)) == ["runtime"] * fails


@pytest.mark.parametrize("runtime", ["python2.7", "python3.6", "python3.7", "nodejs8.10"])
def test_runtimes_older_than_wrapper_scripts_fail(runtime: str) -> None:
    assert "runtime" in reasons(function(Runtime=runtime))


def test_a_family_that_is_switched_off_or_has_no_layer_fails() -> None:
    node = function(Runtime="nodejs22.x")
    assert reasons(node, rules({"runtime_families": ["python"]})) == ["runtime"]
    only_python = {"layers": {"python": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"}}
    assert reasons(node, rules(defender=only_python)) == ["runtime"]


@pytest.mark.parametrize(("days", "fails"), [(-1, False), (0, True), (1, True)])
def test_a_runtime_is_blocked_from_its_date_on(days: int, fails: bool) -> None:
    from scanner.risk.runtimes import lifecycle

    known = lifecycle("python3.9")
    assert known is not None
    assert known.update_block is not None
    day = known.update_block + timedelta(days=days)
    assert reasons(function(Runtime="python3.9"), today=day) == ["runtime_update_blocked"] * fails


@pytest.mark.parametrize(("days_before", "warned"), [(61, False), (60, True), (1, True), (0, False)])
def test_a_runtime_that_is_blocked_soon_is_warned_of(days_before: int, warned: bool) -> None:
    from scanner.risk.engine import assess_risk
    from scanner.risk.runtimes import lifecycle
    from tests.unit.scanner.risk.assessed import frame

    known = lifecycle("python3.9")
    assert known is not None
    assert known.update_block is not None
    functions = frame(function("old", Runtime="python3.9"), function("new"), function("unread"))
    functions.loc[2, "runtime"] = None
    warnings = assess_risk(functions, rules(), known.update_block - timedelta(days=days_before))["warnings"]
    assert warnings.tolist() == ["runtime_blocked_soon" if warned else "", "", ""]


@pytest.mark.parametrize(("count", "fails"), [(0, False), (3, False), (4, False), (5, True)])
def test_our_layer_needs_a_free_slot(count: int, fails: bool) -> None:
    assert reasons(function(layers=OTHERS[:count])) == ["layers"] * fails


@pytest.mark.parametrize(("count", "fails"), [(1, False), (2, False), (3, True)])
def test_the_number_of_slots_comes_from_the_configuration(count: int, fails: bool) -> None:
    assert reasons(function(layers=OTHERS[:count]), rules({"max_layers": 3})) == ["layers"] * fails


def test_an_outdated_layer_of_ours_is_replaced_in_place_and_needs_no_slot() -> None:
    full = function(layers=[*OTHERS[:4], layer(version=3)])
    assert reasons(full) == []
    assert reasons(full, rules({"max_layers": 3})) == []
    assert assess(full)["protection"].iloc[0] == "partial"


def test_a_slot_is_kept_for_the_owner_where_asked() -> None:
    keep = rules({"keep_layer_slot": True})
    assert (reasons(function(layers=OTHERS[:3]), keep), reasons(function(layers=OTHERS[:4]), keep)) == (
        [],
        ["layers"],
    )
    assert reasons(function(layers=[*OTHERS[:4], layer(version=3)]), keep) == []


@pytest.mark.parametrize(("total", "fails"), [(3891, False), (3892, True)])
def test_a_margin_of_the_environment_is_kept_where_asked(total: int, fails: bool) -> None:
    keep = rules({"keep_layer_slot": True})
    assert reasons(function(variables=fills(total)), keep) == ["env_overflow"] * fails
    assert assess(function(variables=fills(total)))["env_tight"].tolist() == [fails]


def test_an_environment_that_does_not_grow_needs_no_margin() -> None:
    full = {EXEC_WRAPPER: WRAPPER, **fills(4090)}
    assert (
        reasons(function(layers=[layer(version=3)], variables=full), rules({"keep_layer_slot": True})) == []
    )


def test_no_count_of_layers_wraps_around() -> None:
    for count in (126, 127, 128, 300):
        assert reasons(function(layers=[layer(f"other-{n}") for n in range(count)])) == ["layers"], count


@pytest.mark.parametrize(
    ("wrapper", "fails"),
    [
        (None, False),
        (WRAPPER, False),
        ("/opt/datadog_wrapper", True),
        ("", True),
        (WRAPPER + "/", True),
        (WRAPPER.upper(), True),
    ],
)
def test_the_wrapper_is_free_or_ours(wrapper: str | None, fails: bool) -> None:
    variables = {"STAGE": "prod"} | ({EXEC_WRAPPER: wrapper} if wrapper is not None else {})
    assert reasons(function(variables=variables)) == ["wrapper_conflict"] * fails


def test_a_wrapper_of_another_family_is_not_ours() -> None:
    by = rules(defender={"wrapper": {"python": "/opt/tw/py", "nodejs": "/opt/tw/js"}})
    assert reasons(function(variables={EXEC_WRAPPER: "/opt/tw/py"}), by) == []
    assert reasons(function(variables={EXEC_WRAPPER: "/opt/tw/js"}), by) == ["wrapper_conflict"]


def test_a_wrapper_used_before_is_ours() -> None:
    by = rules(defender={"previous": {"wrappers": ["/opt/before/wrapper"]}})
    assert reasons(function(variables={EXEC_WRAPPER: "/opt/before/wrapper"}), by) == []
    assert reasons(function(variables={EXEC_WRAPPER: "/opt/before/wrapper"})) == ["wrapper_conflict"]


def test_a_layer_used_before_needs_no_slot() -> None:
    by = rules(defender={"previous": {"layers": ["arn:aws:lambda:{region}:111122223333:layer:before:*"]}})
    full = function(layers=[*OTHERS[:4], layer("before", 7)])
    assert (reasons(full, by), reasons(full)) == ([], ["layers"])


@pytest.mark.parametrize(
    ("layers", "runtime", "value", "fails"),
    [
        ([], "python3.12", "the owner's", True),
        ([], "python3.12", "policy of app", False),
        ([layer(version=3)], "python3.12", "rotated since", False),
        ([layer(version=4)], "python3.12", "rotated since", False),
        ([layer(version=5)], "python3.12", "rotated since", False),
        ([], "java21", "the owner's", False),
    ],
)
def test_a_variable_with_another_value_is_ours_only_beside_our_layer(
    layers: list[str], runtime: str, value: str, fails: bool
) -> None:
    by = rules(defender={"environment": {"TW_POLICY": "policy of {function_name}"}})
    found = reasons(function(Runtime=runtime, layers=layers, variables={"TW_POLICY": value}), by)
    assert ("variable_conflict" in found) is fails


@pytest.mark.parametrize(("room", "fails"), [(0, False), (-1, True)])
def test_environment_is_measured_with_the_configured_values(room: int, fails: bool) -> None:
    """What is replaced counts with its new size: a value of ours, and a wrapper used before."""
    by = rules(defender={"environment": {"TW_POLICY": "p" * 100}, "previous": {"wrappers": ["/w"]}})
    after = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "p" * 100, "A": ""}
    carried = {EXEC_WRAPPER: "/w", "TW_POLICY": "old", "A": "x" * (4096 - measured_bytes(after) - room)}
    assert reasons(function(layers=[layer()], variables=carried), by) == ["env_overflow"] * fails


@pytest.mark.parametrize(
    "environment",
    [
        {"Error": {"ErrorCode": "AccessDeniedException", "Message": "no"}},
        {"Variables": {"A": "b"}, "Error": {"ErrorCode": "KMSDisabledException"}},
        {"Variables": None}, {"Variables": ["A"]}, {"Variables": {"A": 1}}, {"Variables": {"A": None}}, "text", 7, [],
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_read_is_never_written(environment: Any) -> None:
    assert reasons(function(Environment=environment)) == ["env_unreadable"]


def fills(total: int, filler: str = "x", width: int = 1) -> dict[str, str]:
    """Variables that come to `total` bytes once AWS_LAMBDA_EXEC_WRAPPER is among them."""
    ours = len(f',"{EXEC_WRAPPER}":"{WRAPPER}"')
    room = total - ours - len('{"A":""}')
    return {"A": filler * (room // width) + "x" * (room % width)}


@pytest.mark.parametrize(("total", "fails"), [(4095, False), (4096, False), (4097, True)])
def test_environment_is_measured_after_merging(total: int, fails: bool) -> None:
    assert reasons(function(variables=fills(total))) == ["env_overflow"] * fails


@pytest.mark.parametrize(
    ("filler", "width"), [("é", 2), ("漢", 3), ("🦊", 4), ('"', 2), ("\\", 2), ("\n", 2), ("\x01", 6)]
)
def test_environment_is_measured_as_compact_json_in_utf_8(filler: str, width: int) -> None:
    assert reasons(function(variables=fills(4096, filler, width))) == []
    assert reasons(function(variables=fills(4097, filler, width))) == ["env_overflow"]


def test_a_variable_that_is_there_already_is_not_counted_twice() -> None:
    there = {EXEC_WRAPPER: WRAPPER, **fills(4096)}
    assert reasons(function(variables=there)) == []
    assert reasons(function(variables={**there, "A": there["A"] + "x"})) == ["env_overflow"]


@pytest.mark.parametrize("size", [4096, 4097])
def test_placeholders_are_measured_filled_in_and_escaped(size: int) -> None:
    by = rules(
        defender={"environment": {"TW_POLICY": '{"n":"{function_name}","r":"{region}","a":"{account_id}"}'}}
    )
    name = "a-longer-name"
    policy = f'{{\\"n\\":\\"{name}\\",\\"r\\":\\"{REGION}\\",\\"a\\":\\"{ACCOUNT}\\"}}'
    variables = fills(size - len(f',"TW_POLICY":"{policy}"'))
    assert reasons(function(name, variables=variables), by) == ["env_overflow"] * (size > 4096)


@pytest.mark.parametrize("variables", [None, {}])
def test_the_first_variable_brings_no_comma(variables: dict[str, str] | None) -> None:
    room = 4096 - len('{"":""}') - len(f',"{EXEC_WRAPPER}":"{WRAPPER}"') - len("TW_POLICY")
    fits = rules(defender={"environment": {"TW_POLICY": "x" * room}})
    overflows = rules(defender={"environment": {"TW_POLICY": "x" * (room + 1)}})
    assert reasons(function(variables=variables), fits) == []
    assert reasons(function(variables=variables), overflows) == ["env_overflow"]


@pytest.mark.parametrize("column", ["memory_utilization_pct", "timeout_utilization_pct"])
@pytest.mark.parametrize(
    ("pct", "fails"),
    [(94.99, False), (95.0, False), (95.01, True), (float("nan"), False), (float("inf"), True)],
)
def test_utilization_is_at_most_the_threshold(column: str, pct: float, fails: bool) -> None:
    code = column.removesuffix("_pct")
    assert reasons(function(), **{column: [pct]}) == [code] * fails


def test_what_was_not_measured_is_let_through_or_skipped_as_configured() -> None:
    skip = rules({"utilization": {"when_unmeasured": "skip"}})
    nan = {"memory_utilization_pct": [float("nan")], "timeout_utilization_pct": [float("nan")]}
    assert reasons(function(), **nan) == []
    assert reasons(function(), skip, **nan) == ["memory_utilization", "timeout_utilization"]
    assert reasons(function(), skip) == ["memory_utilization", "timeout_utilization"]
    assert (
        reasons(function(), rules({"utilization": {"enabled": False, "when_unmeasured": "skip"}}), **nan)
        == []
    )


@pytest.mark.parametrize("code", ["memory_utilization", "timeout_utilization"])
@pytest.mark.parametrize(
    ("outcome", "pct", "allowed", "skipped"),
    [
        ("measured", 95.0, False, False),
        ("measured", 95.01, True, True),
        ("not_asked", float("nan"), False, False),
        ("unmeasured", float("nan"), False, True),
        *((fault, float("nan"), True, True) for fault in FAULTS),
    ],
)
def test_how_a_measurement_ended_decides_where_there_is_no_figure(
    code: str, outcome: str, pct: float, allowed: bool, skipped: bool
) -> None:
    ended = {f"{code}_pct": [pct], f"{code}_outcome": pd.Categorical([outcome], list(OUTCOMES))}
    other = {f"{name}_pct": [1.0] for name in ("memory_utilization", "timeout_utilization") if name != code}
    assert reasons(function(), **ended, **other) == [code] * allowed
    skip = rules({"utilization": {"when_unmeasured": "skip"}})
    assert reasons(function(), skip, **ended, **other) == [code] * skipped


@pytest.mark.parametrize(
    "fields",
    [{"MasterArn": "arn:aws:lambda:us-east-1:222233334444:function:app:1"}, {"name": "us-east-1.app"}],
)
def test_lambda_at_edge_replicas_are_left_alone(fields: dict[str, Any]) -> None:
    assert reasons(function(**fields)) == ["edge_replica"]


@pytest.mark.parametrize("field", ["SigningJobArn", "SigningProfileVersionArn"])
def test_signed_functions_are_left_alone(field: str) -> None:
    assert reasons(function(**{field: "arn:aws:signer:us-east-1:222233334444:/signing-jobs/x"})) == [
        "code_signing"
    ]


@pytest.mark.parametrize(
    ("state", "fails"),
    [(None, False), ("Active", False), ("Inactive", False), ("Pending", True), ("Failed", True),
     ("Deactivating", True), ("ActiveNonInvocable", True), ("Deleting", True), ("Brandnew", True), (5, True)],
)  # fmt: skip
def test_only_settled_states_pass(state: Any, fails: bool) -> None:
    assert reasons(function(State=state)) == ["state"] * fails


@pytest.mark.parametrize(
    ("status", "fails"),
    [(None, False), ("Successful", False), ("InProgress", True), ("Failed", True), ("New", True)],
)
def test_only_a_settled_update_passes(status: str | None, fails: bool) -> None:
    assert reasons(function(LastUpdateStatus=status)) == ["state"] * fails


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("DurableConfig", {"RetentionPeriodInDays": 7}, "durable"),
        ("DurableConfig", {}, "durable"),
        ("CapacityProviderConfig", {"LambdaManagedInstancesCapacityProviderConfig": {}}, "capacity_provider"),
        ("TenancyConfig", {"TenantIsolationMode": "PER_TENANT"}, "tenant_isolation"),
        ("AcceleratorConfig", {"Type": "x"}, "accelerator"),
        ("FieldOfTheFuture", "on", "FieldOfTheFuture"),
        ("FieldOfTheFuture", False, "FieldOfTheFuture"),
    ],
)
def test_kinds_and_fields_unknown_to_us_are_skipped_until_allowed(field: str, value: Any, kind: str) -> None:
    unusual = function(**{field: value})
    assert reasons(unusual) == ["function_kind"]
    assert assess(unusual)["kinds"].iloc[0] == kind
    assert reasons(unusual, rules({"allowed_kinds": [kind]})) == []
    both = function(**{field: value, "Another": 1})
    assert reasons(both, rules({"allowed_kinds": [kind]})) == ["function_kind"]
    assert reasons(both, rules({"allowed_kinds": ["Another", kind]})) == []


def test_a_null_field_is_an_absent_one() -> None:
    nulls = dict.fromkeys(
        ("Layers", "Environment", "MasterArn", "State", "DurableConfig", "FieldOfTheFuture", "Architectures")
    )
    assert reasons({**function(), **nulls}) == []


@pytest.mark.parametrize("field", ["MemorySize", "Timeout", "CodeSize", "Runtime"])
@pytest.mark.parametrize("value", [None, "512", 512.0, True, -1, [], {}, 2**70])
def test_a_field_that_cannot_be_read_passes_no_check(field: str, value: Any) -> None:
    code = {"MemorySize": "memory", "Timeout": "timeout", "CodeSize": "code_size", "Runtime": "runtime"}[
        field
    ]
    assert reasons(function(**{field: value})) == [code]


@pytest.mark.parametrize(
    ("field", "code"),
    [("PackageType", "package_type"), ("Architectures", "architecture"), ("Layers", "layers")],
)
@pytest.mark.parametrize("value", [7, {"a": 1}, [7], [{"Arn": 7}], [{}], {}, "", [None]])
def test_a_list_or_text_that_cannot_be_read_passes_no_check(field: str, code: str, value: Any) -> None:
    assert reasons(function(**{field: value})) == [code]


def test_a_timeout_of_zero_seconds_does_not_exist() -> None:
    assert reasons(function(Timeout=0)) == ["timeout"]


# Policies


def opt_out(**entry: Any) -> OptOuts:
    return OptOuts((OptOut.model_validate({"account": ACCOUNT, "reason": "r", "owner": "o", **entry}),))


@pytest.mark.parametrize(
    ("entry", "out"),
    [
        ({}, True), ({"account": "*"}, True), ({"account": "999999999999"}, False),
        ({"regions": [REGION]}, True), ({"regions": ["eu-west-1"]}, False),
        ({"functions": ["app"]}, True), ({"functions": ["ap?"]}, True), ({"functions": ["a*"]}, True),
        ({"functions": ["b*", "app"]}, True), ({"functions": ["APP"]}, False), ({"functions": ["ap"]}, False),
        ({"functions": ["app-*"]}, False), ({"functions": ["*"]}, True), ({"account": "*", "functions": ["[a]pp"]}, True),
    ],
)  # fmt: skip
def test_opted_out_functions_are_excluded(entry: dict[str, Any], out: bool) -> None:
    by = rules(optouts=opt_out(**entry))
    assert reasons(function("app"), by) == ["opted_out"] * out
    assert verdict(function("app"), by) == ("excluded" if out else "eligible")


@pytest.mark.parametrize(("days", "out"), [(-1, False), (0, True), (1, True)])
def test_an_opt_out_counts_through_its_last_day(days: int, out: bool) -> None:
    assert (
        reasons(function(), rules(optouts=opt_out(expires=TODAY + timedelta(days=days))))
        == ["opted_out"] * out
    )


@pytest.mark.parametrize(
    ("patterns", "out"),
    [
        ((), False),
        (("app",), True),
        (("other",), False),
        (("other", "ap*"), True),
        (("*",), True),
        (("A*",), False),
        (("other", "app"), True),
    ],
)
def test_the_exclusion_list_takes_names_and_globs(patterns: tuple[str, ...], out: bool) -> None:
    assert reasons(function("app"), rules(exclusion_list=patterns)) == ["exclusion_list"] * out


def test_quarantined_functions_are_left_alone_by_their_whole_arn() -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:app"
    assert reasons(function(), rules(quarantined=frozenset((arn,)))) == ["quarantined"]
    for other in (
        arn.replace(REGION, "eu-west-1"),
        arn.replace(ACCOUNT, PUBLISHER),
        arn + "x",
        arn.replace("aws", "aws-cn", 1),
    ):
        assert reasons(function(), rules(quarantined=frozenset((other,)))) == [], other


def test_without_tags_read_every_tag_rule_fails_closed() -> None:
    required, optout = Tag(key="SecurityScan", value="true"), Tag(key="AutoDefender", value="off")
    assert reasons(function(), rules(require_tag=required)) == ["tag_required"]
    assert reasons(function(), rules(optout_tag=optout)) == ["opted_out"]
    unread = {"required_tag": [True], "optout_tag": [False], "tags_read": [False]}
    assert reasons(function(), rules(require_tag=required, optout_tag=optout), **unread) == [
        "opted_out",
        "tag_required",
    ]


@pytest.mark.parametrize(("required", "optout", "expected"), [
    (True, False, []), (False, False, ["tag_required"]), (True, True, ["opted_out"]), (False, True, ["opted_out", "tag_required"]),
])  # fmt: skip
def test_tags_decide_where_they_were_read(required: bool, optout: bool, expected: list[str]) -> None:
    by = rules(require_tag=Tag(key="a", value="b"), optout_tag=Tag(key="c", value="d"))
    tags = {"required_tag": [required], "optout_tag": [optout], "tags_read": [True]}
    assert reasons(function(), by, **tags) == expected


# Verdicts


def test_all_reasons_are_named_in_the_catalogue_s_order() -> None:
    worst = function(
        "us-east-1.app", PackageType="Image", Architectures=["arm64"], Runtime="java8", MemorySize=128, Timeout=900,
        layers=OTHERS, CodeSize=10**9, variables={EXEC_WRAPPER: "/x", "B": "x" * 5000}, State="Failed",
        SigningJobArn="x", DurableConfig={"a": 1},
    )  # fmt: skip
    by = rules(optouts=opt_out(), exclusion_list=("*",), require_tag=Tag(key="a", value="b"))
    found = reasons(worst, by, today=date(2030, 1, 1))
    assert found == [check.code for check in CHECKS if check.code in found]
    assert {check.code for check in CHECKS} - set(found) == {
        "env_unreadable", "memory_utilization", "timeout_utilization", "quarantined", "variable_conflict",
    }  # fmt: skip


def test_a_policy_outranks_a_risk_and_protection_outranks_both() -> None:
    by = rules(exclusion_list=("*",))
    assert verdict(function(MemorySize=128), by) == "excluded"
    guarded = function(MemorySize=128, layers=[layer()], variables={EXEC_WRAPPER: WRAPPER})
    row = assess(guarded, by=by).iloc[0]
    assert (row["verdict"], row["reasons"]) == ("protected", "")
    assert row["fails_memory"]
    assert row["fails_exclusion_list"]


def test_no_functions_make_an_empty_frame_with_every_column() -> None:
    full, empty = assess(function()), assess()
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert [str(t) for t in empty.dtypes] == [str(t) for t in full.dtypes]
    by = rules(optouts=opt_out(functions=["a*"]), exclusion_list=("b*",), require_tag=Tag(key="a", value="b"),
               quarantined=frozenset(("arn:aws:lambda:us-east-1:222233334444:function:app",)))  # fmt: skip
    assert len(assess(by=by)) == 0


def test_an_absent_category_is_unknown_and_passes_no_check() -> None:
    from scanner.risk.engine import assess_risk
    from tests.unit.scanner.risk.assessed import frame

    for column, code in {"runtime": "runtime", "package_type": "package_type", "architecture": "architecture",
                         "kinds": "function_kind", "state": "state", "last_update_status": "state"}.items():  # fmt: skip
        functions = frame(function(), function("other"))
        functions.loc[0, column] = None
        assert list(assess_risk(functions, rules(), TODAY)["reasons"]) == [code, ""], column


def test_assessing_leaves_the_frame_unchanged() -> None:
    from scanner.risk.engine import assess_risk
    from tests.unit.scanner.risk.assessed import frame

    functions = frame(function(), function("b", MemorySize=128, layers=OTHERS))
    before = functions.copy(deep=True)
    assess_risk(functions, rules(), TODAY)
    assert functions.equals(before)
