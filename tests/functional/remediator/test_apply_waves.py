"""Waves: the next one goes only after the one before it has changed all, soaked, and is seen to be well."""

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from remediator.execution.apply import ApplyResult
from remediator.journal.upgrade import upgrade
from remediator.plan.held_back import hold_back
from remediator.plan.plan import Plan
from remediator.rollout.comparison import Figures
from remediator.rollout.health import observe_health
from remediator.rollout.wave_progress import WaveProgress, observe_waves
from remediator.rollout.waves import (
    WaveObservation,
    WaveStatus,
    advance,
    current_wave,
    wave_statuses,
)
from remediator.settings import WaveSettings
from remediator.state.functions import records
from remediator.state.wave_states import WaveState, releases
from scanner.core.errors import BadInput
from scanner.core.settings import Tag
from scanner.settings import DefenderSettings, SweepSettings
from storage.folder import FolderStore
from storage.protocol import JSON, StoreFailed
from tests.clocks import MovedClock
from tests.unit.remediator.fake_lambda import FakeLambda, refusal
from tests.unit.remediator.harness import WRAPPER, Harness, settings, wait_briefly

PILOT, EARLY, OTHER = "111111111111", "222222222222", "333333333333"
SWEEP = SweepSettings(unit_timeout_sec=20)
WELL = (Figures(5_000, 5, 0, 500_000), Figures(400, 0, 0, 44_000))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TAG = Tag(key="ring", value="0")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_briefly(monkeypatch)


def organization(tmp_path: Path, waves: list[dict[str, Any]], **rollout: Any) -> Harness:
    harness = Harness(FakeLambda(), tmp_path, waves=waves, **rollout)
    for account in (PILOT, EARLY, OTHER):
        harness.aws.add(f"f{account[0]}", account)
    return harness


TWO = [
    {"name": "pilot", "accounts": [PILOT], "soak_hours": 24},
    {"name": "early", "ous": ["ou-root-bbbbbbbb"], "soak_hours": 24},
]


class Hours:
    """Runs, one after the other, at a time of the test's own."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.clock = harness.aws.clock = MovedClock()
        self.unread: list[tuple[str, str, str]] = []
        self.guards: Mapping[str, str] = {}

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        accounts = pd.DataFrame(
            [(PILOT, "r-root"), (EARLY, "r-root ou-root-bbbbbbbb"), (OTHER, "r-root ou-root-cccccccc")],
            columns=["account_id", "ou_ids"],
        )
        units = pd.DataFrame(self.unread, columns=["account_id", "region", "outcome"])
        return accounts, units

    def see(self, after: timedelta) -> WaveProgress:
        harness, self.clock.ahead = self.harness, after
        now = self.clock.now()
        accounts, units = self.frames()
        assessed = harness.assessed()
        aws: Any = harness.aws
        digest = {"partition": "aws", "config_digest": "digest", "own_function": None}
        self.guards = hold_back(assessed, known=records(harness.store), now=now, **digest).guards
        health = observe_health(
            aws, harness.rollout.health, SWEEP, journals=harness.journals, assessed=assessed, now=now
        )
        return observe_waves(
            assessed, accounts, units, harness.rollout.waves, aws, SWEEP,
            store=harness.store, release=harness.release, health=health, held=self.guards.keys(), now=now,
        )  # fmt: skip

    def plan(self, waves: WaveProgress) -> Plan:
        harness = self.harness
        harness.assessed, was = lambda: waves.marked(was()), harness.assessed  # type: ignore[method-assign]
        try:
            return harness.plan(f"{self.clock.now():%Y%m%dT%H%M%SZ}-hourly", guards=self.guards)
        finally:
            harness.assessed = was  # type: ignore[method-assign]

    def run(self, hours: float) -> tuple[dict[str, int], tuple[WaveStatus, ...], ApplyResult]:
        """Run once, so many hours from now: what was changed by account, and the status of the waves then."""
        waves = self.see(timedelta(hours=hours))
        plan = self.plan(waves)
        applied = self.harness.apply(plan, plan.run_id)
        kept = waves.after(plan.changes, applied.changes, stopped=False).keep(
            self.harness.journals, plan.run_id
        )
        done = applied.changes[applied.changes["outcome"] == "changed"]
        return done["account_id"].value_counts().to_dict(), kept.status, applied


def stages(status: tuple[WaveStatus, ...]) -> list[str]:
    return [one.stage for one in status]


def test_one_wave_after_the_other_and_then_the_rest(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    hours = Hours(harness)
    harness.aws.figures = dict.fromkeys(("f1", "f2", "f3"), WELL)

    changed, status, _ = hours.run(0.5)
    assert changed == {PILOT: 1}
    assert stages(status) == ["soaking", "waiting"]
    assert hours.plan(hours.see(timedelta(hours=1))).held_back == {"wave": 2}

    changed, status, _ = hours.run(23)
    assert changed == {}
    assert status[0].says.startswith("soaks until")

    changed, status, _ = hours.run(25)
    assert changed == {EARLY: 1}
    assert stages(status) == ["passed", "soaking"]

    hours.run(26)
    changed, status, _ = hours.run(50)
    assert changed == {OTHER: 1}
    assert stages(status) == ["passed", "passed"]
    assert [(one.changed, one.failed) for one in status] == [(1, 0), (1, 0)]


def test_new_functions_of_a_wave_that_has_passed_do_not_wait(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    harness.aws.figures = dict.fromkeys(("f1", "f2", "f3"), WELL)
    hours = Hours(harness)
    hours.run(0.5)
    hours.run(2)
    hours.run(25)
    harness.aws.add("new", PILOT)
    assert hours.run(26)[0] == {PILOT: 1}


def test_a_wave_that_nobody_calls_is_not_well(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    hours.run(0.5)
    hours.run(2)
    changed, status, _ = hours.run(25)
    assert changed == {}
    assert status[0].stage == "held"
    assert "0 of its functions were seen healthy, fewer than 1" in status[0].says


def test_metrics_that_cannot_be_read_open_nothing(tmp_path: Path) -> None:
    harness = organization(tmp_path, [TWO[0] | {"soak_hours": 10}])
    harness.aws.figures = {"f1": WELL}
    hours = Hours(harness)
    hours.run(0.5)
    hours.run(2)

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "get_metric_data":
            raise refusal("AccessDenied", "no", "GetMetricData")

    harness.aws.before = refuse
    (status,) = hours.see(timedelta(hours=12)).status
    assert status.stage == "held"
    assert status.says == "the metrics of 1 of its functions could not be read"
    harness.aws.before = lambda method, arn, n: None
    (status,) = hours.see(timedelta(hours=12)).status
    assert status.stage == "passed"


def test_what_was_not_read_may_hold_functions_of_the_wave(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    hours.unread = [(PILOT, "eu-west-1", "throttled"), (OTHER, "eu-west-1", "throttled")]
    _, status, _ = hours.run(0.5)
    assert (status[0].stage, status[0].says) == (
        "open", "1 of its account-regions could not be read"
    )  # fmt: skip


def test_a_wave_without_functions_is_a_mistake_and_opens_nothing(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, [{"name": "pilot", "accounts": ["999999999999"], "soak_hours": 0}]))
    changed, status, _ = hours.run(0.5)
    assert changed == {}
    assert status[0].says == "no function of it was seen; fix rollout.waves"


def test_a_wave_larger_than_a_run_soaks_only_once_all_of_it_is_changed(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO, max_changes_per_account=2)
    for number in range(3):
        harness.aws.add(f"more{number}", PILOT)
    hours = Hours(harness)
    changed, status, _ = hours.run(0.5)
    assert changed == {PILOT: 2}
    assert (status[0].stage, status[0].says) == ("open", "4 of its functions are to be changed")
    assert stages(hours.run(1.5)[1]) == ["soaking", "waiting"]


def test_failures_keep_the_next_wave_shut(tmp_path: Path) -> None:
    harness = organization(tmp_path, [TWO[0] | {"max_failed_pct": 10}])
    harness.aws.add("broken", PILOT)
    harness.aws.figures = {"f1": WELL}

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "update_function_configuration" and arn.endswith("broken"):
            raise refusal(
                "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes"
            )

    harness.aws.before = refuse
    hours = Hours(harness)
    hours.run(0.5)
    changed, status, _ = hours.run(25)
    assert OTHER not in changed
    assert status[0].says.endswith("functions failed, more than 10 %")


def test_a_function_that_can_not_be_changed_does_not_keep_its_wave_open(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    harness.aws.add("broken", PILOT, State="Failed")
    hours = Hours(harness)
    changed, status, _ = hours.run(0)
    assert (changed, status[0].stage) == ({PILOT: 1}, "open")
    changed, status, _ = hours.run(0.5)
    assert (changed, status[0].stage, status[0].eligible) == ({}, "soaking", 0)


def test_a_wave_by_tag_and_tags_that_cannot_be_read(tmp_path: Path) -> None:
    harness = organization(tmp_path, [{"name": "ring0", "tag": dict(TAG), "soak_hours": 1}])
    (arn,) = [arn for arn in harness.aws.functions if arn.endswith(":f3")]
    harness.aws.tags[arn][TAG.key] = TAG.value
    hours = Hours(harness)
    assert hours.plan(hours.see(timedelta(hours=0.5))).held_back == {"wave": 2}

    def refuse(method: str, arn: str, n: int) -> None:
        if method == "get_resources" and OTHER in arn:
            raise refusal("AccessDeniedException", "no", "GetResources")

    harness.aws.before = refuse
    waves = hours.see(timedelta(hours=0.5))
    assert hours.plan(waves).held_back == {"wave": 3}
    assert waves.status[0].says == "1 of its account-regions could not be read"
    harness.aws.before = lambda method, arn, n: None
    assert hours.run(0.5)[0] == {OTHER: 1}


def test_without_waves_all_go_at_once_and_nothing_is_kept(tmp_path: Path) -> None:
    harness = organization(tmp_path, [])
    changed, status, _ = Hours(harness).run(0.5)
    assert changed == {PILOT: 1, EARLY: 1, OTHER: 1}
    assert status == ()
    assert harness.store.read("state/waves.json") is None


def test_a_broken_state_is_reported_in_one_line(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    hours.harness.store.write("state/waves.json", b"{", "application/json")
    with pytest.raises(BadInput, match=r"waves\.json: "):
        hours.see(timedelta(0))


def passed(tmp_path: Path) -> Hours:
    """Let both waves have passed with version 4, and all functions carry it."""
    harness = organization(tmp_path, TWO)
    harness.aws.figures = dict.fromkeys(("f1", "f2", "f3"), WELL)
    hours = Hours(harness)
    for hour in (-52, -29, -27, -5, -2):
        hours.run(hour)
    assert stages(hours.run(-1)[1]) == ["passed", "passed"]
    return hours


@pytest.mark.parametrize(
    "changed_to",
    [
        {"layers": settings(version=5).layers},
        {"environment": {"TW_POLICY": SecretStr("rotated")}},
        {"wrapper": "/opt/defender/wrapper", "previous": {"wrappers": [WRAPPER]}},
    ],
)
def test_another_release_begins_with_the_first_wave_again(tmp_path: Path, changed_to: dict[str, Any]) -> None:
    hours = passed(tmp_path)
    harness = hours.harness
    harness.defender = DefenderSettings(**{**dict(harness.defender), **changed_to})
    changed, status, _ = hours.run(0)
    assert (changed, stages(status)) == ({PILOT: 1}, ["soaking", "waiting"])
    assert [one.changed for one in status] == [1, 0]
    hours.run(23)
    assert hours.run(25)[0] == {EARLY: 1}


def test_a_release_that_returns_finds_its_waves_as_they_were(tmp_path: Path) -> None:
    hours = passed(tmp_path)
    harness = hours.harness
    harness.defender = settings(version=5)
    hours.run(0)
    harness.defender = settings(version=4)
    changed, status, _ = hours.run(1)
    assert (changed, stages(status)) == ({PILOT: 1}, ["passed", "passed"])
    harness.defender = settings(version=5)
    assert stages(hours.run(2)[1]) == ["soaking", "waiting"]


def test_the_last_releases_are_kept_and_those_before_forgotten(tmp_path: Path) -> None:
    hours = passed(tmp_path)
    for version in range(5, 12):
        hours.harness.defender = settings(version=version)
        hours.run(version - 5)
    kept = [one.release for one in releases(hours.harness.store)]
    assert len(kept) == 5
    assert kept[0] == hours.harness.release


def test_what_release_0_1_left_is_of_the_release_that_is_configured_at_the_upgrade(tmp_path: Path) -> None:
    hours = passed(tmp_path / "then")
    document = json.loads(hours.harness.store.read("state/waves.json") or b"")
    assert document["format"] == 3
    names = ("name", "changed", "failed", "regressed", "healthy", "done", "passed")
    (release,) = document["releases"]
    former = [{name: state[name] for name in names} for state in release["waves"]]
    hours.harness.store = store = FolderStore(tmp_path / "now")
    store.write("state/waves.json", json.dumps(former).encode(), JSON)
    upgrade(hours.harness.journals, "20261125T000000Z-upgrade")
    assert stages(hours.see(timedelta(hours=-1)).status) == ["passed", "passed"]
    status = hours.run(0)[1]
    assert stages(status) == ["passed", "passed"]
    assert [one.changed for one in status] == [state["changed"] for state in former]
    hours.harness.defender = settings(version=5)
    assert stages(hours.run(1)[1]) == ["soaking", "waiting"]


def test_states_of_a_newer_release_are_refused(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    hours.harness.store.write("state/waves.json", b'{"format": 99, "rings": []}', JSON)
    with pytest.raises(BadInput, match=r"waves\.json: format 99, written by a newer release"):
        hours.see(timedelta(0))


def test_changes_of_a_killed_run_count_too(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    hours = Hours(harness)
    plan = hours.plan(hours.see(timedelta(0)))
    settled = harness.store.create

    def killed(path: str, body: bytes, content_type: str = JSON) -> str | None:
        if b'"outcome"' in body:
            raise StoreFailed("the machine is gone")
        return settled(path, body, content_type)

    harness.store.create = killed  # type: ignore[method-assign]
    harness.apply(plan, plan.run_id)
    harness.store.create = settled  # type: ignore[method-assign]
    assert harness.resolve().changes["outcome"].tolist() == ["changed"]
    assert hours.see(timedelta(0)).status[0].changed == 1
    (counted,) = records(harness.store, [PILOT]).values()
    assert counted.protections is not None
    assert counted.protections.run_id == plan.run_id


WAVE = WaveSettings(name="w", accounts=(PILOT,), soak_hours=10)
states = st.builds(
    WaveState,
    name=st.just("w"),
    changed=st.integers(0, 50),
    failed=st.integers(0, 50),
    regressed=st.integers(0, 5),
    healthy=st.integers(0, 5),
    done=st.sampled_from(["", *(f"2026-11-{day}T12:00:00+00:00" for day in (20, 23, 24))]),
    passed=st.sampled_from(["", "", "2026-11-22T00:00:00+00:00"]),
)
seens = st.builds(WaveObservation, *(st.integers(0, 5) for _ in range(6)))


@given(st.lists(st.tuples(states, seens), min_size=1, max_size=5))
def test_no_wave_passes_before_one_that_has_not_and_none_unwell(
    pairs: list[tuple[WaveState, WaveObservation]],
) -> None:
    before, seen = [one for one, _ in pairs], [one for _, one in pairs]
    after = advance([WAVE] * len(pairs), before, seen, NOW)
    for number, (was, is_now, found) in enumerate(zip(before, after, seen, strict=True)):
        if was.passed or not is_now.passed:
            continue
        assert all(one.passed for one in after[:number])
        assert is_now.done
        assert datetime.fromisoformat(is_now.done) + timedelta(hours=10) <= NOW
        assert found.unread == 0
        assert is_now.regressed == found.regressed == 0
        assert 100 * was.failed <= 5 * (was.changed + was.failed)
        assert not was.changed or max(was.healthy, found.healthy) >= 1


@given(st.lists(st.tuples(states, seens), min_size=1, max_size=5))
def test_exactly_one_wave_is_under_way_and_each_says_why(
    pairs: list[tuple[WaveState, WaveObservation]],
) -> None:
    waves, seen = [WAVE] * len(pairs), [one for _, one in pairs]
    after = advance(waves, [one for one, _ in pairs], seen, NOW)
    current = current_wave(after)
    reported = wave_statuses(waves, after, seen, NOW)
    assert all(one.says for one in reported)
    assert all(one.stage == "passed" for one in reported[:current])
    assert all(one.stage == "waiting" for one in reported[current + 1 :])
    if current < len(waves):
        assert reported[current].stage in {"open", "soaking", "held"}


def test_a_stopped_run_ends_no_wave(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    waves = hours.see(timedelta(0))
    plan = hours.plan(waves)
    made = hours.harness.apply(plan, plan.run_id).changes
    assert waves.after(plan.changes, made, stopped=True).states == waves.states
    assert waves.after((), made, stopped=False).states == waves.states
    assert waves.after(plan.changes, made, stopped=False).states[0].done


def test_a_function_that_is_late_and_waits_for_its_notice_keeps_no_wave_open(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    waves = hours.see(timedelta(0))
    plan = hours.plan(waves)
    due = plan.changes[1:]
    made = hours.harness.apply(replace(plan, changes=due), plan.run_id).changes
    assert waves.after(due, made, stopped=False).states == waves.states
    assert waves.after(due, made, stopped=False, late={"early": 1}).states == waves.states
    assert waves.after(due, made, stopped=False, late={"pilot": 1}).states[0].done


def test_a_run_that_was_asked_to_stop_ends_no_wave(tmp_path: Path) -> None:
    hours = Hours(organization(tmp_path, TWO))
    waves = hours.see(timedelta(0))
    plan = hours.plan(waves)
    reported = threading.Event()
    reported.set()
    cut = hours.harness.apply(plan, plan.run_id, stop=reported)
    assert (cut.stopped_by, cut.changes["outcome"].tolist()) == (None, ["deferred"])
    assert waves.after(plan.changes, cut.changes, stopped=False).states == waves.states


def test_a_wave_does_not_soak_anew_for_each_new_function(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    for number in range(19):
        harness.aws.add(f"more{number}", PILOT)
    harness.aws.figures = dict.fromkeys(("f1", "f2", "f3"), WELL)
    hours = Hours(harness)
    assert hours.run(0.5)[0] == {PILOT: 20}
    harness.aws.add("late", PILOT)
    assert hours.run(20)[0] == {PILOT: 1}
    assert hours.run(25)[0] == {EARLY: 1}


def test_a_wave_of_which_more_is_changed_soaks_anew(tmp_path: Path) -> None:
    harness = organization(tmp_path, TWO)
    harness.aws.figures = dict.fromkeys(("f1", "f2", "f3"), WELL)
    hours = Hours(harness)
    hours.run(0.5)
    harness.aws.add("late", PILOT)
    assert hours.run(20)[0] == {PILOT: 1}
    changed, status, _ = hours.run(25)
    assert (changed, stages(status)) == ({}, ["soaking", "waiting"])
    assert hours.run(45)[0] == {EARLY: 1}
