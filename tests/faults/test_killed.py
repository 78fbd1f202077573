"""A real process of the command line, killed with 9 in the midst of its changes; what the next run makes of it."""

import os
from collections import Counter
from pathlib import Path

import pytest

from auto_defender.jobs.run import run
from remediator.journal.journal import open_runs
from simulator.http import serving
from storage.folder import FolderStore
from tests.faults import random_organization
from tests.faults.campaign import Campaign, environment, variables
from tests.faults.simulator import Kill
from tests.loaded_python import start


@pytest.mark.parametrize(("calls", "carried_out"), [(40, False), (50, True), (75, True)])
def test_the_next_run_finds_out_and_sends_nothing_twice(
    calls: int, carried_out: bool, tmp_path: Path
) -> None:
    campaign = Campaign(7, tmp_path, accounts=2, functions=12, fault_rate=0.0)
    path = random_organization.write_configuration(tmp_path, campaign.version, tagged=campaign.tagged)
    command = ("-m", "auto_defender", "run", "--config", str(path), "--apply")
    with serving(campaign.simulator) as url:
        program = start(*command, env={**os.environ, **variables(url)})
        campaign.simulator.kill = Kill(program.pid, calls, carried_out)
        assert program.wait(300).exit_code == -9
        campaign.simulator.kill = None
        store = FolderStore(campaign.root)
        (killed,) = store.folders("journals/")
        assert open_runs(store) == [killed]
        taken = Counter(write.arn for write in campaign.simulator.writes)
        with environment(url):
            assert campaign.do(run) == "ended by GuardStop", "the dead run's lock is held until it expires"
            assert campaign.do(run) == "exit 0"
            campaign.wait_for_updates()
            assert campaign.do(run) == "exit 0"
    campaign.check_the_end()
    assert campaign.result.violations == []
    assert set(taken.values()) <= {1}
    assert set(Counter(write.arn for write in campaign.simulator.writes).values()) == {1}
