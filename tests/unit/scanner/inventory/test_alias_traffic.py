"""What a function serves, and whether that is protected: pure, compared with a plainer form of the same rules."""

from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given

from scanner.aws.errors import BrokenAnswer
from scanner.inventory.alias_traffic import (
    EFFECTIVE,
    LATEST,
    SERVED,
    VersionProtection,
    effective_protection,
    format_aliases,
    served_by,
    serves_latest,
    versions_of,
)
from scanner.risk.protection import versions_protection
from tests.unit.scanner.risk.assessed import WRAPPER, frame, function, layer, rules

VERSIONS = st.sampled_from(["1", "2", "3", "4", LATEST])
QUALIFIERS = st.dictionaries(
    st.sampled_from(["live", "beta", "canary"]),
    st.lists(VERSIONS, min_size=1, max_size=2, unique=True).map(tuple),
    max_size=3,
)
CARRIES = st.dictionaries(st.sampled_from(["1", "2", "3"]), st.sampled_from(EFFECTIVE))
ORDER = {"served_unprotected": 0, "unknown": 1, "served_protected": 2, "latest_only": 3}
OURS = {"layers": [layer()], "variables": {"AWS_LAMBDA_EXEC_WRAPPER": WRAPPER}}


@given(QUALIFIERS, CARRIES)
def test_every_version_that_is_served_must_be_protected(
    qualifiers: dict[str, tuple[str, ...]], carries: dict[str, VersionProtection]
) -> None:
    published = [v for versions in qualifiers.values() for v in versions if v != LATEST]
    result = served_by(qualifiers, carries)
    assert (result == "latest_only") == (not published)
    assert (result == "served_protected") == (
        bool(published) and all(carries.get(v) == "protected" for v in published)
    )
    assert (result == "served_unprotected") == any(carries.get(v) == "unprotected" for v in published)


@given(QUALIFIERS, CARRIES, VERSIONS)
def test_one_version_more_never_makes_it_better(
    qualifiers: dict[str, tuple[str, ...]], carries: dict[str, VersionProtection], version: str
) -> None:
    before, after = served_by(qualifiers, carries), served_by({**qualifiers, "new": (version,)}, carries)
    assert ORDER[after] <= ORDER[before]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SERVED),
            st.booleans(),
            st.sampled_from(["protected", "outdated", "partial", "unprotected"]),
        ),
        min_size=1,
    )
)
def test_only_what_is_protected_wherever_traffic_goes_counts(rows: list[tuple[str, bool, str]]) -> None:
    functions = pd.DataFrame(rows, columns=["served", "serves_latest", "protection"]).astype(
        {"served": "category", "protection": "category"}
    )
    for (served, latest, protection), result in zip(rows, effective_protection(functions), strict=True):
        bare = served == "served_unprotected" or (latest and protection != "protected")
        assert result == ("unprotected" if bare else "unknown" if served == "unknown" else "protected")


@given(QUALIFIERS, CARRIES)
def test_the_text_names_every_alias_with_its_versions(
    qualifiers: dict[str, tuple[str, ...]], carries: dict[str, VersionProtection]
) -> None:
    parts = [part.partition("=") for part in format_aliases(qualifiers, carries).split(";") if part]
    assert {name: tuple(v.partition(":")[0] for v in vs.split(",")) for name, _, vs in parts} == qualifiers
    states = {tuple(v.split(":")) for _, _, vs in parts for v in vs.split(",")} - {(LATEST,)}
    assert all(carries.get(version, "unknown") == state for version, state in states)


@pytest.mark.parametrize(
    ("alias", "versions"),
    [
        ({"FunctionVersion": "3"}, ("3",)),
        ({"FunctionVersion": LATEST, "RoutingConfig": None}, (LATEST,)),
        ({"FunctionVersion": "3", "RoutingConfig": {}}, ("3",)),
        ({"FunctionVersion": "3", "RoutingConfig": {"AdditionalVersionWeights": {"4": 0.05}}}, ("3", "4")),
        ({"FunctionVersion": "3", "RoutingConfig": {"AdditionalVersionWeights": {"4": 0.0}}}, ("3",)),
    ],
)
def test_an_alias_serves_its_version_and_the_one_it_gives_a_weight(
    alias: dict[str, Any], versions: tuple[str, ...]
) -> None:
    assert versions_of(alias) == versions


@pytest.mark.parametrize(
    "alias",
    [
        {},
        {"FunctionVersion": 3},
        {"FunctionVersion": "3", "RoutingConfig": ["4"]},
        {"FunctionVersion": "3", "RoutingConfig": {"AdditionalVersionWeights": ["4"]}},
    ],
)
def test_an_alias_without_its_versions_is_broken(alias: dict[str, Any]) -> None:
    with pytest.raises(BrokenAnswer):
        versions_of(alias)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        (OURS, "protected"),
        ({}, "unprotected"),
        ({**OURS, "layers": [layer(version=3)]}, "unprotected"),
        ({"layers": [layer()]}, "unprotected"),
        ({"layers": [layer()], "Environment": {"Error": {"ErrorCode": "AccessDenied"}}}, "unknown"),
        ({"Environment": {"Error": {"ErrorCode": "AccessDenied"}}}, "unprotected"),
        ({"Layers": "?", "variables": OURS["variables"]}, "unknown"),
    ],
)
def test_what_a_version_carries_is_unknown_where_it_could_not_be_read(
    fields: dict[str, Any], state: str
) -> None:
    by = rules()
    assert versions_protection(frame(function(**fields), by=by), by) == [state]


def test_nothing_but_latest_serves_latest() -> None:
    assert serves_latest({})
    assert serves_latest({"live": ("1",), "test": (LATEST,)})
    assert not serves_latest({"live": ("1",)})
