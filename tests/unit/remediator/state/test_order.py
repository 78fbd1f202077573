"""Terms: what comes later is above, whatever was lost; and no fold goes past a segment that is being written."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.change.records import OutcomeRecord
from remediator.journal.journal import Journal, open_runs
from remediator.journal.journals import Journals
from remediator.journal.rebuild import rebuild
from remediator.state.functions import Retried, records
from remediator.state.order import Mark, Order
from remediator.state.quarantine import Quarantined, quarantined
from scanner.core.errors import BadInput
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.unit.remediator.fake_lambda import arn_of
from tests.unit.remediator.harness import RUN, settings
from tests.unit.remediator.state.test_fold import intent, quarantine

LATER, LAST = "20261124T044232Z-bbbbbb", "20261124T054232Z-cccccc"


def recorded(store: FolderStore, name: str, run_id: str) -> Quarantined:
    """Let a run put a function in quarantine."""
    entry = replace(quarantine(arn_of(name)), run_id=run_id)
    Journals(store, settings()).record(run_id, [entry])
    return entry


def expire(store: FolderStore, run_id: str, term: int) -> None:
    """Delete what a lifecycle rule of the bucket would: the journals of a time, with their terms."""
    for path in (*store.list(f"journals/{run_id}/"), f"journals/term-{term:08}.json"):
        store.delete(path)


def test_terms_go_on_after_a_rebuild_from_journals_whose_oldest_have_expired(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    recorded(store, "a", RUN)
    kept = recorded(store, "b", LATER)
    expire(store, RUN, 1)
    journals = Journals(store, settings())
    rebuild(journals)
    assert quarantined(store) == (kept,)
    (problem,) = journals.refused
    assert "term-00000001.json" in problem
    assert "has expired or was deleted" in problem
    new = recorded(store, "c", LAST)
    assert quarantined(store) == (kept, new)
    assert rebuild(Journals(store, settings())) == []


def test_terms_go_on_where_all_state_is_lost_and_the_oldest_have_expired(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    recorded(store, "a", RUN)
    kept = recorded(store, "b", LATER)
    expire(store, RUN, 1)
    for path in store.list("state/"):
        store.delete(path)
    new = recorded(store, "c", LAST)
    assert quarantined(store) == (kept, new)
    assert Order(store).next(LAST) == Mark(4, 1)


def test_a_state_file_that_is_newer_than_all_journals_is_no_reason_to_forget_what_comes(
    tmp_path: Path,
) -> None:
    """As where journals/ was restored from an older copy than state/, or somebody has edited the mark."""
    store = FolderStore(tmp_path)
    entry = recorded(store, "a", RUN)
    path = tmp_path / "state" / "quarantine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mark": [999, 1]}))
    with pytest.raises(BadInput, match=r"quarantine\.json.*state rebuild"):
        recorded(store, "b", LATER)
    rebuild(Journals(store, settings()))
    assert [one.function_arn for one in quarantined(store)] == [entry.function_arn, arn_of("b")]


def test_a_lost_segment_lets_no_id_be_given_twice(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for _ in range(3):
        recorded(store, "a", RUN)
    store.delete(f"journals/{RUN}/00001.jsonl")
    assert Journals(store, settings()).open(RUN).prefix == "3"


class Overtaken(FolderStore):
    """Another run takes the lock over right before the quarantine is written."""

    def create(self, path: str, body: bytes, content_type: str = "") -> str | None:
        if path == "state/quarantine.json":
            recorded(FolderStore(self.root), "b", LATER)
        return super().create(path, body, content_type)


def test_a_run_that_has_lost_its_lock_puts_no_older_file_over_that_of_the_next(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"quarantine\.json.*another run has taken the lock over"):
        recorded(Overtaken(tmp_path), "a", RUN)
    store = FolderStore(tmp_path)
    assert [one.function_arn for one in quarantined(store)] == [arn_of("a"), arn_of("b")]
    assert rebuild(Journals(store, settings())) == []


class Slow(FolderStore):
    """One segment takes long to write, and fails in the end where `fails` says so, although it is there by then."""

    fails = False

    def __init__(self, root: Path, path: str) -> None:
        super().__init__(root)
        self._path = path
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def create(self, path: str, body: bytes, content_type: str = "") -> str | None:
        if path == self._path:
            self.begun.set()
            self.goes_on.wait(5)
            tag = super().create(path, body, content_type)
            if self.fails:
                raise StoreFailed("no answer")
            return tag
        return super().create(path, body, content_type)


def test_an_outcome_that_is_being_written_at_the_end_of_a_run_is_counted_by_the_next(tmp_path: Path) -> None:
    store = Slow(tmp_path, f"journals/{RUN}/00002.jsonl")
    journals = Journals(store, settings())
    journal = journals.open(RUN)
    journal.record_intents([intent(arn_of("a"), RUN)])
    done = OutcomeRecord("0.0", "changed", "", 1, left=False, revision_id="")
    late = threading.Thread(target=journal.record_outcomes, args=([done],))
    late.start()
    assert store.begun.wait(5)
    ends(journals, journal)
    store.goes_on.set()
    late.join()
    Journals(store, settings()).fold()
    assert records(store)[arn_of("a")].at, "its outcome is counted"
    assert rebuild(Journals(store, settings())) == []


@pytest.mark.parametrize("fails", [False, True])
def test_an_intent_that_is_being_written_at_the_end_of_a_run_is_known_to_the_next(
    tmp_path: Path, fails: bool
) -> None:
    store = Slow(tmp_path, f"journals/{RUN}/00001.jsonl")
    store.fails = fails
    journals = Journals(store, settings())
    journal = journals.open(RUN)
    late = threading.Thread(target=write, args=(journal,))
    late.start()
    assert store.begun.wait(5)
    ends(journals, journal)
    store.goes_on.set()
    late.join()
    assert open_runs(store) == [RUN]
    Journals(store, settings()).fold()
    assert records(store)[arn_of("a")].runs == (RUN,)
    assert open_runs(store) == [RUN]
    assert rebuild(Journals(store, settings())) == []


def write(journal: Journal) -> None:
    try:
        journal.record_intents([intent(arn_of("a"), RUN)])
    except StoreFailed:
        return


def ends(journals: Journals, journal: Journal) -> None:
    """End a run as its time is up: what came of its changes is folded, and its journal closed."""
    journal.record([Retried(arn_of("b"))])
    journals.fold()
    journal.close()
