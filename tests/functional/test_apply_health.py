"""Changed functions are watched: what regressed goes back by itself, with its figures; what is unknown is never well."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from auto_defender.observation import Observation
from remediator.execution.regressions import HealthReport, roll_back_regressed
from remediator.journal.quarantine import quarantined
from remediator.rollout.health import Figures, FunctionHealth, breaker, observe_health
from remediator.rollout.lock import RunLock
from scanner.settings import SweepSettings
from tests.unit.remediator.fake_lambda import FakeLambda, layer, refusal
from tests.unit.remediator.house import OURS, House, settings

RUN, NEXT, THIRD = (f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}" for name in ("1first", "2next", "3third"))
WELL = (Figures(5_000, 5, 0, 500_000), Figures(400, 0, 0, 44_000))
FAILING = (Figures(5_000, 5, 0, 500_000), Figures(400, 200, 0, 44_000))
QUIET = (Figures(3, 0, 0, 300), Figures(0, 0, 0, 0))


pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(FakeLambda(), tmp_path)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=30)


def watched(house: House, now: datetime | None = None) -> tuple[FunctionHealth, ...]:
    return observe_health(
        house.aws,  # type: ignore[arg-type]
        house.rollout.health,
        SweepSettings(unit_timeout_sec=20),
        store=house.store,
        assessed=house.assessed(),
        now=now or soon(),
    )


def verdicts(functions: tuple[FunctionHealth, ...]) -> dict[str, str]:
    return {one.function_arn.rpartition(":")[2]: one.verdict for one in functions}


def taken_back(house: House, functions: tuple[FunctionHealth, ...], run_id: str = NEXT) -> HealthReport:
    with RunLock(house.store, run_id) as lock:
        return roll_back_regressed(
            functions,
            house.aws,  # type: ignore[arg-type]
            house.defender,
            store=house.store,
            run_id=run_id,
            lock=lock,
            now=datetime.now(UTC),
        )


def changed(house: House, **figures: tuple[Figures, Figures]) -> dict[str, str]:
    arns = {name: house.aws.add(name) for name in figures}
    house.apply(run_id=RUN)
    house.aws.figures = dict(figures)
    return arns


def test_each_changed_function_is_judged_by_its_own_traffic(house: House) -> None:
    changed(house, well=WELL, failing=FAILING, quiet=QUIET)
    house.aws.add("never-changed")
    assert verdicts(watched(house)) == {
        "well": "healthy", "failing": "regressed", "quiet": "too_little_traffic"
    }  # fmt: skip
    assert house.aws.calls["get_metric_data"] == 2  # one window before, one after, of all three


def test_what_regressed_goes_back_and_stays_in_quarantine_with_its_figures(house: House) -> None:
    arns = changed(house, well=WELL, failing=FAILING)
    house.aws.owner_edits(arns["failing"], MemorySize=1024)
    done = taken_back(house, watched(house))
    assert done.changes["outcome"].tolist() == ["rolled_back"]
    assert [one.function_arn for one in done.rolled_back] == [arns["failing"]]
    assert house.aws.layers(arns["failing"]) == []
    assert house.aws.variables(arns["failing"]) == {"OWNER": "s3cret-of-the-owner"}
    assert house.aws.functions[arns["failing"]]["MemorySize"] == 1024
    assert house.aws.layers(arns["well"]) == [layer(4)]
    (entry,) = quarantined(house.store)
    assert entry.function_arn == arns["failing"]
    assert (
        f"regressed since run {RUN}: errors 0.10 % of 5,000 invocations before, 50.00 % of 400"
        in entry.reason
    )
    assert verdicts(watched(house)) == {"well": "healthy"}


def test_an_upgrade_that_regressed_goes_back_to_the_version_before(house: House) -> None:
    arns = changed(house, failing=WELL)
    house.defender = settings(version=5)
    house.apply(run_id=NEXT)
    house.aws.figures["failing"] = FAILING
    before = Observation(pd.DataFrame(), pd.DataFrame(), house.assessed())
    back = taken_back(house, watched(house), THIRD)
    told = before.after_rollback(back.changes, back.protection_before).functions
    assert told["protection"].tolist() == house.assessed()["protection"].tolist() == ["outdated"]
    assert told[["verdict", "reasons"]].to_numpy().tolist() == [["excluded", "quarantined"]]
    assert house.aws.layers(arns["failing"]) == [layer(4)]
    assert house.aws.variables(arns["failing"]).keys() == {"OWNER", *OURS}


def refuse(*names: str) -> Any:
    def before(method: str, arn: str, n: int) -> None:
        if method in names:
            raise refusal(
                "AccessDenied", "not authorized to perform: cloudwatch:GetMetricData", "GetMetricData"
            )

    return before


def test_metrics_that_cannot_be_read_are_told_and_nothing_is_taken_back(house: House) -> None:
    arns = changed(house, failing=FAILING)
    house.aws.before = refuse("get_metric_data")
    (one,) = functions = watched(house)
    assert (one.verdict, one.before, one.after) == ("unread", None, None)
    assert taken_back(house, functions).changes.empty
    assert house.aws.layers(arns["failing"]) == [layer(4)]


def test_half_an_answer_of_cloudwatch_is_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(house, well=WELL)
    whole = house.aws._sum
    monkeypatch.setattr(
        house.aws, "_sum", lambda query, after: whole(query, after) | {"StatusCode": "InternalError"}
    )
    assert verdicts(watched(house)) == {"well": "unread"}


def test_what_was_changed_long_ago_is_watched_no_more(house: House) -> None:
    changed(house, failing=FAILING)
    assert watched(house, datetime.now(UTC) + timedelta(hours=23))
    assert watched(house, datetime.now(UTC) + timedelta(hours=25)) == ()


def test_what_its_owner_deployed_again_without_the_defender_is_not_ours_to_judge(house: House) -> None:
    arns = changed(house, failing=FAILING)
    house.aws.owner_edits(arns["failing"], Layers=[], Environment={"Variables": {}})
    assert watched(house) == ()


def test_a_change_that_failed_or_was_rolled_back_is_not_watched(house: House) -> None:
    changed(house, well=WELL)
    house.rollback([RUN])
    assert watched(house) == ()


def test_switched_off_it_asks_nothing(tmp_path: Path) -> None:
    house = House(FakeLambda(), tmp_path, health={"enabled": False})
    changed(house, failing=FAILING)
    assert watched(house) == ()
    assert house.aws.calls["get_metric_data"] == 0


def test_more_than_a_few_open_the_breaker_and_it_stays_open_while_they_are_fresh(house: House) -> None:
    changed(house, a=FAILING, b=FAILING, c=FAILING, d=FAILING, e=WELL)
    functions, health = watched(house), house.rollout.health
    stop = breaker(functions, health, house.store, soon())
    assert stop is not None
    assert (stop.guard, stop.exit_code) == ("health", 5)
    assert "4 functions regressed within 24 hours" in str(stop)
    taken_back(house, functions)
    assert breaker((), health, house.store, soon()) is not None
    assert breaker((), health, house.store, soon() + timedelta(hours=24)) is None
    few = tuple(one for one in functions if one.function_arn[-1] in "abce")
    house.store.delete("state/quarantine.json")
    assert breaker(few, health, house.store, soon()) is None


def test_functions_rolled_back_by_hand_open_no_breaker(house: House) -> None:
    changed(house, a=WELL, b=WELL, c=WELL, d=WELL)
    house.rollback([RUN])
    assert len(quarantined(house.store)) == 4
    assert breaker((), house.rollout.health, house.store, soon()) is None
