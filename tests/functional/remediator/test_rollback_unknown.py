"""`rollback --function` of a function that no journal knows: what is ours by what is read goes, and nothing else."""

import json
import shutil

import pytest

from auto_defender.job_result import rollback_exit_code
from remediator.change.records import Intent
from remediator.execution.apply import ApplyResult
from remediator.journal.selection import Selection
from remediator.state.quarantine import quarantined
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER, PreviousSettings
from tests.unit.remediator.fake_lambda import PUBLISHER, FakeLambda, Killed, arn_of, layer, refusal
from tests.unit.remediator.harness import OURS, POLICY, WRAPPER, Harness, journal_of, one, settings

BACK, AGAIN = "20261125T000000Z-back", "20261126T000000Z-again"
DATADOG, OLD = layer(7, "datadog"), layer(2, "old-defender")
OWNERS = {"OWNER": "s3cret-of-the-owner"}

pytestmark = pytest.mark.usefixtures("short_waits")


def attached(aws: FakeLambda, *layers: str, name: str = "f", **variables: str) -> str:
    """Add a function to which somebody has attached things by hand."""
    arn = aws.add(
        name,
        Layers=[{"Arn": one} for one in layers],
        Environment={"Variables": OWNERS | variables},
    )
    aws.tags[arn] = {"SecurityProtected": "True", "team": "payments"}
    return arn


def code(back: ApplyResult) -> int:
    return rollback_exit_code(back.changes, back.stopped_by)


def intent_of(harness: Harness, run_id: str = BACK) -> Intent:
    (entry,) = harness.entries(run_id)
    return entry.intent


def in_quarantine(harness: Harness) -> list[str]:
    return [entry.function_arn for entry in quarantined(harness.store)]


def test_a_manual_attachment_is_removed_and_nothing_else(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, DATADOG, layer(3), **OURS)
    back = harness.rollback([], [arn])
    row = one(back)
    assert (row["outcome"], row["as_before"], row["attempts"], code(back)) == ("rolled_back", "true", 1, 0)
    assert (row["layer_before"], row["layer_after"]) == (layer(3), "")
    assert row["detail"] == f"removes {layer(3)}, {EXEC_WRAPPER}, TW_POLICY"
    assert (aws.layers(arn), aws.variables(arn)) == ([DATADOG], OWNERS)
    assert aws.tags[arn] == {"team": "payments"}
    assert in_quarantine(harness) == [arn]
    assert POLICY not in harness.everything_written()


def test_the_intent_is_there_before_the_update_and_names_what_goes(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS)
    seen: list[str] = []

    def before(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            seen.append(journal_of(harness.store.root, BACK))

    aws.before = before
    harness.rollback([], [arn])
    (text,) = seen
    line = json.loads(text.splitlines()[-1])
    assert (line["event"], line["action"], line["undoes"]) == ("intent", "rollback", [])
    delta = line["delta"]
    assert (delta["layer"], delta["wrapper"]) == (layer(3), WRAPPER)
    assert delta["variables_added"] == [EXEC_WRAPPER, "TW_POLICY"]


def test_layers_and_wrappers_of_earlier_configurations_go_too(harness: Harness, aws: FakeLambda) -> None:
    previous = PreviousSettings(layers=(layer(2, "old-defender"),), wrappers=("/opt/old/wrapper",))
    harness.defender = settings(previous=previous)
    arn = attached(aws, OLD, DATADOG, layer(4), **{EXEC_WRAPPER: "/opt/old/wrapper"})
    assert one(harness.rollback([], [arn]))["outcome"] == "rolled_back"
    assert (aws.layers(arn), aws.variables(arn)) == ([DATADOG], OWNERS)
    intent = intent_of(harness)
    assert [delta.layer for delta in intent.deltas] == [OLD, layer(4)]
    assert intent.delta.wrapper == "/opt/old/wrapper"
    assert harness.journals.refused == []


@pytest.mark.parametrize(
    ("layers", "variables", "left"),
    [
        ([], {EXEC_WRAPPER: WRAPPER, "TW_POLICY": "the owner's"}, {"TW_POLICY": "the owner's"}),
        ([], OURS, {}),
        ([layer(4)], {EXEC_WRAPPER: "/opt/datadog"}, {EXEC_WRAPPER: "/opt/datadog"}),
        ([layer(4, "twistlock-nodejs")], {}, {}),
    ],
)
def test_each_part_is_ours_alone_and_what_has_another_value_stays(
    harness: Harness, aws: FakeLambda, layers: list[str], variables: dict[str, str], left: dict[str, str]
) -> None:
    arn = attached(aws, *layers, **variables)
    assert one(harness.rollback([], [arn]))["outcome"] == "rolled_back"
    assert (aws.layers(arn), aws.variables(arn)) == ([], OWNERS | left)
    assert "the owner's" not in harness.everything_written()


@pytest.mark.parametrize(
    ("layers", "variables"),
    [
        ([], {"TW_POLICY": POLICY}),
        ([DATADOG], OURS),
        ([layer(4).replace(PUBLISHER, "123456781234")], OURS),
    ],
)
def test_without_our_layer_a_value_and_a_wrapper_that_another_layer_may_have_are_the_owner_s(
    harness: Harness, aws: FakeLambda, layers: list[str], variables: dict[str, str]
) -> None:
    arn = attached(aws, *layers, **variables)
    with pytest.raises(BadInput, match="carries nothing of ours"):
        harness.rollback([], [arn])
    assert (aws.layers(arn), aws.variables(arn)) == (layers, OWNERS | variables)


def test_a_variable_of_ours_with_another_value_stays_and_is_named(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS | {"TW_POLICY": "the owner's"})
    keeps = "keeps, not with the configured value: TW_POLICY"
    dry = harness.rollback([], [arn], write=False)
    assert one(dry)["detail"] == f"removes {layer(3)}, {EXEC_WRAPPER}; {keeps}"
    back = harness.rollback([], [arn])
    assert one(back)["detail"] == f"removes {layer(3)}, {EXEC_WRAPPER}; {keeps}"
    assert (one(back)["as_before"], code(back)) == ("false", 4)
    assert aws.variables(arn) == OWNERS | {"TW_POLICY": "the owner's"}
    again = harness.rollback([], [arn], run_id=AGAIN)
    assert one(again)["detail"] == f"already rolled back by run {BACK}; {keeps}"
    assert code(again) == 4


def test_a_pinned_earlier_version_is_ours_and_others_of_that_layer_are_not(
    harness: Harness, aws: FakeLambda
) -> None:
    harness.defender = settings(previous=PreviousSettings(layers=(OLD,)))
    arn = attached(aws, layer(3, "old-defender"))
    with pytest.raises(BadInput, match="carries nothing of ours"):
        harness.rollback([], [arn])


def test_a_function_whose_journal_is_lost_is_as_before(harness: Harness, aws: FakeLambda) -> None:
    arn = aws.add()
    before = aws.layers(arn), aws.variables(arn)
    harness.apply()
    shutil.rmtree(harness.store.root / "journals")
    assert one(harness.rollback([], [arn]))["outcome"] == "rolled_back"
    assert (aws.layers(arn), aws.variables(arn)) == before
    assert aws.tags[arn] == {}


def test_a_runtime_without_a_family_of_ours_is_no_obstacle(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(4), **OURS)
    aws.functions[arn]["Runtime"] = "java21"
    assert one(harness.rollback([], [arn]))["outcome"] == "rolled_back"
    assert (aws.layers(arn), aws.variables(arn)) == ([], OWNERS)


def test_what_does_not_exist_or_carries_nothing_of_ours_is_a_typo(harness: Harness, aws: FakeLambda) -> None:
    for arn in (aws.add(), attached(aws, DATADOG, name="other", TW_POLICY="the owner's"), arn_of("gone")):
        with pytest.raises(BadInput, match=f"no run has changed {arn}, and it does not exist or carries"):
            harness.rollback([], [arn])
    assert harness.everything_written() == ""


def test_only_who_names_the_function_gets_it(harness: Harness, aws: FakeLambda) -> None:
    known = aws.add("known")
    harness.apply()
    by_hand = attached(aws, layer(4), name="by-hand")
    assert list(harness.rollback([], selection=Selection(everything=True)).changes["function_arn"]) == [known]
    assert aws.layers(by_hand) == [layer(4)]


def test_a_dry_run_shows_it_and_sends_nothing(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS)
    row = one(harness.rollback([], [arn], write=False))
    assert (row["outcome"], row["layer_after"]) == ("planned", "")
    assert (aws.calls["update_function_configuration"], in_quarantine(harness)) == (0, [])


def test_once_removed_it_is_as_before(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS)
    harness.rollback([], [arn])
    back = harness.rollback([], [arn], run_id=AGAIN)
    row = one(back)
    assert (row["outcome"], row["as_before"], code(back)) == ("dropped", "true", 0)
    assert row["detail"] == f"already rolled back by run {BACK}"
    aws.owner_edits(arn, Layers=[{"Arn": layer(3)}])
    assert one(harness.rollback([], [arn], run_id=AGAIN))["outcome"] == "rolled_back"


def test_an_environment_that_can_not_be_read_is_not_an_empty_one(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3))
    aws.owner_edits(arn, Environment={"Error": {"ErrorCode": "AccessDenied", "Message": "no"}})
    back = harness.rollback([], [arn])
    row = one(back)
    assert (row["outcome"], code(back), in_quarantine(harness)) == ("dropped", 4, [])
    assert "its environment can't be read" in row["detail"]
    assert aws.layers(arn) == [layer(3)]


def test_a_function_that_can_not_be_read_is_reported_and_no_typo(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3))

    def denied(method: str, on: str, n: int) -> None:
        raise refusal("AccessDeniedException", "not authorized", "GetFunctionConfiguration", 403)

    aws.before = denied
    back = harness.rollback([], [arn])
    assert (one(back)["as_before"], code(back), in_quarantine(harness)) == ("false", 4, [])


def test_a_deployment_in_between_is_read_again(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS)

    def deploy(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration" and n == 1:
            aws.owner_edits(on, Environment={"Variables": OURS | {"NEW": "x"}})

    aws.before = deploy
    assert one(harness.rollback([], [arn]))["attempts"] == 2
    assert (aws.layers(arn), aws.variables(arn)) == ([], {"NEW": "x"})


def test_a_killed_one_is_found_out_about_by_the_next_run(harness: Harness, aws: FakeLambda) -> None:
    previous = PreviousSettings(layers=(OLD,))
    harness.defender = settings(previous=previous)
    arn = attached(aws, layer(3), OLD, **OURS)

    def kill(method: str, on: str, n: int) -> None:
        if method == "update_function_configuration":
            raise Killed

    aws.after = kill
    harness.rollback([], [arn])
    assert [entry.outcome for entry in harness.entries(BACK)] == [None]
    aws.after = lambda method, on, n: None
    updates = aws.calls["update_function_configuration"]
    assert one(harness.resolve())["outcome"] == "rolled_back"
    assert aws.calls["update_function_configuration"] == updates
    assert (aws.layers(arn), aws.tags[arn]) == ([], {"team": "payments"})


def test_an_entry_with_a_further_layer_that_is_not_ours_is_refused(harness: Harness, aws: FakeLambda) -> None:
    arn = attached(aws, layer(3), **OURS)
    harness.rollback([], [arn])
    (path,) = (harness.store.root / "journals" / BACK).glob("00002.jsonl")
    mark, text = path.read_text().splitlines()
    line = json.loads(text)
    line["deltas"].append(line["delta"] | {"layer": DATADOG})
    path.write_text(f"{mark}\n{json.dumps(line)}\n")
    journals = harness.journals
    journals.history()
    (problem,) = journals.refused
    assert f"names the layer '{DATADOG}'" in problem
