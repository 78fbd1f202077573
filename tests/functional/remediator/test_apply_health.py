"""Changed functions are watched: what regressed is rolled back, with its figures; what is unknown is never healthy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from auto_defender.observation import Observation
from remediator.execution.regressions import HealthReport, roll_back_regressed
from remediator.journal.rebuild import rebuild
from remediator.rollout.comparison import Figures
from remediator.rollout.health import FunctionHealth, breaker, observe_health
from remediator.rollout.lock import RunLock
from remediator.settings import WaveSettings
from remediator.state.quarantine import quarantined
from remediator.state.wave_states import states
from scanner.settings import SweepSettings
from tests.unit.remediator.fake_lambda import ACCOUNT, FakeLambda, layer, refusal
from tests.unit.remediator.harness import OURS, Harness, settings

RUN, NEXT, THIRD, FOURTH = (
    f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}" for name in ("1first", "2next", "3third", "4fourth")
)
WELL = (Figures(5_000, 5, 0, 500_000), Figures(400, 0, 0, 44_000))
FAILING = (Figures(5_000, 5, 0, 500_000), Figures(400, 200, 0, 44_000))
QUIET = (Figures(3, 0, 0, 300), Figures(0, 0, 0, 0))


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(FakeLambda(), tmp_path)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=30)


def watched(harness: Harness, now: datetime | None = None) -> tuple[FunctionHealth, ...]:
    return observe_health(
        harness.aws,  # type: ignore[arg-type]
        harness.rollout.health,
        SweepSettings(unit_timeout_sec=20),
        journals=harness.journals,
        assessed=harness.assessed(),
        now=now or soon(),
    )


def verdicts(functions: tuple[FunctionHealth, ...]) -> dict[str, str]:
    return {one.function_arn.rpartition(":")[2]: one.verdict for one in functions}


def rolled_back(harness: Harness, functions: tuple[FunctionHealth, ...], run_id: str = NEXT) -> HealthReport:
    with RunLock(harness.store, run_id) as lock:
        return roll_back_regressed(
            functions,
            harness.aws,  # type: ignore[arg-type]
            harness.defender,
            journals=harness.journals,
            run_id=run_id,
            release=harness.release,
            lock=lock,
            now=datetime.now(UTC),
        )


def changed(harness: Harness, **figures: tuple[Figures, Figures]) -> dict[str, str]:
    arns = {name: harness.aws.add(name) for name in figures}
    harness.apply(run_id=RUN)
    harness.aws.figures = dict(figures)
    return arns


def test_each_changed_function_is_compared_with_its_own_traffic(harness: Harness) -> None:
    changed(harness, well=WELL, failing=FAILING, quiet=QUIET)
    harness.aws.add("never-changed")
    assert verdicts(watched(harness)) == {
        "well": "healthy", "failing": "regressed", "quiet": "too_little_traffic"
    }  # fmt: skip
    assert (
        harness.aws.calls["get_metric_data"] == 2
    )  # the history, and the time around the change, of all three


def test_a_watched_function_costs_eight_metrics(harness: Harness) -> None:
    changed(harness, well=WELL, failing=FAILING)
    asked: list[str] = []
    harness.aws.edit_answer = lambda method, answer: asked.extend(
        one["Id"] for one in answer.get("MetricDataResults", ())
    )
    watched(harness)
    assert len(asked) == 2 * 8


def test_what_regressed_goes_back_and_stays_in_quarantine_with_its_figures(harness: Harness) -> None:
    arns = changed(harness, well=WELL, failing=FAILING)
    harness.aws.owner_edits(arns["failing"], MemorySize=1024)
    done = rolled_back(harness, watched(harness))
    assert done.changes["outcome"].tolist() == ["rolled_back"]
    assert harness.aws.layers(arns["failing"]) == []
    assert harness.aws.variables(arns["failing"]) == {"OWNER": "s3cret-of-the-owner"}
    assert harness.aws.functions[arns["failing"]]["MemorySize"] == 1024
    assert harness.aws.layers(arns["well"]) == [layer(4)]
    (entry,) = quarantined(harness.store)
    assert entry.function_arn == arns["failing"]
    assert f"regressed since run {RUN}: errors 0.10 % of " in entry.reason
    assert "invocations before, 50.00 % of 400 after" in entry.reason
    assert verdicts(watched(harness)) == {"well": "healthy"}


def test_what_regressed_counts_in_its_wave_once_although_its_run_is_killed_after_the_rollback(
    harness: Harness,
) -> None:
    changed(harness, failing=FAILING)
    functions = tuple(replace(one, wave="pilot") for one in watched(harness))
    for run_id in (NEXT, THIRD):  # the second time it is found before the metrics are current
        rolled_back(harness, functions, run_id)
        (pilot,) = states(harness.store, harness.release, (WaveSettings(name="pilot", accounts=(ACCOUNT,)),))
        assert pilot.regressed == 1
    assert rebuild(harness.journals) == []


def test_an_upgrade_that_regressed_goes_back_to_the_version_before(harness: Harness) -> None:
    arns = changed(harness, failing=WELL)
    harness.defender = settings(version=5)
    harness.apply(run_id=NEXT)
    harness.aws.figures["failing"] = FAILING
    before = Observation(pd.DataFrame(), pd.DataFrame(), harness.assessed())
    back = rolled_back(harness, watched(harness), THIRD)
    reported = before.after_rollback(back.changes, back.protection_before).functions
    assert reported["protection"].tolist() == harness.assessed()["protection"].tolist() == ["outdated"]
    assert reported[["verdict", "reasons"]].to_numpy().tolist() == [["excluded", "quarantined"]]
    assert harness.aws.layers(arns["failing"]) == [layer(4)]
    assert harness.aws.variables(arns["failing"]).keys() == {"OWNER", *OURS}


def test_values_that_a_run_repaired_since_hide_no_upgrade_that_regressed(harness: Harness) -> None:
    arns = changed(harness, failing=WELL)
    harness.defender = settings(version=5)
    harness.apply(run_id=NEXT)
    harness.aws.owner_edits(arns["failing"], Environment={"Variables": {**OURS, "TW_POLICY": "its owner's"}})
    harness.apply(run_id=THIRD)
    harness.aws.figures["failing"] = FAILING
    done = rolled_back(harness, watched(harness), FOURTH)
    assert [(one.run_id, one.function_arn) for one in done.regressed] == [(NEXT, arns["failing"])]
    assert done.changes["outcome"].tolist() == ["rolled_back"]
    assert harness.aws.layers(arns["failing"]) == [layer(4)]
    assert [one.run_id for one in watched(harness)] == [RUN]


def refuse(*names: str) -> Any:
    def before(method: str, arn: str, n: int) -> None:
        if method in names:
            raise refusal(
                "AccessDenied", "not authorized to perform: cloudwatch:GetMetricData", "GetMetricData"
            )

    return before


def test_metrics_that_cannot_be_read_are_reported_and_nothing_is_rolled_back(harness: Harness) -> None:
    arns = changed(harness, failing=FAILING)
    harness.aws.before = refuse("get_metric_data")
    (one,) = functions = watched(harness)
    assert (one.verdict, one.before, one.after) == ("unread", None, None)
    assert rolled_back(harness, functions).changes.empty
    assert harness.aws.layers(arns["failing"]) == [layer(4)]


def test_half_an_answer_of_cloudwatch_is_none(harness: Harness) -> None:
    changed(harness, well=WELL)

    def fail(method: str, answer: dict[str, Any]) -> None:
        for one in answer.get("MetricDataResults", ()):
            one["StatusCode"] = "InternalError"

    harness.aws.edit_answer = fail
    assert verdicts(watched(harness)) == {"well": "unread"}


def test_what_was_changed_long_ago_is_watched_no_more(harness: Harness) -> None:
    changed(harness, failing=FAILING)
    assert watched(harness, datetime.now(UTC) + timedelta(hours=23))
    assert watched(harness, datetime.now(UTC) + timedelta(hours=25)) == ()


def test_what_its_owner_deployed_again_without_the_defender_is_not_watched(harness: Harness) -> None:
    arns = changed(harness, failing=FAILING)
    harness.aws.owner_edits(arns["failing"], Layers=[], Environment={"Variables": {}})
    assert watched(harness) == ()


def test_a_change_that_failed_or_was_rolled_back_is_not_watched(harness: Harness) -> None:
    changed(harness, well=WELL)
    harness.rollback([RUN])
    assert watched(harness) == ()


def test_switched_off_it_asks_nothing(tmp_path: Path) -> None:
    harness = Harness(FakeLambda(), tmp_path, health={"enabled": False})
    changed(harness, failing=FAILING)
    assert watched(harness) == ()
    assert harness.aws.calls["get_metric_data"] == 0


def test_more_than_a_few_open_the_breaker_and_it_stays_open_while_they_are_fresh(harness: Harness) -> None:
    changed(harness, a=FAILING, b=FAILING, c=FAILING, d=FAILING, e=WELL)
    functions, health = watched(harness), harness.rollout.health
    stop = breaker(functions, health, harness.store, soon())
    assert stop is not None
    assert (stop.guard, stop.exit_code) == ("health", 5)
    assert "4 functions regressed within 24 hours" in str(stop)
    rolled_back(harness, functions)
    assert breaker((), health, harness.store, soon()) is not None
    assert breaker((), health, harness.store, soon() + timedelta(hours=24)) is None
    few = tuple(one for one in functions if one.function_arn[-1] in "abce")
    harness.store.delete("state/quarantine.json")
    assert breaker(few, health, harness.store, soon()) is None


def test_functions_rolled_back_by_hand_open_no_breaker(harness: Harness) -> None:
    changed(harness, a=WELL, b=WELL, c=WELL, d=WELL)
    harness.rollback([RUN])
    assert len(quarantined(harness.store)) == 4
    assert breaker((), harness.rollout.health, harness.store, soon()) is None
