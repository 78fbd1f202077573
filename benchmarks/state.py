"""What a run reads of its store beside its own work, and what `rollback --function` reads, by the number of past runs.

Prints a line for each number of past runs: store reads (files and lists) and their bytes, of the begin of a run (what it
folds and settles), of `rollback --function` (which journals it chooses from), and of the baseline: every journal.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from uuid import uuid4

from remediator.change.delta import Delta
from remediator.change.records import Intent, OutcomeRecord
from remediator.journal.journal import Basis
from remediator.journal.journals import Journals
from remediator.journal.rebuild import rebuild
from remediator.journal.selection import Selection, select
from remediator.state.order import Mark
from scanner.settings import DefenderSettings
from storage.folder import FolderStore

PUBLISHER, WRAPPER = "999988887777", "/opt/twistlock/wrapper"
LAYER = f"arn:aws:lambda:{{region}}:{PUBLISHER}:layer:twistlock-python:4"
DEFENDER = DefenderSettings(layers={"python": LAYER}, wrapper=WRAPPER)
CHANGES_PER_RUN, ACCOUNTS = 20, 50


class Counted(FolderStore):
    """Counts what is read: how often, and bytes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads = self.bytes = 0

    def read(self, path: str) -> bytes | None:
        body = super().read(path)
        self.reads, self.bytes = self.reads + 1, self.bytes + len(body or b"")
        return body

    def folders(self, prefix: str) -> list[str]:
        self.reads += 1
        return super().folders(prefix)

    def list(self, prefix: str) -> list[str]:
        self.reads += 1
        return super().list(prefix)


def intent(number: int, run_id: str) -> Intent:
    """Return the change of a function, each of another name."""
    account_id, name = f"{100_000_000_000 + number % ACCOUNTS}", f"f{number}"
    arn = f"arn:aws:lambda:us-east-1:{account_id}:function:{name}"
    layer = LAYER.format(region="us-east-1")
    delta = Delta(layer, 0, None, ("AWS_LAMBDA_EXEC_WRAPPER",), WRAPPER)
    revision = str(uuid4())
    return Intent(
        f"0.{number}",
        run_id,
        "protect",
        account_id,
        "us-east-1",
        name,
        arn,
        "python",
        revision,
        delta,
        (),
        "",
    )


def lines_of(run: int, run_id: str) -> list[dict[str, object]]:
    """Return the journal of a run, without its moments."""
    intents = [intent(run * CHANGES_PER_RUN + number, run_id) for number in range(CHANGES_PER_RUN)]
    return [
        {"event": "basis", **asdict(Basis("release", "digest"))},
        *({"event": "intent", **asdict(one)} for one in intents),
        *({"event": "outcome", **asdict(OutcomeRecord(one.id, "changed", "", 1))} for one in intents),
    ]


def lived(folder: Path, runs: int) -> None:
    """Leave the store of so many hourly runs, each of which changed functions of its own."""
    store = FolderStore(folder)
    for run in range(runs):
        day, hour = divmod(run, 24)
        at = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_700_000_000 + day * 86_400 + hour * 3_600))
            + "+00:00"
        )
        run_id = f"{at[:19].replace('-', '').replace(':', '')}Z-{run:06x}"
        head = {"event": "segment", **Mark(run + 1, 1)._asdict()}
        body = [head, *({**line, "at": at} for line in lines_of(run, run_id))]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in body)
        store.write(f"journals/{run_id}/00001.jsonl", text.encode(), "")
        store.write(
            f"journals/term-{run + 1:08}.json", json.dumps({"format": 1, "runs": [run_id]}).encode(), ""
        )
    rebuild(Journals(store, DEFENDER))


def measured(folder: Path, work: Callable[[Journals], object]) -> str:
    """Return what some work reads, as text."""
    store = Counted(folder)
    began = time.perf_counter()
    work(Journals(store, DEFENDER))
    return f"{store.reads:>7,} reads {store.bytes / 1000:>10,.1f} kB {time.perf_counter() - began:>7.3f} s"


def main() -> None:
    """Measure for each number of past runs that is given."""
    for runs in map(int, sys.argv[1:] or ("10", "1000", "10000")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lived(folder, runs)
            arn = intent(CHANGES_PER_RUN * (runs // 2), "").function_arn
            print(f"{runs:,} past runs")
            print(f"  begin of a run       {measured(folder, Journals.fold)}")
            print(
                f"  rollback --function  {measured(folder, partial(select, selection=Selection(functions=[arn])))}"
            )
            print(f"  every journal        {measured(folder, Journals.history)}")


if __name__ == "__main__":
    main()
