"""Notice: from when on a function may be changed, by what was announced and what runs have made of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.plan.notice import NoticeCheck, Noticed, Waiting, check_notice
from remediator.plan.plan import Plan, make_plan
from remediator.state.drift import ProtectionCount
from remediator.state.functions import FunctionRecord
from remediator.state.notices import Notice, announce, announced, forget
from scanner.core.errors import BadInput
from storage.folder import FolderStore
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, arn_of
from tests.unit.remediator.harness import Harness

ARN = arn_of("billing")
RELEASE, OTHER = "release", "another release"
NOW = datetime(2026, 11, 24, 3, 42, tzinfo=UTC)
WEEK = timedelta(days=7)
MADE = FunctionRecord(ARN, (NOW - timedelta(days=1)).isoformat(), "changed", RELEASE)
PROTECTED = replace(MADE, protections=ProtectionCount(1, "run", MADE.at))


def notice(days_ago: float, *, release: str = RELEASE, days: float = 7, arn: str = ARN) -> Notice:
    at = NOW - timedelta(days=days_ago)
    not_before = at + timedelta(days=days)
    return Notice(arn, release, "protect", at.isoformat(), not_before.isoformat(), "run")


def not_before(
    announced_to: Notice | None, record: FunctionRecord | None = None, period: timedelta = WEEK
) -> datetime | None:
    notices = {ARN: announced_to} if announced_to else {}
    return NoticeCheck(RELEASE, period, NOW, notices, {ARN: record} if record else {}).not_before(ARN)


@pytest.mark.parametrize("days_ago", [0, 6, 7, 36.9])
def test_what_was_announced_is_changed_a_week_later(days_ago: float) -> None:
    assert not_before(notice(days_ago)) == NOW + timedelta(days=7 - days_ago)


@pytest.mark.parametrize("old", [None, notice(37), notice(400), notice(8, release=OTHER)])
def test_what_was_announced_long_ago_or_for_another_release_is_announced_again(old: Notice | None) -> None:
    assert not_before(old) is None


def test_a_shorter_notice_breaks_no_promise_and_a_longer_one_counts_at_once() -> None:
    assert not_before(notice(3), period=timedelta(days=2)) == NOW + timedelta(days=4)
    assert not_before(notice(7), period=timedelta(days=14)) == NOW + timedelta(days=7)


def test_drift_of_what_this_release_protected_is_repaired_at_once() -> None:
    assert not_before(None, PROTECTED) == NOW
    assert not_before(notice(8), PROTECTED) == NOW
    assert not_before(None, replace(PROTECTED, release=OTHER)) is None


def test_what_was_rolled_back_since_is_announced_again() -> None:
    assert not_before(notice(8), MADE) is None
    assert not_before(notice(0.5), MADE) == NOW + timedelta(days=6.5)


def test_a_failed_attempt_needs_no_other_announcement() -> None:
    assert not_before(notice(8), replace(MADE, ended="failed")) == NOW - timedelta(days=1)


class Organization:
    """Functions of one account, the announcements in a store, and the plans that are made with them."""

    def __init__(self, aws: FakeLambda, folder: Path, *names: str) -> None:
        self.harness = Harness(aws, folder)
        for name in names:
            aws.add(name)

    def check(
        self,
        now: datetime = NOW,
        columns: Mapping[str, Any] | None = None,
        held: tuple[str, ...] = (),
        known: Mapping[str, FunctionRecord] | None = None,
        **more: Any,
    ) -> tuple[Noticed, Plan]:
        marked = self.harness.assessed().assign(**(columns or {}))
        noticed = check_notice(
            marked, store=self.harness.store, partition="aws", release=RELEASE, period=WEEK, held=held, known=known or {}, now=now
        )  # fmt: skip
        plan = make_plan(
            marked,
            self.harness.defender,
            self.harness.rollout,
            run_id="20261124T034232Z-1a2b3c",
            now=now,
            partition="aws",
            config_digest="digest",
            guards={**noticed.guards, **dict.fromkeys(held, "drift")},
            unannounced=noticed.unannounced,
            **more,
        )
        return noticed, plan

    def announce(self, *names: str) -> None:
        announce(self.harness.store, ACCOUNT, [notice(0, arn=arn_of(name)) for name in names], NOW)


@pytest.fixture
def two(tmp_path: Path) -> Organization:
    return Organization(FakeLambda(), tmp_path, "billing", "mailer")


def names(plan: Plan) -> tuple[list[str], list[str]]:
    """The functions that a plan announces, and those that it changes."""
    return [one.function_name for one in plan.notices], [one.function_name for one in plan.changes]


def test_functions_are_announced_then_held_back_then_changed(two: Organization) -> None:
    _, plan = two.check()
    assert names(plan) == (["billing", "mailer"], [])
    assert plan.held_back == {"notice": 2}
    two.announce("billing")
    noticed, plan = two.check(NOW + WEEK - timedelta(seconds=1))
    assert names(plan) == (["mailer"], [])
    assert noticed.waiting == {ACCOUNT: Waiting(1, NOW + WEEK)}
    noticed, plan = two.check(NOW + WEEK)
    assert names(plan) == (["mailer"], ["billing"])
    assert plan.held_back == {"notice": 1}
    assert "to be announced: 1 functions in 1 accounts" in plan.summary()


def test_what_another_guard_holds_back_is_not_announced(two: Organization) -> None:
    _, plan = two.check(held=(arn_of("billing"),))
    assert names(plan) == (["mailer"], [])
    assert plan.held_back == {"notice": 1, "drift": 1}


def test_the_next_wave_is_announced_too_and_no_later_one(two: Organization) -> None:
    two.harness.aws.add("reports")
    waits, follows = [False, True, True], [False, True, False]
    waves = {"wave": ["pilot", "early", "rest"], "wave_waits": waits, "wave_next": follows}
    _, plan = two.check(columns=waves)
    assert names(plan) == (["billing", "mailer"], [])
    assert plan.held_back == {"notice": 1, "wave": 2}


def test_a_function_that_came_after_the_first_change_of_its_wave_is_late(two: Organization) -> None:
    changed = replace(MADE, function_arn=arn_of("changed"), wave="pilot")
    known = {changed.function_arn: changed}
    waves = {"wave": "pilot", "wave_waits": False, "wave_next": False}
    two.announce("billing")
    assert two.check(columns=waves, known=known)[0].late == {"pilot": 2}
    assert two.check(columns=waves)[0].late == {}
    for other in ({"wave": "early"}, {"release": OTHER}, {"ended": "failed"}):
        assert two.check(columns=waves, known={ARN: replace(changed, **other)})[0].late == {}
    later = replace(changed, at=(NOW + timedelta(hours=1)).isoformat())
    now = NOW + timedelta(hours=2)
    assert two.check(now, waves, known={changed.function_arn: later})[0].late == {"pilot": 1}


def test_a_plan_announces_to_whole_accounts_and_to_the_current_wave_first(
    two: Organization,
) -> None:
    first, late = "000000000000", "000011112222"
    for name in ("a", "b"):
        two.harness.aws.add(name, late)
    two.harness.aws.add("c", first)
    waits = [arn.split(":")[4] == first for arn in two.harness.aws.functions]
    waves = {"wave": "", "wave_waits": waits, "wave_next": waits}
    _, plan = two.check(columns=waves, max_notices=3)
    assert [one.account_id for one in plan.notices] == [late, late, ACCOUNT, ACCOUNT]


def test_state_is_bounded_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    other = arn_of("other")
    announce(store, ACCOUNT, [notice(50), notice(1, arn=other)], NOW - timedelta(days=50))
    announce(store, ACCOUNT, [notice(0, arn=arn_of("new"))], NOW)
    assert set(announced(store, {ACCOUNT})) == {other, arn_of("new")}
    forget(store, {other}, NOW)
    assert set(announced(store, {ACCOUNT})) == {arn_of("new")}
    assert announced(store, {"444455556666"}) == {}
    path = tmp_path / f"state/notices/{ACCOUNT}.json"
    for text, why in (
        ('{"format": 2}', "format 2, written by a newer release"),
        ('{"format": 1, "notices": [{}]}', "notices.0"),
        (path.read_text().replace("+00:00", ""), "a moment without its offset"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=why):
            announced(store, {ACCOUNT})
