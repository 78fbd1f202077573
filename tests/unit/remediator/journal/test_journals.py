"""What is read back is held against what it may say, and a broken part costs itself alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remediator.journal.journal import Journal, open_runs
from remediator.journal.rebuild import rebuild
from remediator.journal.selection import Selection, select
from remediator.state.functions import Seen, records
from remediator.state.order import Order
from scanner.settings import PreviousSettings
from storage.folder import FolderStore
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, layer
from tests.unit.remediator.harness import RUN, WRAPPER, Harness, journal_of, wait_briefly

LATER = "20261124T054232Z-later"
DATADOG = "arn:aws:lambda:us-east-1:464622532012:layer:Datadog-Extension:60"
STAMP = "2026-11-24T00:00:00+00:00"
EVIL = "arn:aws:lambda:us-east-1:111122223333:layer:evil:1"


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    wait_briefly(monkeypatch)
    harness = Harness(FakeLambda(), tmp_path)
    for name in ("a", "b"):
        harness.aws.add(name)
    harness.apply()
    return harness


def edited(harness: Harness, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the intent of the function a, as whoever may write to the bucket could."""
    for path in (harness.store.root / "journals" / RUN).glob("[0-9]*"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["event"] == "intent" and line["function_name"] == "a":
                edit(line)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda line: line["delta"].update(layer=DATADOG), "neither in defender.layers"),
        (lambda line: line["delta"].update(layer_before=EVIL), "neither in defender.layers"),
        (lambda line: line["delta"].update(layer="not an arn"), "neither in defender.layers"),
        (lambda line: line["delta"].update(wrapper="/opt/datadog_wrapper"), "neither in defender.wrapper"),
        (lambda line: line.update(run_id=LATER), "is of another run"),
        (lambda line: line.update(account_id="999999999999"), "is not its account, region and function"),
        (lambda line: line.update(region="eu-west-1"), "is not its account, region and function"),
        (lambda line: line.update(function_arn="payments"), "is not its account, region and function"),
    ],
)
def test_an_entry_that_can_not_be_ours_is_refused_and_reported(
    harness: Harness, edit: Callable[[dict[str, Any]], object], why: str
) -> None:
    edited(harness, edit)
    journals = harness.journals
    undos = select(journals, Selection(runs=[RUN]))
    assert [undo.function_name for undo in undos] == ["b"]
    (problem,) = journals.refused
    assert why in problem
    assert f"journals/{RUN}/" in problem
    before = dict(harness.aws.functions)
    assert harness.rollback([RUN]).changes["function_name"].tolist() == ["b"]
    assert [arn for arn in before if layer(4) in harness.aws.layers(arn)] == [
        arn for arn in before if arn.endswith(":a")
    ]


def test_a_broken_segment_costs_itself_alone(harness: Harness) -> None:
    harness.store.write("journals/20250101T000000Z-ffffff/00001.jsonl", b"{}\n", "")
    harness.store.write("journals/20260101T000000Z-eeeeee/00001.jsonl", b"\xff\xfe", "")
    harness.store.write("journals/no-run/00001.jsonl", b"{}\n", "")
    arns = sorted(harness.aws.functions)
    assert harness.rollback([], arns).changes["outcome"].tolist() == ["rolled_back"] * 2
    journals = harness.journals
    journals.history()
    assert len(journals.refused) == 3
    assert all("not a segment of a journal" in problem for problem in journals.refused)


def test_only_a_rollback_of_the_same_function_undoes_a_change(harness: Harness) -> None:
    """A forged rollback of another function does not hide that a change is in effect."""
    lines = map(json.loads, journal_of(harness.store.root, RUN).splitlines())
    first = next(line for line in lines if line["event"] == "intent")
    other = {"a": "b", "b": "a"}[first["function_name"]]
    forged = first | {
        "run_id": LATER,
        "action": "rollback",
        "function_name": other,
        "function_arn": first["function_arn"][:-1] + other,
        "undoes": [[RUN, first["id"]]],
    }
    outcome = {
        "event": "outcome",
        "at": first["at"],
        "id": first["id"],
        "outcome": "rolled_back",
        "detail": "",
        "attempts": 1,
    }
    harness.store.write(
        f"journals/{LATER}/00001.jsonl", f"{json.dumps(forged)}\n{json.dumps(outcome)}\n".encode(), ""
    )
    assert all(entry.in_effect for entry in harness.entries())


def test_a_change_is_undone_by_the_journal_of_its_rollback(harness: Harness) -> None:
    harness.rollback([RUN])
    entries = harness.entries()
    assert {entry.undone_by for entry in entries} == {"20261125T000000Z-back"}
    written = journal_of(harness.store.root, RUN)
    assert "undone" not in written


def test_two_processes_of_one_run_give_different_ids_and_lose_no_line(harness: Harness) -> None:
    """A last step that is called twice goes on where the first call ended."""
    ids = {entry.intent.id for entry in harness.entries()}
    again = harness.journals.open(RUN)
    assert again.prefix != "0"
    assert not any(identity.startswith(f"{again.prefix}.") for identity in ids)
    assert {entry.intent.id for entry in again.entries} == ids


def test_what_earlier_configurations_attached_is_ours_once_it_is_named(harness: Harness) -> None:
    """Renaming the layer must not make older changes impossible to roll back."""
    renamed = {family: layer(1, "defender") for family in harness.defender.layers}
    harness.defender = harness.defender.model_copy(update={"layers": renamed, "wrapper": "/opt/defender"})
    journals = harness.journals
    assert journals.history() == []
    assert len(journals.refused) == 2
    previous = PreviousSettings(layers=(layer(4).rpartition(":")[0] + ":*",), wrappers=(WRAPPER,))
    harness.defender = harness.defender.model_copy(update={"previous": previous})
    assert harness.rollback([RUN]).changes["outcome"].tolist() == ["rolled_back"] * 2
    assert all(harness.aws.layers(arn) == [] for arn in harness.aws.functions)


@pytest.mark.parametrize(
    "forged",
    [
        {"event": "undone", "at": "2026-11-24T00:00:00+00:00", "id": "ID", "by": "nobody"},
        {
            "event": "outcome",
            "at": "2026-11-24T00:00:00+00:00",
            "id": "ID",
            "outcome": "dropped",
            "detail": "",
            "attempts": 0,
        },
        {
            "event": "outcome",
            "at": "0001-01-01T00:00:00+14:00",
            "id": "ID",
            "outcome": "dropped",
            "detail": "",
            "attempts": 0,
        },
        "the intent of another function under its id",
    ],
)
def test_what_is_added_later_replaces_nothing_and_is_reported(harness: Harness, forged: Any) -> None:
    before = {entry.intent.function_arn: entry for entry in harness.entries()}
    entry = before[next(arn for arn in before if arn.endswith(":a"))]
    if isinstance(forged, str):
        lines = map(json.loads, journal_of(harness.store.root, RUN).splitlines())
        other = next(line for line in lines if line["event"] == "intent" and line["function_name"] == "b")
        forged = other | {"id": entry.intent.id}
    forged = {key: entry.intent.id if value == "ID" else value for key, value in forged.items()}
    harness.store.write(f"journals/{RUN}/00099.jsonl", json.dumps(forged).encode() + b"\n", "")
    journals = harness.journals
    assert {entry.intent.function_arn: entry for entry in journals.history()} == before
    (problem,) = journals.refused
    assert f"journals/{RUN}/00099.jsonl" in problem
    assert harness.rollback([RUN]).changes["outcome"].tolist() == ["rolled_back"] * 2


@pytest.mark.parametrize(
    "name", ["no-run.json", "20261124T034232Z-1a2b3c", ".json", "20261124T034232Z-1a2b3c/x.json"]
)
def test_a_strange_file_among_the_markers_stops_nothing(harness: Harness, name: str) -> None:
    harness.store.write(f"state/open/{name}", b"{}", "")
    assert open_runs(harness.store) == []
    assert harness.resolve().changes.empty


def test_a_run_that_changes_nothing_writes_and_deletes_nothing(tmp_path: Path) -> None:
    class Watched(FolderStore):
        def delete(self, path: str) -> None:
            pytest.fail(f"deleted {path}")

    journal = Journal(Watched(tmp_path), RUN, Order(Watched(tmp_path)))
    journal.record_intents([])
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        {"event": "wave", "done": "soon", "passed": ""},
        {"event": "wave", "done": "2026-11-24T00:00:00", "passed": ""},
        {"event": "wave", "done": "", "passed": "9999-12-31T23:59:59+00:00"},
        {"event": "quarantine", "since": "2026-11-24"},
        {"event": "quarantine", "since": STAMP, "function_arn": "payments"},
        {"event": "quarantine", "since": STAMP, "gone": "long ago"},
        {"event": "quarantine", "since": STAMP, "at": "9999-12-31T23:59:59+00:00"},
    ],
)
def test_a_line_that_no_run_could_use_later_is_refused(harness: Harness, line: dict[str, Any]) -> None:
    more = {"at": STAMP, "release": "r", "name": "w", "healthy": 1, "regressed": 0}
    more |= {
        "function_arn": min(harness.aws.functions),
        "run_id": LATER,
        "reason": "slow",
        "regressed": True,
    }
    harness.store.write(f"journals/{LATER}/00001.jsonl", json.dumps(more | line).encode(), "")
    journals = harness.journals
    journals.open(LATER)
    (problem,) = journals.refused
    assert "not a segment of a journal" in problem


def test_functions_that_are_gone_are_no_obstacle_to_a_clock_of_another_age(harness: Harness) -> None:
    gone = Seen(ACCOUNT, tuple(harness.aws.functions))
    harness.journals.record(LATER, [gone])
    body = b'{"event": "retry", "at": "0001-01-02T00:00:00+00:00", "function_arn": "%s"}'
    arn = min(harness.aws.functions)
    harness.store.write("journals/20261124T064232Z-last/00001.jsonl", body % arn.encode(), "")
    rebuild(harness.journals)
    assert set(records(harness.store)) == set(gone.gone)
