"""What runs have learnt is counted from their journals: by function, once, and whenever a run is killed."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remediator.execution.apply import ApplyResult
from remediator.journal.upgrade import upgrade
from remediator.settings import WaveSettings
from remediator.state.functions import records
from remediator.state.wave_states import WaveState, states
from scanner.core.errors import BadInput
from storage.protocol import JSON
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, Killed, arn_of, refusal
from tests.unit.remediator.harness import RUN, Harness, settings
from tests.unit.remediator.killing import kill_after, restart

pytestmark = pytest.mark.usefixtures("short_waits")
PILOT = WaveSettings(name="pilot", accounts=(ACCOUNT,), soak_hours=1)


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path)


def refuse_some(harness: Harness, *endings: str) -> None:
    """Let AWS refuse updates of the functions whose names end so."""

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and arn.endswith(endings):
            raise refusal("InvalidParameterValueException", "Something")

    harness.aws.before = refuse


def run(harness: Harness, run_id: str = RUN) -> ApplyResult:
    """Change everything as one wave."""
    plan = harness.plan(run_id)
    return harness.apply(
        replace(plan, changes=tuple(replace(change, wave="pilot") for change in plan.changes)), run_id
    )


def wave(harness: Harness) -> WaveState:
    (state,) = states(harness.store, harness.release, [PILOT])
    return state


def test_a_function_counts_once_however_often_it_fails(harness: Harness) -> None:
    for number in range(6):
        harness.aws.add(f"f{number}")
    refuse_some(harness, "f0")
    for hour in range(10):
        run(harness, f"20261124T{hour:02}4232Z-hourly")
    assert (wave(harness).changed, wave(harness).failed) == (5, 1)
    refuse_some(harness, "none")
    run(harness, "20261124T124232Z-fixed")
    assert (wave(harness).changed, wave(harness).failed) == (6, 0)


def test_a_function_that_is_protected_again_is_one_function(harness: Harness) -> None:
    arn = harness.aws.add()
    for hour in range(3):
        run(harness, f"20261124T{hour:02}4232Z-hourly")
        harness.aws.owner_edits(arn, Layers=[], Environment={"Variables": {}})
    assert wave(harness).changed == 1
    (record,) = records(harness.store).values()
    assert record.protections is not None
    assert record.protections.times == 3


def counted(harness: Harness) -> dict[str, Any]:
    """Return what is counted, without the moments."""
    known = records(harness.store)
    return {
        arn: (record.ended, record.wave, record.release, bool(record.failure), bool(record.protections))
        for arn, record in known.items()
        if record.at
    } | {"wave": (wave(harness).changed, wave(harness).failed)}


@pytest.mark.parametrize("also_the_next", [False, True])
def test_killed_at_any_moment_nothing_differs(tmp_path: Path, also_the_next: bool) -> None:
    """A run is killed at each of its moments; the next one counts what the journal says, and is killed itself."""

    def begin(folder: str) -> Harness:
        harness = Harness(FakeLambda(), tmp_path / folder)
        for number in range(4):
            harness.aws.add(f"f{number}")
            if number < 2:
                harness.aws.fail_next(arn_of(f"f{number}"))
        return harness

    whole = begin("whole")
    run(whole)
    expected = counted(whole)
    assert expected["wave"] == (2, 2)
    for moment in range(500):
        harness = begin(str(moment))
        countdown = kill_after(harness, moment)
        with contextlib.suppress(Killed):
            run(harness)
        restart(harness)
        if countdown.left >= 0:
            break
        if also_the_next:
            kill_after(harness, moment % 7)
            with contextlib.suppress(Killed):
                harness.resolve()
            restart(harness)
        harness.resolve()
        journal = {
            entry.intent.function_arn: entry.outcome.outcome
            for entry in harness.journals.history()
            if entry.outcome is not None
        }
        found = counted(harness)
        assert found.pop("wave") == tuple(
            list(journal.values()).count(outcome) for outcome in ("changed", "failed")
        )
        assert found == {arn: expected[arn] for arn in found}, moment
        assert set(found) == {arn for arn, outcome in journal.items() if outcome in {"changed", "failed"}}
    else:
        raise AssertionError("no run came to its end")


def test_a_killed_run_counts_for_the_release_that_it_ran_under(harness: Harness) -> None:
    harness.aws.add()
    before = harness.release
    kill_after(harness, 500)
    store = harness.store
    write = store.write

    def killed(path: str, body: bytes, content_type: str) -> None:
        if path.startswith("state/functions/"):
            raise Killed
        write(path, body, content_type)

    store.write = killed  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        run(harness)
    restart(harness)
    harness.defender = settings(version=5)
    harness.resolve()
    assert wave(harness).changed == 0
    (state,) = states(harness.store, before, [PILOT])
    assert state.changed == 1


def test_the_failure_of_a_function_that_is_left_with_the_change_waits_too(harness: Harness) -> None:
    arn = harness.aws.add()
    harness.aws.fail_next(arn)
    applied = run(harness)
    assert applied.changes["outcome"].tolist() == ["failed"]
    (record,) = records(harness.store).values()
    assert record.failure is not None
    assert record.failure.is_of(harness.aws.functions[arn]["RevisionId"], "digest")
    assert not record.failure.is_of("another", "digest")


def test_what_release_0_1_had_learnt_is_taken_over(harness: Harness) -> None:
    protected, refused = arn_of("protected"), arn_of("refused")
    at = "2026-11-24T20:35:27+00:00"
    count = {"function_arn": protected, "times": 3, "run_id": RUN, "at": at}
    failure = {
        "function_arn": refused, "detail": "kms: no", "revision_id": "r", "layer": "l", "config_digest": "c",
        "run_id": RUN, "at": at,
    }  # fmt: skip
    harness.store.write(f"state/drift/{ACCOUNT}.json", json.dumps([count]).encode(), JSON)
    harness.store.write("state/failures.json", json.dumps([failure]).encode(), JSON)
    upgrade(harness.journals, RUN)
    known = records(harness.store, [ACCOUNT])
    assert known[protected].protections is not None
    assert known[protected].protections.given_up
    assert known[refused].failure is not None
    assert (known[refused].failure.detail, known[refused].failure.times) == ("kms: no", 1)


def test_a_newer_format_is_refused(harness: Harness) -> None:
    harness.store.write(f"state/functions/{ACCOUNT}.json", b'{"format": 3, "x": []}', JSON)
    with pytest.raises(BadInput, match=f"{ACCOUNT}.json: format 3, written by a newer release"):
        records(harness.store)
