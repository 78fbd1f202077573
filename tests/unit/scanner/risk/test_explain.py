"""What explain says of a function: every check, its value, its threshold, how it ended, what to do."""

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from scanner.core.settings import Tag
from scanner.organization.optouts import OptOut, OptOuts
from scanner.risk.catalogue import CHECKS
from scanner.risk.engine import assess_risk
from scanner.risk.explain import Finding, explain
from scanner.risk.rules import Rules
from scanner.risk.runtimes import lifecycle
from scanner.settings import EXEC_WRAPPER
from tests.unit.scanner.risk.assessed import (
    ACCOUNT,
    REGION,
    TODAY,
    WRAPPER,
    assess,
    frame,
    function,
    layer,
    rules,
)

OURS = f',"{EXEC_WRAPPER}":"{WRAPPER}"'
RUNTIMES = "python or nodejs, known to AWS's runtime table, with a Defender layer in the function's region"


def explained(
    configuration: dict[str, Any], by: Rules | None = None, today: date = TODAY, **added: Any
) -> dict[str, Finding]:
    by = by or rules()
    assessed = assess_risk(frame(configuration, by=by).assign(**added), by, today)
    return {finding.code: finding for finding in explain(assessed, by, today)}


def test_every_check_is_listed_in_the_catalogue_s_order() -> None:
    found = explained(function())
    assert list(found) == [check.code for check in CHECKS]
    for code, finding in found.items():
        assert finding.passed is True, code
        assert finding.value, code
        assert finding.threshold, code
        assert not finding.remedy, code


@pytest.mark.parametrize(
    ("fields", "code", "value", "threshold"),
    [
        ({"PackageType": "Image"}, "package_type", "Image", "Zip"),
        ({"Architectures": ["arm64"]}, "architecture", "arm64", "x86_64"),
        ({"Runtime": "java21"}, "runtime", "java21", RUNTIMES),
        ({"Runtime": None}, "runtime", "none", RUNTIMES),
        ({"MemorySize": 128}, "memory", "128 MB", "more than 256 MB"),
        ({"MemorySize": "x"}, "memory", "could not be read", "more than 256 MB"),
        ({"Timeout": 900}, "timeout", "900 s", "less than 870 s"),
        ({"layers": [layer(f"o{n}") for n in range(5)]}, "layers", "5 layers", "fewer than 5, or one of ours to replace in place"),
        ({"Layers": "x"}, "layers", "could not be read", "fewer than 5, or one of ours to replace in place"),
        ({"CodeSize": 99_000_000}, "code_size", "94.4 MB (99,000,000 bytes)", "less than 70 MB zipped"),
        ({"CodeSize": None}, "code_size", "could not be read", "less than 70 MB zipped"),
        ({"variables": {EXEC_WRAPPER: "/opt/dd"}}, "wrapper_conflict", "/opt/dd", "AWS_LAMBDA_EXEC_WRAPPER unset, or ours"),
        ({"Environment": {"Error": {}}}, "env_unreadable", "no", "yes"),
        ({"variables": {"A": "x" * 4088}}, "env_overflow", f"{4096 + len(OURS)} bytes with our variables", "at most 4096 bytes with our variables"),
        ({"name": "us-east-1.app"}, "edge_replica", "yes", "no"),
        ({"DurableConfig": {"a": 1}}, "function_kind", "durable", "no kind or field that the Defender was never tried on"),
        ({"State": "Active", "LastUpdateStatus": "InProgress"}, "state", "Active, InProgress", "Active or Inactive, no update under way"),
        ({"SigningJobArn": "x"}, "code_signing", "yes", "no"),
    ],
)  # fmt: skip
def test_a_failed_check_shows_what_was_read_and_what_to_do(
    fields: dict[str, Any], code: str, value: str, threshold: str
) -> None:
    finding = explained(function(**fields))[code]
    assert (finding.value, finding.threshold, finding.passed) == (value, threshold, False)
    assert finding.remedy == next(check.remedy for check in CHECKS if check.code == code)


def test_where_the_environment_is_unreadable_its_other_checks_are_unknown_not_passed() -> None:
    found = explained(function(Environment={"Error": {"ErrorCode": "AccessDeniedException"}}))
    assert [found[code].passed for code in ("env_unreadable", "wrapper_conflict", "env_overflow")] == [
        False,
        None,
        None,
    ]
    assert found["env_overflow"].value == "could not be read"


@pytest.mark.parametrize(
    ("days_before", "passed", "warned", "words"),
    [
        (61, True, False, "(in 61 days)"),
        (60, True, True, "(in 60 days)"),
        (1, True, True, "(in 1 days)"),
        (0, False, True, "since"),
        (-5, False, True, "since"),
    ],
)
def test_a_runtime_is_warned_of_for_60_days_with_its_date_and_successor(
    days_before: int, passed: bool, warned: bool, words: str
) -> None:
    known = lifecycle("python3.9")
    assert known is not None
    assert known.update_block is not None
    today = known.update_block - timedelta(days=days_before)
    finding = explained(function(Runtime="python3.9"), today=today)["runtime_update_blocked"]
    assert (finding.passed, bool(finding.remedy)) == (passed, warned)
    for part in (str(known.update_block), f"successor {known.successor}", words):
        assert part in finding.value
    row = assess(function(Runtime="python3.9"), today=today).iloc[0]
    assert row["warnings"] == ("runtime_blocked_soon" if warned and passed else "")
    assert row["verdict"] == ("eligible" if passed else "skipped")


@pytest.mark.parametrize(
    ("added", "value", "passed"),
    [
        ({"memory_utilization_pct": [97.25], "memory_utilization_outcome": ["measured"]}, "97.2 %", False),
        ({"memory_utilization_pct": [12.5], "memory_utilization_outcome": ["measured"]}, "12.5 %", True),
        ({"memory_utilization_pct": [float("nan")], "memory_utilization_outcome": ["unmeasured"]}, "unmeasured", True),
        ({"memory_utilization_pct": [float("nan")], "memory_utilization_outcome": ["throttled"]}, "could not be read (throttled)", False),
        ({"memory_utilization_pct": [float("nan")], "memory_utilization_outcome": ["not_asked"]}, "not measured (only functions that pass every other check are)", None),
    ],
)  # fmt: skip
def test_utilization_is_measured_unmeasured_or_could_not_be_read(
    added: dict[str, Any], value: str, passed: bool | None
) -> None:
    added["memory_utilization_outcome"] = pd.Categorical(added["memory_utilization_outcome"])
    finding = explained(function(), **added)["memory_utilization"]
    assert (finding.value, finding.passed) == (value, passed)
    assert finding.threshold == "at most 95 % over 14 days; unmeasured passes"


def test_policies_name_who_asked_and_for_how_long() -> None:
    out = OptOut(
        account=ACCOUNT,
        functions=("app*",),
        reason="CHG-4711",
        owner="payments@example.com",
        expires=date(2027, 3, 31),
    )
    other = OptOut(account=ACCOUNT, functions=("other",), reason="no", owner="no")
    by = rules(
        optouts=OptOuts((out, other)), exclusion_list=("x", "a?p"), require_tag=Tag(key="SecurityScan", value="true"),
        optout_tag=Tag(key="AutoDefender", value="off"),
        quarantined=frozenset((f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:app",)),
    )  # fmt: skip
    found = explained(function(), by, required_tag=[False], optout_tag=[False], tags_read=[True])
    assert (
        found["opted_out"].value
        == "payments@example.com: CHG-4711 (until 2027-03-31); opt-out tag not carried"
    )
    assert found["exclusion_list"].value == "named by a?p"
    assert (found["tag_required"].value, found["tag_required"].threshold) == (
        "tag not carried",
        "SecurityScan=true",
    )
    assert found["quarantined"].value == "rolled back earlier"
    unread = explained(function("b"), by, required_tag=[False], optout_tag=[False], tags_read=[False])
    assert unread["opted_out"].value == "not in the opt-out file; opt-out tag could not be read"
    assert unread["tag_required"].value == "tag could not be read"


def test_a_protected_function_is_explained_too() -> None:
    found = explained(function(MemorySize=128, layers=[layer()], variables={EXEC_WRAPPER: WRAPPER}))
    assert found["memory"].passed is False
    assert found["layers"].value == "1 layers"
