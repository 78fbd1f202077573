"""State is what journals say: it is rebuilt to the same bytes, heals when it is lost or old, and costs no run more with age."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auto_defender.doctor import state as doctor
from benchmarks.state import Counted
from remediator.journal.history import entries_of
from remediator.journal.journal import open_runs
from remediator.journal.rebuild import Rebuilt, rebuild
from remediator.journal.upgrade import upgrade
from remediator.rollout.lock import LOCK
from remediator.settings import WaveSettings
from remediator.state.functions import Retried, Seen, records
from remediator.state.quarantine import Quarantined, quarantined
from remediator.state.wave_states import WaveObserved
from scanner.core.errors import BadInput
from storage.folder import FolderStore
from storage.protocol import JSON
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, Killed, refusal
from tests.unit.remediator.harness import RUN, Harness, journal_of, settings
from tests.unit.remediator.killing import kill_after, restart

pytestmark = pytest.mark.usefixtures("short_waits")
PILOT = WaveSettings(name="pilot", accounts=(ACCOUNT,), soak_hours=1)
HOURS = [f"20261124T{hour:02}4232Z-hourly" for hour in range(24)]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    harness = Harness(FakeLambda(), tmp_path / "then")
    upgrade(harness.journals, RUN)
    return harness


def run(harness: Harness, run_id: str) -> None:
    plan = harness.plan(run_id)
    harness.apply(replace(plan, changes=tuple(replace(one, wave="pilot") for one in plan.changes)), run_id)


def lived(harness: Harness) -> None:
    """A day: changes, failures, a rollback, losses, another release, a wave, the quarantine, a function that goes."""
    for number in range(4):
        harness.aws.add(f"f{number}")
    refused, lost, kept, gone = harness.aws.functions

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and arn == refused:
            raise refusal("InvalidParameterValueException", "Something")

    harness.aws.before = refuse
    for hour in range(3):
        run(harness, HOURS[hour])
        harness.aws.owner_edits(lost, Layers=[], Environment={"Variables": {}})
    harness.rollback([], [kept], run_id="20261124T050000Z-back")
    harness.journals.record(
        HOURS[6],
        [
            Seen(ACCOUNT, (gone,)),
            WaveObserved(harness.release, "pilot", 3, "2026-11-24T06:00:00+00:00", "", 1),
        ],
    )
    harness.journals.record(
        HOURS[7], [Retried(refused), Quarantined(lost, "2026-11-24T06:00:00+00:00", HOURS[7], "slow", True)]
    )
    harness.defender = settings(version=5)
    run(harness, HOURS[8])


def state(store: FolderStore) -> dict[str, bytes]:
    return {
        path: store.read(path) or b""
        for path in store.list("state/")
        if not path.startswith(("state/lock", "state/format"))
    }


def test_nothing_differs_after_a_day_of_runs(harness: Harness) -> None:
    lived(harness)
    before = state(harness.store)
    assert set(before) == {
        f"state/functions/{ACCOUNT}.json", "state/journals.json", "state/quarantine.json", "state/waves.json",
    }  # fmt: skip
    assert rebuild(harness.journals) == []
    assert state(harness.store) == before


def delete_all(store: FolderStore) -> None:
    for path in state(store):
        store.delete(path)


def spoil(store: FolderStore) -> None:
    store.write("state/quarantine.json", b"{", JSON)
    store.write("state/journals.json", b"[]", JSON)
    store.write("state/functions/999999999999.json", b'{"format": 2, "functions": []}', JSON)
    store.write("state/open/20261120T000000Z-ffffff.json", b"{}\n", JSON)


@pytest.mark.parametrize("harm", [delete_all, spoil])
def test_a_rebuild_heals_what_is_lost_or_broken(
    harness: Harness, harm: Callable[[FolderStore], None]
) -> None:
    lived(harness)
    before = state(harness.store)
    harm(harness.store)
    done = rebuild(harness.journals)
    assert {one.done for one in done} <= {"written", "replaced", "deleted"}
    assert len(done) == 4
    assert state(harness.store) == before
    assert rebuild(harness.journals) == []


def test_a_restored_older_copy_is_healed_by_the_next_run_itself(harness: Harness, tmp_path: Path) -> None:
    """Yesterday's copy of state/ has an older lock, older records, and no marker of a run that was killed today."""
    harness.aws.add("first")
    run(harness, HOURS[0])
    shutil.copytree(harness.store.root / "state", tmp_path / "copy")
    second = harness.aws.add("second")
    run(harness, HOURS[1])
    harness.rollback([], [second], run_id="20261124T020000Z-back")
    third = harness.aws.add("third")
    harness.aws.after = lambda method, arn, n: (_ for _ in ()).throw(Killed) if method == "update_function_configuration" else None  # fmt: skip
    with contextlib.suppress(Killed):
        run(harness, HOURS[3])
    harness.aws.after = lambda method, arn, n: None
    shutil.rmtree(harness.store.root / "state")
    shutil.copytree(tmp_path / "copy", harness.store.root / "state")
    harness.resolve()
    assert open_runs(harness.store) == []
    assert [entry.function_arn for entry in quarantined(harness.store)] == [second]
    assert set(records(harness.store)) >= {second, third}
    assert rebuild(harness.journals) == []
    run(harness, HOURS[4])
    assert rebuild(harness.journals) == []


def test_a_clock_that_jumps_back_puts_nothing_out_of_order(harness: Harness) -> None:
    arn = harness.aws.add()
    run(harness, HOURS[5])
    harness.defender = settings(version=5)
    run(harness, HOURS[4])  # by its clock before the first
    assert [entry.intent.run_id for entry in entries_of(harness.journals, arn)] == [HOURS[5], HOURS[4]]
    row = harness.rollback([HOURS[5]], run_id=HOURS[6]).changes.iloc[0]
    assert (row["outcome"], HOURS[4] in row["detail"]) == ("dropped", True)
    (record,) = records(harness.store).values()
    assert (record.release, record.runs) == (harness.release, (HOURS[5], HOURS[4]))
    assert rebuild(harness.journals) == []


@pytest.mark.parametrize("moment", range(0, 60, 3))
def test_killed_anywhere_the_next_run_leaves_what_a_rebuild_gives(harness: Harness, moment: int) -> None:
    for number in range(3):
        harness.aws.add(f"f{number}")
    kill_after(harness, moment)
    with contextlib.suppress(Killed):
        run(harness, HOURS[0])
        harness.rollback([HOURS[0]], run_id=HOURS[1])
    restart(harness)
    harness.resolve()
    assert open_runs(harness.store) == []
    assert rebuild(harness.journals) == []
    run(harness, HOURS[2])
    assert rebuild(harness.journals) == []


def test_a_killed_runs_journal_gets_its_later_lines_in_the_later_term(harness: Harness) -> None:
    """Its process settles what was left open in the killed run's journal, and writes its own: one order for both."""
    arn = harness.aws.add()
    kill_after(harness, 9)
    with contextlib.suppress(Killed):
        run(harness, HOURS[0])
    restart(harness)
    assert open_runs(harness.store) == [HOURS[0]]
    harness.resolve()
    lines = map(json.loads, journal_of(harness.store.root, HOURS[0]).splitlines())
    assert [line["term"] for line in lines if line["event"] == "segment"] == [1, 2]
    assert records(harness.store)[arn].runs == (HOURS[0],)


def test_what_a_process_writes_after_it_lost_the_lock_is_no_state(harness: Harness) -> None:
    """A suspended process wakes up after another has settled and closed its journal."""
    harness.aws.add()
    late = harness.journals
    journal = late.open(HOURS[0])
    plan = harness.plan(HOURS[0])
    harness.apply(plan, HOURS[0])
    (entry,) = harness.entries(HOURS[0])
    late._order._term = replace(late._order._term, number=0, runs=(HOURS[0],))
    journal.record(
        [Quarantined(entry.intent.function_arn, "2026-11-24T06:00:00+00:00", HOURS[0], "too late")]
    )
    assert rebuild(harness.journals)[0] == Rebuilt(f"state/open/{HOURS[0]}.json", "deleted")
    assert quarantined(harness.store) == ()


def test_a_refused_entry_is_named_and_the_rest_is_rebuilt(harness: Harness) -> None:
    lived(harness)
    path = harness.store.list(f"journals/{HOURS[0]}/")[0]
    harness.store.write(path, b"{}\n", "")
    journals = harness.journals
    assert rebuild(journals)
    (problem,) = journals.refused
    assert path in problem
    assert records(harness.store)


@pytest.mark.parametrize(
    ("path", "number"),
    [("state/waves.json", 4), ("state/quarantine.json", 3), (f"state/functions/{ACCOUNT}.json", 3), ("state/journals.json", 2)],
)  # fmt: skip
def test_a_file_of_a_newer_release_is_refused_and_kept(harness: Harness, path: str, number: int) -> None:
    lived(harness)
    text = json.dumps({"format": number, "mark": [1, 1], "rings": []}).encode()
    harness.store.write(path, text, JSON)
    with pytest.raises(BadInput, match=rf"{Path(path).name}: format {number}, written by a newer release"):
        rebuild(harness.journals)
    assert harness.store.read(path) == text


def test_a_run_without_anything_to_say_writes_nothing(harness: Harness) -> None:
    before = sorted(harness.store.list(""))
    harness.journals.record(RUN, [])
    harness.apply()
    assert [path for path in sorted(harness.store.list("")) if path != LOCK] == before


def test_a_forged_account_or_function_costs_its_segment(harness: Harness) -> None:
    head = {"event": "segment", "term": 1, "number": 1}
    at = "2026-11-24T00:00:00+00:00"
    for number, line in enumerate(
        (
            {"event": "seen", "at": at, "account_id": "../../latest", "gone": [], "back": []},
            {"event": "retry", "at": at, "function_arn": "payments"},
            {"event": "segment", "at": at, "term": -1, "number": 1},
        )
    ):
        body = "".join(json.dumps(one) + "\n" for one in (head, line))
        harness.store.write(f"journals/20261124T00000{number}Z-ffffff/00001.jsonl", body.encode(), "")
    journals = harness.journals
    assert rebuild(journals) == []
    assert len(journals.refused) == 3


def past(harness: Harness, runs: int) -> None:
    """Let so many runs have been: each changed one of a few other functions, months ago."""
    root, model = harness.store.root, "20240101T000000Z-model"
    harness.aws.add("other0")
    harness.apply(run_id=model)
    (segment,) = [path for path in (root / "journals" / model).iterdir() if b'"intent"' in path.read_bytes()]
    (head, *lines) = segment.read_text().splitlines(keepends=True)
    newest = len(list((root / "journals").glob("term-*")))
    for number in range(1, runs + 1):
        run_id = f"2025{1 + number // 28:02}{1 + number % 28:02}T000000Z-{number:06x}"
        text = head + "".join(lines).replace(model, run_id).replace("other0", f"other{number % 5}")
        text = text.replace('"term":1', f'"term":{newest + number}')
        folder = root / "journals" / run_id
        folder.mkdir()
        (folder / "00001.jsonl").write_text(text)
        term = root / f"journals/term-{newest + number:08}.json"
        term.write_text(json.dumps({"format": 1, "runs": [run_id]}))
    harness.resolve()


def test_reads_do_not_grow_with_the_number_of_past_runs(tmp_path: Path) -> None:
    counts: list[dict[str, int]] = []
    for runs in (10, 200):
        harness = Harness(FakeLambda(), tmp_path / str(runs))
        past(harness, runs)
        arn = harness.aws.add()
        run(harness, HOURS[0])
        assert rebuild(harness.journals) == []
        assert len(harness.store.folders("journals/")) == runs + 2
        harness.store = store = Counted(harness.store.root)
        read = {}
        harness.aws.add("another")
        harness.resolve()
        run(harness, HOURS[1])
        read["run"] = store.reads
        assert len(entries_of(harness.journals, arn)) == 1
        read["explain"] = store.reads
        assert harness.rollback([], [arn], run_id=HOURS[2]).changes["outcome"].tolist() == ["rolled_back"]
        read["rollback"] = store.reads
        counts.append(read)
    assert counts[0] == counts[1]


def test_doctor_names_what_the_state_does_not_include(harness: Harness) -> None:
    lived(harness)
    settings: Any = SimpleNamespace(defender=harness.defender, rollout=harness.rollout)
    (closed,) = doctor.journals(harness.store, settings)
    assert (closed.level, closed.found) == ("ok", "all closed")
    harness.store.delete("state/journals.json")
    (older,) = doctor.journals(harness.store, settings)
    assert older.level == "warning"
    assert f"the state lacks what the journals of {HOURS[0]}" in older.found
