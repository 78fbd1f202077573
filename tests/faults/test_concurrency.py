"""More than one hand at the same functions: two runs, a run and a rollback, a run and the functions' owners."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from auto_defender.job_result import JobResult
from auto_defender.jobs.rollback import roll_back
from auto_defender.jobs.run import run
from remediator.journal.selection import Selection
from scanner.core.errors import AutoDefenderError, GuardStop
from simulator.http import serving
from storage.folder import FolderStore
from tests.faults.campaign import Campaign, environment
from tests.faults.fault_plan import FaultPlan, Planned
from tests.faults.simulator import Write
from tests.faults.truth import Truth, assessed, layers_of, of_us
from tests.unit.remediator.harness import journal_of


def quiet(folder: Path, **faults: FaultPlan) -> Campaign:
    """An organization without faults, or with those of a plan."""
    campaign = Campaign(11, folder, accounts=2, functions=12, fault_rate=0.0)
    campaign.simulator.faults = faults.get("faults", campaign.simulator.faults)
    return campaign


def at_once(*jobs: Callable[[], object]) -> list[object]:
    """Do jobs at once; give what each came to."""
    results: list[object] = [None] * len(jobs)

    def work(number: int) -> None:
        try:
            results[number] = jobs[number]()
        except AutoDefenderError as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def protected_once(campaign: Campaign) -> None:
    """Each function that was written was written once, and carries the layer."""
    times = Counter(write.arn for write in campaign.simulator.writes)
    assert times
    assert set(times.values()) == {1}
    assert all(of_us(layers_of(campaign.simulator.functions()[arn])) for arn in times)


def test_of_two_runs_at_once_one_is_stopped_by_the_lock(tmp_path: Path) -> None:
    campaign = quiet(tmp_path)
    with serving(campaign.simulator) as url, environment(url):
        one, other = campaign.context("apply"), campaign.context("apply")
        results = at_once(lambda: run(one), lambda: run(other))
    (stopped,) = [result for result in results if isinstance(result, GuardStop)]
    assert stopped.guard == "lock"
    protected_once(campaign)


def test_a_run_waits_for_a_rollback_and_then_leaves_what_was_rolled_back_alone(tmp_path: Path) -> None:
    campaign = quiet(tmp_path)
    # Nothing is so slow to settle that the first run has to leave it open.
    campaign.simulator.settles_in = 0.001
    with serving(campaign.simulator) as url, environment(url):
        campaign.do(run)
        campaign.simulator.settles_in = 0.15
        runs = FolderStore(campaign.root).folders("journals/")
        first = len(campaign.simulator.writes)
        context, during = campaign.context("rollback"), campaign.context("apply")
        underway = threading.Event()
        campaign.simulator.before_write = lambda write: underway.set()

        def meanwhile() -> object:
            assert underway.wait(20)
            return run(during)

        back, stopped = at_once(lambda: roll_back(context, Selection(runs=runs), apply=True), meanwhile)
        assert isinstance(stopped, GuardStop)
        assert isinstance(back, JobResult), back
        rows = back.summary["rollback"]
        assert {row["outcome"] for row in rows} == {"rolled_back"}
        assert all(row["as_before"] or "keeps the value that a run gave" in row["detail"] for row in rows)
        assert campaign.do(run) == "exit 0"
    rolled_back = [write.arn for write in campaign.simulator.writes[first:]]
    assert len(rolled_back) == len(set(rolled_back)) == first
    for arn in rolled_back:
        assert not set(added(campaign, arn)) & set(layers_of(campaign.simulator.functions()[arn]))


def added(campaign: Campaign, arn: str) -> list[str]:
    """The layers that our first write put on a function."""
    write = next(write for write in campaign.simulator.writes if write.arn == arn)
    return [layer for layer in layers_of(write.after) if layer not in layers_of(write.before)]


def test_two_runs_that_share_no_lock_still_do_no_harm(tmp_path: Path) -> None:
    """Two central accounts at once, each with an output of its own: the revision is the last guard."""
    first, second = quiet(tmp_path / "a"), quiet(tmp_path / "b")
    second.simulator = first.simulator
    for campaign in (first, second):
        campaign.folder.mkdir()
    truth = Truth()
    with serving(first.simulator) as url, environment(url):
        one, other = first.context("apply"), second.context("apply")

        def take(write: Write) -> None:
            journal = "".join(journal_of(campaign.root, write.run_id) for campaign in (first, second))
            truth.take(write, one.rules, rolling_back=False, journal=journal)

        first.simulator.before_write = take
        results = at_once(lambda: run(one), lambda: run(other))
    assert not [result for result in results if isinstance(result, Exception)]
    assert truth.violations == []
    protected_once(first)


class OwnersDeploy(FaultPlan):
    """The owner deploys just before each of the first `times` updates of a function."""

    def __init__(self, times: int) -> None:
        super().__init__(5, 0.0)
        self._left: Counter[str] = Counter()
        self._most = times

    def draw(self, operation: str, subject: str, region: str) -> Planned | None:
        if operation != "UpdateFunctionConfiguration" or self._left[subject] >= self._most:
            return None
        self._left[subject] += 1
        return Planned("owner deploys", "owner")


def test_what_an_owner_deploys_during_our_change_is_kept(tmp_path: Path) -> None:
    campaign = quiet(tmp_path, faults=OwnersDeploy(1))
    with serving(campaign.simulator) as url, environment(url):
        campaign.do(run)
    assert campaign.result.violations + campaign.truth.violations == []
    outcomes = campaign.result.outcomes
    assert outcomes["changed"] > 0
    assert outcomes["dropped"] > 0, "some were deployed into what the rules leave alone"
    assert outcomes["failed"] == 0
    assert set(Counter(write.arn for write in campaign.simulator.writes).values()) == {1}


def test_whose_owner_deploys_again_and_again_is_left_to_the_next_run(tmp_path: Path) -> None:
    campaign = quiet(tmp_path, faults=OwnersDeploy(2))
    with serving(campaign.simulator) as url, environment(url):
        campaign.do(run)
        assert campaign.simulator.writes == []
        assert campaign.result.outcomes["deferred"] > 0
        campaign.do(run)
        context = campaign.context("scan")
    assert campaign.result.violations + campaign.truth.violations == []
    for arn in {write.arn for write in campaign.simulator.writes}:
        assert assessed(campaign.simulator.functions()[arn], {}, context.rules).protection == "protected"
