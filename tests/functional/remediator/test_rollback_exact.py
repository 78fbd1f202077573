"""A rollback takes out exactly what was added, keeps what came later, refuses where it can't, and is done once."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remediator.state.quarantine import quarantined
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER
from tests.unit.remediator.fake_lambda import FakeLambda, arn_of, layer, lose, refusal
from tests.unit.remediator.harness import LATER, OURS, RUN, WRAPPER, Harness, one, settings

DATADOG, INSIGHTS = layer(7, "datadog"), layer(2, "insights")


pytestmark = pytest.mark.usefixtures("short_waits")


def test_everything_is_as_before_and_the_tag_is_gone(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    before = aws.layers(arn), aws.variables(arn)
    harness.apply()
    row = one(harness.rollback([RUN]))
    assert (row["action"], row["outcome"], row["attempts"]) == ("rollback", "rolled_back", 1)
    assert (aws.layers(arn), aws.variables(arn)) == before
    assert aws.tags[arn] == {}


def test_a_dry_run_reports_and_sends_nothing(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    state = json.dumps(aws.functions[arn])
    row = one(harness.rollback([RUN], write=False))
    assert row["outcome"] == "planned"
    assert row["detail"] == f"removes {layer(4)}, {EXEC_WRAPPER}, TW_POLICY"
    assert json.dumps(aws.functions[arn]) == state
    assert quarantined(harness.store) == ()
    assert len(harness.entries("20261125T000000Z-back")) == 0


def test_rolling_back_twice_changes_nothing(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    harness.rollback([RUN])
    state, updates = json.dumps(aws.functions[arn]), aws.calls["update_function_configuration"]
    row = one(harness.rollback([RUN], run_id="20261126T000000Z-again"))
    assert (row["outcome"], row["detail"]) == ("dropped", "already rolled back by run 20261125T000000Z-back")
    assert (json.dumps(aws.functions[arn]), aws.calls["update_function_configuration"]) == (state, updates)


def test_what_the_owner_changed_since_stays(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    harness.apply()
    variables = {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "the owner's now", "NEW": "x"}
    aws.owner_edits(arn, Layers=[{"Arn": INSIGHTS}, {"Arn": layer(4)}], Environment={"Variables": variables})
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == "rolled_back"
    assert "keeps, changed since: TW_POLICY" in row["detail"]
    assert "the owner's now" not in harness.everything_written()
    assert aws.layers(arn) == [INSIGHTS]
    assert aws.variables(arn) == {"TW_POLICY": "the owner's now", "NEW": "x"}


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"Layers": [], "Environment": {"Variables": {}}}, "it no longer carries what was added"),
        ({"Layers": [{"Arn": layer(9)}]}, "it carries version 9 of the layer now, not version 4"),
        ({"Environment": {"Error": {"ErrorCode": "AccessDenied"}}}, "its environment can't be read"),
    ],
)
def test_it_refuses_and_says_why(harness: Harness, aws: FakeLambda, edit: dict[str, Any], why: str) -> None:
    arn = aws.add()
    harness.apply()
    aws.owner_edits(arn, **edit)
    updates = aws.calls["update_function_configuration"]
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == "dropped"
    assert why in row["detail"]
    assert aws.calls["update_function_configuration"] == updates


def test_a_function_that_is_gone_is_reported(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    aws.delete(arn)
    assert one(harness.rollback([RUN]))["detail"] == "gone: the function no longer exists"


def upgraded(harness: Harness, aws: FakeLambda) -> str:
    """Protect with version 4, then upgrade to version 5 in a later run."""
    arn = aws.add(Layers=[{"Arn": DATADOG}])
    harness.apply()
    harness.defender = settings(version=5)
    harness.apply(run_id=LATER)
    assert aws.layers(arn) == [DATADOG, layer(5)]
    return arn


def test_a_run_under_a_later_one_is_not_rolled_back_from_beneath_it(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = upgraded(harness, aws)
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == "dropped"
    assert LATER in row["detail"]
    assert aws.layers(arn) == [DATADOG, layer(5)]


def test_an_upgrade_is_rolled_back_to_the_version_before_and_keeps_the_tag(
    harness: Harness, aws: FakeLambda
) -> None:
    arn = upgraded(harness, aws)
    assert one(harness.rollback([LATER]))["outcome"] == "rolled_back"
    assert aws.layers(arn) == [DATADOG, layer(4)]
    assert aws.variables(arn)[EXEC_WRAPPER] == WRAPPER
    assert aws.tags[arn] == {"SecurityProtected": "True"}
    assert one(harness.rollback([RUN], run_id="20261126T000000Z-again"))["outcome"] == "rolled_back"
    assert aws.layers(arn) == [DATADOG]


def test_a_function_is_freed_of_all_runs_at_once(harness: Harness, aws: FakeLambda) -> None:
    arn = upgraded(harness, aws)
    row = one(harness.rollback([], [arn]))
    assert (row["outcome"], row["attempts"]) == ("rolled_back", 1)
    assert aws.layers(arn) == [DATADOG]
    assert aws.variables(arn) == {"OWNER": "s3cret-of-the-owner"}
    assert one(harness.rollback([RUN], run_id="20261126T000000Z-again"))["outcome"] == "dropped"


def test_what_was_rolled_back_is_left_alone_by_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    harness.apply()
    harness.rollback([RUN])
    (entry,) = quarantined(harness.store)
    assert (entry.function_arn, entry.run_id) == (arn, "20261125T000000Z-back")


def test_a_function_that_no_run_changed_is_refused(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    with pytest.raises(BadInput, match="no run has changed"):
        harness.rollback([], [arn])
    assert quarantined(harness.store) == ()


@pytest.mark.parametrize(
    ("runs", "functions"),
    [
        (["yesterday"], []),
        (["../../../etc"], []),
        (["20261124T034232Z-ffffff"], []),
        ([], ["payments"]),
        ([], [arn_of("f") + ":1"]),
    ],
)
def test_bad_input_is_one_clear_line(harness: Harness, runs: list[str], functions: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        harness.rollback(runs, functions)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("done", [True, False])
def test_a_lost_answer_is_found_out(harness: Harness, aws: FakeLambda, done: bool) -> None:
    arn = aws.add()
    harness.apply()
    aws.before, aws.after = lose("update_function_configuration", done=done, times=2)
    row = one(harness.rollback([RUN]))
    assert row["outcome"] == ("rolled_back" if done else "deferred")
    assert aws.calls["update_function_configuration"] == 2
    assert (aws.layers(arn) == []) is done


def test_a_refusal_fails_that_function_alone_and_it_can_be_rolled_back_later(
    harness: Harness, aws: FakeLambda
) -> None:
    arn, other = aws.add("a"), aws.add("b")
    harness.apply()

    def refuse(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and on == arn:
            raise refusal("AccessDeniedException", "with an explicit deny in a service control policy")

    aws.before = refuse
    changes = harness.rollback([RUN]).changes.set_index("function_arn")
    assert changes.loc[arn, "detail"].startswith("denied_by_scp")
    assert changes.loc[other, "outcome"] == "rolled_back"
    aws.before = lambda method, on, n: None
    changes = harness.rollback([RUN], run_id="20261126T000000Z-again").changes.set_index("function_arn")
    assert changes.loc[arn, "outcome"] == "rolled_back"
    assert changes.loc[other, "outcome"] == "dropped"


owner_layers = st.lists(st.sampled_from([DATADOG, INSIGHTS]), unique=True, max_size=2)
first_variables = st.fixed_dictionaries(
    {}, optional={"A1": st.sampled_from(["1", "2"]), "TW_POLICY": st.just(OURS["TW_POLICY"])}
)
owner_variables = st.dictionaries(
    st.sampled_from(["A1", "TW_POLICY"]), st.sampled_from(["1", "2"]), max_size=2
)


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(owner_layers, first_variables, owner_layers, owner_variables, st.booleans(), st.booleans())
def test_whatever_an_owner_deploys_between_stays_as_deployed(
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[str],
    variables: dict[str, str],
    later_layers: list[str],
    later_variables: dict[str, str],
    keeps_layer: bool,
    keeps_variables: bool,
) -> None:
    aws = FakeLambda()
    harness = Harness(aws, tmp_path_factory.mktemp("store"))
    arn = aws.add(Layers=[{"Arn": x} for x in layers], Environment={"Variables": variables})
    harness.apply()
    deployed = [*([layer(4)] if keeps_layer else []), *later_layers]
    kept = {k: v for k, v in OURS.items() if keeps_variables and k not in variables}
    aws.owner_edits(
        arn, Layers=[{"Arn": x} for x in deployed], Environment={"Variables": kept | later_variables}
    )
    harness.rollback([RUN])
    assert aws.layers(arn) == later_layers
    assert aws.variables(arn) == later_variables
