"""`make soak` says which seed to run again, and what was broken."""

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults import soak
from tests.faults.campaign import Result
from tests.machine import ROOT


@pytest.fixture(autouse=True)
def logging_goes_on() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def test_a_short_soak_prints_its_seed_and_its_result() -> None:
    asked = ["--seed", "7", "--changes", "1", "--accounts", "1", "--functions", "6"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("seed 7: ")
    assert last == "violations: 0"


def test_a_violation_is_printed_with_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    def played(seed: int, *_: Any, **__: Any) -> Result:
        broken = ["plain-3: a foreign layer was lost"] if seed == 8 else []
        return Result(seed, changes=4, violations=broken, ends=Counter({"exit 0": 5}))

    with pytest.raises(SystemExit) as ended:
        soak.main(["--seed", "7", "--changes", "5"], played)
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "seed 7: 4 changes; 5 exit 0",
        "seed 8: 4 changes; 5 exit 0",
        "seed 8: VIOLATION plain-3: a foreign layer was lost",
    ]
    assert lines[3].startswith("seeds 7 to 8: 8 changes in ")
    assert lines[-1] == "violations: 1"
