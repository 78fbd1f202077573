"""State files are folds over events: however these are cut, and wherever a fold is killed, the bytes are the same."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.change.delta import Delta
from remediator.change.records import Intent
from remediator.state import fold as fold_module
from remediator.state.drift import ProtectionCount
from remediator.state.failures import Failure
from remediator.state.fold import folded
from remediator.state.functions import (
    Ended,
    FunctionRecord,
    Retried,
    Seen,
    Taken,
    Tally,
    records,
    transitions,
)
from remediator.state.order import UNMARKED, Event, Mark, Order
from remediator.state.quarantine import Quarantined, Released, quarantined
from remediator.state.wave_states import WaveObserved, releases
from storage.folder import FolderStore
from storage.protocol import StoreFailed
from tests.unit.remediator.fake_lambda import ACCOUNT, arn_of

OTHER = "444455556666"
ARNS = [arn_of("a"), arn_of("b"), arn_of("c", OTHER)]
RUNS = ["20261124T034232Z-aaaaaa", "20261124T044232Z-bbbbbb", "20261123T034232Z-cccccc"]
DAYS = ["2026-06-01", "2026-07-01", "2026-11-24", "2026-11-25", "2027-03-01"]


class Memory(FolderStore):
    """A store in memory, whose writes fail after so many."""

    def __init__(self, files: dict[str, bytes] | None = None, writes: int = 10**9) -> None:
        super().__init__(Path("nowhere"))
        self.files = files if files is not None else {}
        self.writes = writes

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def list(self, prefix: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    def create(self, path: str, body: bytes, content_type: str = "") -> str | None:
        return None if path in self.files else self._put(path, body)

    def replace(self, path: str, body: bytes, tag: str) -> str | None:
        tagged = self.read_tagged(path)
        return self._put(path, body) if tagged and tagged.tag == tag else None

    def _put(self, path: str, body: bytes) -> str:
        self.writes -= 1
        if self.writes < 0:
            raise StoreFailed("killed")
        self.files[path] = body
        return "tag"


def fold(store: FolderStore, events: Sequence[Event], newest: int = 9) -> None:
    fold_module.fold(store, events, newest)


def intent(arn: str, run_id: str) -> Intent:
    delta = Delta(variables_added=("TW_POLICY",))
    account_id, name = arn.split(":")[4], arn.rsplit(":", maxsplit=1)[-1]
    return Intent("0.0", run_id, "protect", account_id, "us-east-1", name, arn, "python", "r", delta, (), "")


def quarantine(arn: str, reason: str = "slow") -> Quarantined:
    return Quarantined(arn, "2026-11-24T00:00:00+00:00", RUNS[0], reason)


def ended(arn: str, outcome: Any = "changed", release: str = "r1", wave: str = "w", **more: Any) -> Ended:
    action = "rollback" if outcome == "rolled_back" else "protect"
    return Ended(
        arn, action, outcome, "", "rev", "rev", wave, release, release and "digest", installs=True, **more
    )


# Few facts, each a value to choose: what is tried out is their order, and how it is cut.
FACTS: list[object] = [
    *(intent(arn, RUNS[0]) for arn in ARNS),
    *(
        ended(arn, how, release, wave)
        for arn in ARNS
        for how in ("changed", "failed", "rolled_back")
        for release, wave in (
            ("", "w"),
            ("r1", "w"),
            ("r2", "v"),
            ("r3", ""),
            ("r4", "w"),
            ("r5", "w"),
            ("r6", "v"),
        )
    ),
    *(fact for arn in ARNS for fact in (Retried(arn), quarantine(arn), Released(quarantine(arn)))),
    quarantine(ARNS[0], "another"),
    replace(quarantine(ARNS[1]), regressed=True, release="r1", wave="w"),
    replace(quarantine(ARNS[2]), regressed=True, release="r6", wave="v"),
    Seen(ACCOUNT, tuple(ARNS[:2])),
    Seen(ACCOUNT, (ARNS[0],)),
    Seen(ACCOUNT, (), tuple(ARNS[:2])),
    Seen(OTHER, (ARNS[2],)),
    Taken(ARNS[0], "2026-01-01T00:00:00.000+00:00", ProtectionCount(3, RUNS[1], "2026-01-01"), None),
    *(WaveObserved(release, "w", 2, "", "", 1) for release in ("", "r1", "r2", "r5", "r7", "r8")),
    WaveObserved("", "w", 0, "", "", 0, Tally(5, 2)),
]
facts = st.sampled_from(FACTS)
segments = st.lists(
    st.tuples(st.sampled_from(DAYS), st.sampled_from(RUNS), st.lists(facts, min_size=1, max_size=4)),
    min_size=1,
    max_size=14,
)


def events_of(drawn: Sequence[tuple[str, str, Sequence[object]]]) -> list[list[Event]]:
    """Return the events of each segment; every few segments another process has taken over."""
    return [
        [
            Event(Mark(number // 4 + 1, number), f"{day}T12:00:00.000+00:00", run_id, fact)
            for fact in of_segment
        ]
        for number, (day, run_id, of_segment) in enumerate(drawn, start=1)
    ]


folds = st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(0, 3), max_size=2)), max_size=14)


@given(drawn=segments, cuts=folds)
@settings(deadline=None, max_examples=150)
def test_any_cut_and_any_kill_give_the_same_bytes(drawn: Any, cuts: list[tuple[int, list[int]]]) -> None:
    """cuts: of how many segments each fold is, and after how many writes it is killed at first, each time."""
    of_segments = events_of(drawn)
    expected = folded(event for segment in of_segments for event in segment)
    store = Memory()
    for size, kills in [*cuts, (len(of_segments), [])]:
        batch = [event for segment in of_segments[:size] for event in segment]
        for writes in kills:
            with suppress(StoreFailed):
                fold(Memory(store.files, writes), batch)
        fold(store, batch)
        of_segments = of_segments[size:]
    assert store.files == expected


def event(
    number: int, fact: object, at: str = "2026-11-24T12:00:00.000+00:00", run_id: str = RUNS[0]
) -> Event:
    return Event(Mark(1, number), at, run_id, fact)


def test_the_order_is_that_of_marks_whatever_the_clock_says() -> None:
    store = Memory()
    late, early = "2026-11-24T12:00:00.000+00:00", "2026-11-24T11:00:00.000+00:00"
    fold(store, [event(2, ended(ARNS[0], "failed"), early), event(1, ended(ARNS[0]), late)])
    record = records(store)[ARNS[0]]
    assert (record.ended, record.at, record.failure is not None) == ("failed", early, True)


def test_a_segment_is_counted_once() -> None:
    store = Memory()
    for _ in range(3):
        fold(store, [event(1, ended(ARNS[0]))])
    (record,) = records(store).values()
    assert record.protections == ProtectionCount(1, RUNS[0], "2026-11-24T12:00:00.000+00:00")
    assert releases(store)[0].waves[0].changed == 1


def swept(
    known: Iterable[FunctionRecord],
    seen: Collection[str] = (),
    read: Collection[tuple[str, str]] = (),
    account_ids: Collection[str] = (ACCOUNT, OTHER),
    at: str = "2026-11-24T12:00:00+00:00",
) -> list[Seen]:
    """What a sweep notes that has read some units, and has seen some functions."""
    return transitions(list(known), seen, read, account_ids, at)


def test_a_function_that_is_back_begins_anew() -> None:
    store = Memory()
    arn = ARNS[0]
    fold(
        store,
        [event(1, intent(arn, RUNS[0])), event(2, ended(arn, "changed")), event(2, ended(arn, "failed"))],
    )
    assert releases(store)[0].waves[0].failed == 1
    known = records(store)
    (gone,) = swept(known.values(), read={(ACCOUNT, "us-east-1")})
    assert gone == Seen(ACCOUNT, (arn,), ())
    fold(store, [event(3, gone)])
    assert records(store)[arn].gone == "2026-11-24"
    assert records(store)[arn].protections, "it may only have been moved out of sight"
    assert swept(records(store).values(), read={(ACCOUNT, "us-east-1")}) == []
    (back,) = swept(records(store).values(), seen={arn})
    fold(store, [event(4, back)])
    assert records(store)[arn] == FunctionRecord(arn, runs=(RUNS[0],))
    assert releases(store)[0].waves == ()


def test_a_unit_that_was_not_read_says_nothing_about_its_functions() -> None:
    record = FunctionRecord(ARNS[0])
    assert swept([record], read={(ACCOUNT, "eu-west-1"), (OTHER, "us-east-1")}) == []


def test_the_functions_of_an_account_that_has_left_are_gone_and_forgotten_in_time() -> None:
    store, arn = Memory(), ARNS[0]
    fold(store, [event(1, intent(arn, RUNS[0])), event(1, quarantine(arn))])
    for number, at in enumerate(("2026-11-24T12:00:00+00:00", "2027-02-23T12:00:00+00:00"), start=2):
        (left,) = swept(records(store).values(), account_ids=[OTHER], at=at)
        assert left == Seen(ACCOUNT, (arn,), ())
        fold(store, [event(number, left, at)])
        assert swept(records(store).values(), account_ids=[OTHER], at=at) == []
    assert (records(store), quarantined(store)) == ({}, ())


def test_what_is_gone_for_ninety_days_is_forgotten_when_its_account_is_folded_next() -> None:
    store, arn = Memory(), ARNS[0]
    gone = [event(1, intent(arn, RUNS[0])), event(1, quarantine(arn)), event(2, Seen(ACCOUNT, (arn,)))]
    fold(store, gone)
    for number, (day, known) in enumerate((("2027-02-22", True), ("2027-02-23", False)), start=3):
        at = f"{day}T12:00:00.000+00:00"
        elsewhere = [event(number, intent(ARNS[1], RUNS[0]), at), event(number, quarantine(ARNS[1]), at)]
        fold(store, elsewhere)
        assert (arn in records(store)) is known
        assert (arn in {entry.function_arn for entry in quarantined(store)}) is known
    assert ARNS[1] in records(store)


def test_a_function_in_quarantine_that_is_back_stays_there() -> None:
    store, arn = Memory(), ARNS[0]
    seen = [Seen(ACCOUNT, (arn,)), Seen(ACCOUNT, (), (arn,))]
    fold(store, [event(1, quarantine(arn)), *(event(2 + n, one) for n, one in enumerate(seen))])
    assert quarantined(store) == (quarantine(arn),)


def test_only_the_entry_that_was_released_goes() -> None:
    store, arn = Memory(), ARNS[0]
    fold(store, [event(1, quarantine(arn, "slow")), event(1, Released(quarantine(arn, "another")))])
    assert quarantined(store) == (quarantine(arn, "slow"),)
    fold(store, [event(2, Released(quarantine(arn, "slow")))])
    assert quarantined(store) == ()


def test_a_broken_file_costs_no_other_its_fold() -> None:
    store, arn = Memory({"state/quarantine.json": b"{"}), ARNS[0]
    with pytest.raises(Exception, match=r"quarantine\.json.*state rebuild"):
        fold(store, [event(1, intent(arn, RUNS[0])), event(1, quarantine(arn))])
    assert records(store)[arn].runs == (RUNS[0],)


def test_what_release_0_1_did_gives_no_failure_and_no_count_in_a_wave() -> None:
    store, arn = Memory(), ARNS[0]
    before = [
        Event(UNMARKED, "2026-11-24T12:00:00.000+00:00", RUNS[0], ended(arn, how, ""))
        for how in ("changed", "failed")
    ]
    fold(store, before)
    record = records(store)[arn]
    assert (record.failure, record.ended, record.wave) == (None, "", "")
    assert record.protections
    failure = Failure("kms", "protect", "r", "c", RUNS[0], "2026-01-01T00:00:00+00:00")
    fold(store, [event(1, Taken(arn, failure.at, None, failure))])
    assert (records(store)[arn].protections, records(store)[arn].failure) == (None, failure)


def test_terms_only_grow_whatever_becomes_of_the_state(tmp_path: Path) -> None:
    """A state folder that is restored or deleted does not let a mark be given twice."""
    store = FolderStore(tmp_path)
    marks = []
    for _ in range(3):
        order = Order(store)
        marks += [order.next(RUNS[0]), order.next(RUNS[0]), order.next(RUNS[1])]
        for path in store.list("state/"):
            store.delete(path)
    assert marks == [
        Mark(1, 1),
        Mark(1, 2),
        Mark(2, 1),
        Mark(3, 1),
        Mark(3, 2),
        Mark(4, 1),
        Mark(5, 1),
        Mark(5, 2),
        Mark(6, 1),
    ]


def test_a_process_that_writes_on_two_journals_has_one_term(tmp_path: Path) -> None:
    order = Order(FolderStore(tmp_path))
    for run_id in RUNS[:2]:
        order.add(run_id)
    assert [order.next(run_id) for run_id in (*RUNS[:2], RUNS[0])] == [Mark(1, 1), Mark(1, 2), Mark(1, 3)]
    assert b"aaaaaa" in (FolderStore(tmp_path).read("journals/term-00000001.json") or b"")
