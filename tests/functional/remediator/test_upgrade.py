"""A bucket that release 0.1 left (tests/data/release-0.1, written by its code) is taken over as it is."""

import json
import shutil
from pathlib import Path

import pytest

from remediator.journal.journal import open_runs
from remediator.journal.journals import Journals
from remediator.journal.rebuild import rebuild
from remediator.journal.upgrade import check_format, upgrade
from remediator.state.failures import Failure
from remediator.state.functions import FunctionRecord, records
from remediator.state.quarantine import quarantined
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER
from storage.folder import FolderStore
from storage.protocol import JSON
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, arn_of, layer
from tests.unit.remediator.harness import LATER, RUN, WRAPPER, Harness, settings, wait_briefly

BACK, KILLED = "20261125T000000Z-back", "20261124T234232Z-killed"
TAKES_OVER = "20261125T010000Z-upgrade"
LEFT = Path(__file__).parents[2] / "data" / "release-0.1"


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    wait_briefly(monkeypatch)
    shutil.copytree(LEFT, tmp_path, dirs_exist_ok=True)
    aws = FakeLambda(polls_to_settle=1)
    ours = {"Variables": {"OWNER": "x", EXEC_WRAPPER: WRAPPER, "TW_POLICY": "s3cret for kept"}}
    aws.add("kept", Layers=[{"Arn": layer(4)}], Environment=ours)
    aws.add("rolled-back")
    aws.add("killed")
    harness = Harness(aws, tmp_path)
    upgrade(harness.journals, TAKES_OVER)
    return harness


def test_every_journal_is_known_and_what_they_say_of_each_function(harness: Harness) -> None:
    journals = harness.journals
    known = {(entry.intent.run_id, entry.intent.function_name): entry for entry in journals.history()}
    assert journals.refused == []
    assert known[RUN, "kept"].in_effect
    assert known[RUN, "rolled-back"].undone_by == BACK
    assert known[KILLED, "killed"].outcome is None
    assert [entry.function_arn.rpartition(":")[2] for entry in quarantined(harness.store)] == ["rolled-back"]


def test_what_was_protected_is_still_known_when_its_owner_deploys_it_again(harness: Harness) -> None:
    known = next(one for arn, one in records(harness.store).items() if arn.endswith(":kept"))
    assert known.protections is not None
    assert (known.protections.times, known.protections.run_id) == (1, RUN)


def test_what_a_killed_run_left_open_is_settled_and_its_last_line_is_no_obstacle(harness: Harness) -> None:
    assert open_runs(harness.store) == [KILLED]
    resolved = harness.resolve().changes
    assert resolved[["function_name", "outcome"]].to_numpy().tolist() == [["killed", "deferred"]]
    assert open_runs(harness.store) == []


def test_an_old_run_is_rolled_back(harness: Harness) -> None:
    changes = harness.rollback([RUN], run_id="20261126T000000Z-again").changes.set_index("function_name")[
        "outcome"
    ]
    assert changes["kept"] == "rolled_back"
    kept = next(arn for arn in harness.aws.functions if arn.endswith(":kept"))
    assert harness.aws.layers(kept) == []


def test_it_happens_once_and_goes_on_where_it_was_interrupted(harness: Harness) -> None:
    segments = harness.store.list("journals/")
    assert [path for path in segments if path.endswith("00001.jsonl")] == [
        f"journals/{run_id}/00001.jsonl" for run_id in (RUN, KILLED, BACK, TAKES_OVER)
    ]
    upgrade(harness.journals, LATER)
    harness.store.delete("state/format.json")
    harness.store.delete(f"journals/{RUN}/00001.jsonl")
    (harness.store.root / "journals" / RUN).rmdir()
    created: list[str] = []

    class Watched(FolderStore):
        def create(self, path: str, body: bytes, content_type: str = JSON) -> str | None:
            created.append(path)
            return super().create(path, body, content_type)

    upgrade(Journals(Watched(harness.store.root), harness.defender), LATER)
    assert created == [f"journals/{RUN}/00001.jsonl"]
    assert harness.store.list("journals/") == segments


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": 4}', "written by a newer release"),
        ("[]", "fix it or restore"),
        ("{", "fix it or restore"),
    ],
)
def test_what_a_newer_release_left_is_refused(tmp_path: Path, text: str, why: str) -> None:
    store = FolderStore(tmp_path)
    store.write("state/format.json", text.encode(), "application/json")
    for use in (lambda: check_format(store), lambda: upgrade(Journals(store, settings()), LATER)):
        with pytest.raises(BadInput, match=why) as refused:
            use()
        assert str(tmp_path / "state/format.json") in str(refused.value)
    assert store.list("") == ["state/format.json"]


def test_what_format_2_had_counted_counts_and_no_longer_what_it_had_taken_over(tmp_path: Path) -> None:
    """Format 2 left the files of release 0.1 where they were; its own have refusals that no journal has."""
    store, arn = FolderStore(tmp_path), arn_of("f")
    failure = Failure("kms_denied", "protect", "r", "c", RUN, "2026-11-24T04:00:00+00:00", 3)
    record = {"function_arn": arn, "at": failure.at, "seen": "2026-11-24", "failure": vars(failure)}
    former = {"function_arn": arn, "times": 3, "run_id": RUN, "at": "2026-01-01T00:00:00+00:00"}
    for path, content in {
        "state/format.json": {"format": 2},
        f"state/functions/{ACCOUNT}.json": {"format": 1, "functions": [record]},
        f"state/drift/{ACCOUNT}.json": [former],
    }.items():
        store.write(path, json.dumps(content).encode(), JSON)
    for _ in range(2):
        upgrade(Journals(store, settings()), LATER)
        assert records(store) == {arn: FunctionRecord(arn, failure.at, failure=failure)}
    assert rebuild(Journals(store, settings())) == []


def test_what_a_killed_run_of_format_2_had_not_counted_is_counted(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(), tmp_path)
    arn = harness.aws.add("f")
    harness.apply()
    for path in (tmp_path / "journals").glob("2*/*"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    for path in (tmp_path / "journals").glob("term*"):
        path.unlink()
    shutil.rmtree(tmp_path / "state")
    record = {"function_arn": arn, "at": "2026-11-24T03:00:00.000+00:00", "protections": None}
    for name, content in {
        "format.json": {"format": 2},
        f"functions/{ACCOUNT}.json": {"format": 1, "functions": [record]},
    }.items():
        harness.store.write(f"state/{name}", json.dumps(content).encode(), JSON)
    upgrade(harness.journals, LATER)
    assert (count := records(harness.store)[arn].protections)
    assert (count.times, count.run_id) == (1, RUN)


def test_a_new_bucket_has_todays_format_from_its_first_run(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    upgrade(Journals(store, settings()), LATER)
    assert json.loads(store.read("state/format.json") or b"") == {"format": 3}
    assert check_format(store) == 3
