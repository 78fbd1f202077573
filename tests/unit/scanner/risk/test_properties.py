"""The column-wise engine against the row-by-row oracle, over generated answers, hostile and partial ones included."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scanner.core.settings import Tag
from scanner.inventory.functions_frame import FunctionsFrame, facts
from scanner.organization.optouts import OptOut, OptOuts
from scanner.risk.engine import assess_risk
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER, DefenderSettings, RiskSettings
from tests.unit.scanner.risk import oracle

ACCOUNTS, REGIONS = (
    ("222233334444", "555566667777", "111122223333"),
    ("us-east-1", "eu-west-1", "us-gov-west-1"),
)
NAMES = ("app", "billing-api", "billing-worker", "us-east-1.edge", "A.b_c-1", "x" * 64)
junk = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=True), st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.text(max_size=3), st.integers()), max_size=2),
)  # fmt: skip
text = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\\\n\x00é漢🦊')), max_size=12
)


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What AWS gives, and now and then what nobody expects."""
    return st.integers(0, 11).flatmap(lambda dice: junk if dice == 7 else usual)


def near(*bounds: int) -> st.SearchStrategy[int]:
    return st.sampled_from([bound + step for bound in bounds for step in (-1, 0, 1)])


runtimes = st.sampled_from(
    "python3.7 python3.8 python3.9 python3.12 python3.14 python3.99 python4 nodejs8.10 nodejs16.x nodejs22.x nodejs77.x "
    "nodejs java21 provided.al2023 go1.x Python3.12 python3.\u0668".split()
)
any_layer_arns = st.builds(
    "arn:{}:lambda:{}:{}:layer:{}:{}".format,
    st.sampled_from(("aws", "aws", "aws", "aws-cn")),
    st.sampled_from(REGIONS),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(
        "twistlock-python twistlock-nodejs twistlock-python-2 prisma tw-us-east-1 tw-222233334444".split()
    ),
    st.sampled_from(("1", "3", "4", "5", "40", "x", "", "4 ", "\u0664", "1234567890")),
)
# HERE and OWN stand for the region and the account that the function turns out to live in.
our_layer_arns = st.builds(
    "arn:aws:lambda:HERE:{}:{}".format,
    st.sampled_from(("111122223333:layer:twistlock-python", "111122223333:layer:twistlock-nodejs", "OWN:layer:twistlock-python",
                     "111122223333:layer:tw-HERE", "OWN:layer:tw-OWN")),
    st.sampled_from((3, 4, 4, 5)),
)  # fmt: skip
layer_arns = st.one_of(our_layer_arns, any_layer_arns)
layers = st.lists(
    st.fixed_dictionaries({"Arn": mostly(layer_arns)}, optional={"CodeSize": st.just(1)}), max_size=6
)
wrappers = st.sampled_from(
    (
        "/opt/twistlock/wrapper",
        "/opt/twistlock/wrapper",
        "/opt/twistlock/wrapper",
        "/opt/js/wrapper",
        "/opt/other",
        "",
    )
)
variables = st.fixed_dictionaries(
    {},
    optional={
        EXEC_WRAPPER: wrappers, "é": text,
        "TW_POLICY": st.one_of(text, st.just("")), "STAGE": st.one_of(text, st.sampled_from(REGIONS)),
        "BIG": st.tuples(st.integers(3850, 4096), st.sampled_from("xé\n")).map(lambda p: p[1] * (p[0] // len(json.dumps(p[1], ensure_ascii=False)[1:-1].encode()))),
    },
)  # fmt: skip
environments = st.fixed_dictionaries(
    {}, optional={"Variables": mostly(variables), "Error": st.sampled_from([None, {"ErrorCode": "x"}])}
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "Runtime": mostly(runtimes),
    "PackageType": mostly(st.sampled_from(("Zip", "Zip", "Zip", "Image", "Jar"))),
    "Architectures": mostly(st.sampled_from((["x86_64"], ["x86_64"], ["arm64"], ["x86_64", "arm64"], []))),
    "MemorySize": mostly(near(0, 128, 256, 512, 10_240, 2**31)),
    "Timeout": mostly(near(0, 3, 840, 870, 900, 2**31)),
    "CodeSize": mostly(near(0, 70 * 2**20, 50 * 2**20, 2**40)),
    "Layers": mostly(layers),
    "Environment": mostly(environments),
    "State": mostly(st.sampled_from((None, "Active", "Active", "Inactive", "Pending", "Failed", "New"))),
    "LastUpdateStatus": mostly(st.sampled_from((None, "Successful", "InProgress", "Failed"))),
    "RevisionId": mostly(st.uuids().map(str)),
    "MasterArn": st.sampled_from((None, None, None, "arn:aws:lambda:us-east-1:222233334444:function:app:1")),
    "SigningJobArn": st.sampled_from((None, None, None, "arn:aws:signer:x")),
    "DurableConfig": st.sampled_from((None, None, None, {}, {"RetentionPeriodInDays": 1})),
    "TenancyConfig": st.sampled_from((None, None, None, {"TenantIsolationMode": "PER_TENANT"})),
    "FutureField": st.sampled_from((None, None, None, False, "on")),
    "Description": st.text(max_size=5),
}  # fmt: skip
# Functions as they usually are; their layers and their wrapper are ours, somebody else's, or none.
usual = st.fixed_dictionaries(
    {
        "FunctionName": st.sampled_from(NAMES),
        "Runtime": st.sampled_from(("python3.12", "python3.9", "nodejs22.x")),
        "MemorySize": st.sampled_from((513, 1024, 257, 256)),
        "Timeout": st.sampled_from((3, 839, 869, 870)),
        "CodeSize": st.just(1000),
    },
    optional={
        "PackageType": st.just("Zip"),
        "Architectures": st.just(["x86_64"]),
        "Layers": st.lists(st.fixed_dictionaries({"Arn": layer_arns}), min_size=1, max_size=5),
        "Environment": st.fixed_dictionaries(
            {"Variables": st.one_of(st.fixed_dictionaries({EXEC_WRAPPER: wrappers}), variables)}
        ),
        "State": st.just("Active"),
    },
)
changes = st.lists(
    st.sampled_from(sorted(FIELDS)).flatmap(lambda field: st.tuples(st.just(field), FIELDS[field])),
    max_size=3,
).map(dict)
gone = st.sets(st.sampled_from(sorted(FIELDS)), max_size=1)


def _answer(base: dict[str, Any], changed: dict[str, Any], missing: set[str]) -> dict[str, Any]:
    return {field: value for field, value in {**base, **changed}.items() if field not in missing}


answers = st.one_of(
    st.builds(_answer, usual, changes, gone), st.builds(_answer, usual, st.just({}), st.just(set()))
)
utilization = st.one_of(st.none(), st.sampled_from((0.0, 94.5, 95.0, 95.5, 100.0)))
tags = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(("SecurityScan", "AutoDefender")), st.sampled_from(("true", "off"))),
)


@st.composite
def rows(draw: Callable[..., Any]) -> list[oracle.Row]:
    made, seen = [], set()
    for answer in draw(st.lists(answers, max_size=8)):
        account_id, region = draw(st.sampled_from(ACCOUNTS)), draw(st.sampled_from(REGIONS))
        arn = f"arn:aws:lambda:{region}:{account_id}:function:{answer['FunctionName']}"
        if arn in seen:
            continue
        seen.add(arn)
        placed = json.dumps(answer).replace("HERE", region).replace("OWN", account_id)
        whole = {**json.loads(placed), "FunctionArn": arn}
        made.append(oracle.Row(whole, account_id, region, draw(tags), draw(utilization), draw(utilization)))
    return made


risks = st.builds(
    RiskSettings,
    runtime_families=st.sampled_from((("python", "nodejs"), ("python",), ("nodejs",))),
    architectures=st.sampled_from((("x86_64",), ("x86_64", "arm64"))),
    max_layers=st.integers(1, 5),
    keep_layer_slot=st.booleans(),
    min_memory_mb=st.sampled_from((0, 256, 512)),
    timeout_buffer_sec=st.sampled_from((0, 30, 60)),
    zipped_size_threshold_mb=st.sampled_from((50, 70)),
    allowed_kinds=st.sampled_from(((), ("durable",), ("FutureField", "tenant_isolation"))),
    utilization=st.fixed_dictionaries(
        {"enabled": st.booleans(), "when_unmeasured": st.sampled_from(("allow", "skip"))}
    ),
)
defenders = st.builds(
    lambda layers, wrapper, environment, policy, previous: DefenderSettings.model_validate(
        {"layers": layers, "wrapper": wrapper, "environment": environment, "version_policy": policy, "previous": previous}
    ),
    st.sampled_from((
        {"python": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4",
         "nodejs": "arn:aws:lambda:{region}:111122223333:layer:twistlock-nodejs:4"},
        {"python": "arn:aws:lambda:{region}:{account_id}:layer:twistlock-python:4"},
        {"nodejs": "arn:aws:lambda:us-east-1:111122223333:layer:tw-{region}:4",
         "python": "arn:aws:lambda:{region}:{account_id}:layer:tw-{account_id}:4"},
        {"python": {REGIONS[0]: f"arn:aws:lambda:{REGIONS[0]}:111122223333:layer:twistlock-python:4",
                    REGIONS[1]: f"arn:aws:lambda:{REGIONS[1]}:111122223333:layer:twistlock-python:3"},
         "nodejs": {REGIONS[1]: "arn:aws:lambda:{region}:111122223333:layer:twistlock-nodejs:4"}},
    )),
    st.sampled_from(("/opt/twistlock/wrapper", {"python": "/opt/twistlock/wrapper", "nodejs": "/opt/js/wrapper"})),
    st.sampled_from(({}, {"TW_POLICY": 'é"{function_name}"{region}\n{account_id}{function_name}'}, {"TW_POLICY": "", "STAGE": "{region}"})),
    st.sampled_from(("exact", "at_least")),
    st.sampled_from((
        {}, {"wrappers": ["/opt/other", "/opt/js/wrapper"]},
        {"layers": ["arn:aws:lambda:{region}:111122223333:layer:twistlock-python:*", "arn:aws:lambda:{region}:111122223333:layer:prisma"]},
        {"layers": ["arn:aws:lambda:{region}:{account_id}:layer:twistlock-python:3", "arn:aws:lambda:{region}:111122223333:layer:twistlock-nodejs"],
         "wrappers": ["/opt/other"]},
    )),
)  # fmt: skip
optouts = st.one_of(st.just(OptOuts()), st.lists(
    st.builds(
        OptOut,
        account=st.sampled_from(("*", *ACCOUNTS)),
        regions=st.sampled_from((None, None, ("us-east-1",))),
        functions=st.sampled_from((None, ("billing-*",), ("app", "b?lling-api"), ("[!a]*",))),
        reason=st.just("r"), owner=st.just("o"),
        expires=st.sampled_from((None, date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25))),
    ),
    max_size=3,
).map(lambda entries: OptOuts(tuple(entries))))  # fmt: skip
all_rules = st.builds(
    Rules,
    partition=st.just("aws"),
    risk=risks,
    defender=defenders,
    optouts=optouts,
    require_tag=st.sampled_from((None, None, Tag(key="SecurityScan", value="true"))),
    optout_tag=st.sampled_from((None, None, Tag(key="AutoDefender", value="off"))),
    exclusion_list=st.sampled_from(((), (), (), (), ("app",), ("*-api", "A.b_c-1"), ("*",))),
    quarantined=st.sampled_from(
        (frozenset[str](), frozenset(("arn:aws:lambda:us-east-1:222233334444:function:app",)))
    ),
)
days = st.sampled_from(
    (date(2026, 11, 24), date(2026, 11, 24), date(2027, 3, 2), date(2027, 3, 3), date(2031, 1, 1))
)


def frame_of(given_rows: list[oracle.Row], rules: Rules) -> pd.DataFrame:
    frame = FunctionsFrame()
    for row in given_rows:
        frame.add(
            row.account_id,
            row.region,
            facts([row.answer], "aws", row.account_id, row.region, rules.defender.watched_variables),
        )
    pcts = {
        f"{name}_utilization_pct": np.array([np.nan if v is None else v for v in values], dtype="float32")
        for name, values in (
            ("memory", [r.memory_pct for r in given_rows]),
            ("timeout", [r.timeout_pct for r in given_rows]),
        )
    }
    carried = [r.tags or {} for r in given_rows]
    on, off = rules.require_tag, rules.optout_tag
    return frame.finish().assign(
        **pcts,
        required_tag=np.array([bool(on and t.get(on.key) == on.value) for t in carried], dtype=bool),
        optout_tag=np.array([bool(off and t.get(off.key) == off.value) for t in carried], dtype=bool),
        tags_read=np.array([r.tags is not None for r in given_rows], dtype=bool),
    )


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(rows(), all_rules, days)
@example(
    [],
    Rules(
        "aws",
        RiskSettings(),
        DefenderSettings.model_validate(
            {"layers": {"python": "arn:aws:lambda:{region}:111122223333:layer:a:1"}, "wrapper": "/w"}
        ),
    ),
    date(2026, 11, 24),
)
def test_the_engine_agrees_with_the_oracle(given_rows: list[oracle.Row], rules: Rules, today: date) -> None:
    assessed = assess_risk(frame_of(given_rows, rules), rules, today)
    said = [
        oracle.Opinion(p, v, r.split(";") if r else [])
        for p, v, r in zip(assessed["protection"], assessed["verdict"], assessed["reasons"], strict=True)
    ]
    assert said == [oracle.expected(row, rules, today) for row in given_rows]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(rows(), all_rules, days)
def test_a_function_s_verdict_does_not_depend_on_its_neighbours(
    given_rows: list[oracle.Row], rules: Rules, today: date
) -> None:
    columns = ["protection", "verdict", "reasons"]
    together = assess_risk(frame_of(given_rows, rules), rules, today)[columns].astype(str)
    alone = [
        assess_risk(frame_of([row], rules), rules, today)[columns].astype(str).iloc[0].tolist()
        for row in given_rows
    ]
    assert together.to_numpy().tolist() == alone


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(rows(), all_rules)
def test_no_value_of_a_variable_enters_the_frame(given_rows: list[oracle.Row], rules: Rules) -> None:
    secret = "s3cr3t-value"
    hidden = []
    for row in given_rows:
        found = oracle.variables_of(row.answer) or {}
        changed = {
            name: value if name == EXEC_WRAPPER else secret
            for name, value in {**found, "PASSWORD": ""}.items()
        }
        hidden.append(
            oracle.Row({**row.answer, "Environment": {"Variables": changed}}, row.account_id, row.region)
        )
    assessed = assess_risk(frame_of(hidden, rules), rules, date(2026, 11, 24))
    assert secret not in assessed.to_csv() + str(
        [list(c.cat.categories) for _, c in assessed.items() if hasattr(c, "cat")]
    )


def test_the_documented_bounds_hold_for_the_oracle_itself() -> None:
    """The oracle is no copy of the engine: here it stands against the mission's table alone."""
    rules = Rules("aws", RiskSettings(), DefenderSettings.model_validate({"layers": {"python": "arn:aws:lambda:{region}:111122223333:layer:a:1"}, "wrapper": "/w"}))  # fmt: skip
    plain = {
        "FunctionName": "a",
        "FunctionArn": "arn",
        "Runtime": "python3.12",
        "MemorySize": 257,
        "Timeout": 869,
        "CodeSize": 1,
    }

    def verdict(**changes: Any) -> list[str]:
        return oracle.expected(
            oracle.Row({**plain, **changes}, "222233334444", "us-east-1"), rules, date(2026, 11, 24)
        ).reasons

    assert verdict() == []
    assert verdict(MemorySize=256) == ["memory"]
    assert verdict(Timeout=870) == ["timeout"]
    assert verdict(PackageType="Image") == ["package_type"]
    assert verdict(Architectures=["arm64"]) == ["architecture"]
    assert verdict(Runtime="java21") == ["runtime"]
