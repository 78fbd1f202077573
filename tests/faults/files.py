"""Compares a run's files with the truth: the ledger, the journal, the changes and the report's numbers."""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.journal.journals import Journals
from remediator.state.store import run_folder
from scanner.risk.rules import Rules
from scanner.settings import DefenderSettings
from storage.folder import FolderStore
from tests.faults.random_organization import OWNERS_SECRET, POLICY, PUBLISHER, REGIONS, WRAPPER
from tests.faults.simulator import Simulator
from tests.faults.truth import assessed, layers_of, of_us

UNREAD = {"access_denied", "throttled", "timed_out", "error"}
# Details of changes that end as `deferred` although AWS took the update.
MAY_HAVE_BEEN_TAKEN = ("replaced by", "not settled", "its journal entry", "concurrent_deploy")
CODES = {"guard": 5, "failed": 4, "unread": 3, "done": 0}


@dataclass(frozen=True)
class Before:
    """What is remembered of the moment before a run: how often owners had deployed, and which functions there were."""

    owned: Counter[str]
    functions: set[str]
    writes: int


def journals_in(root: Path) -> Journals:
    """Return the journals below a folder, as the campaign's configuration accepts them."""
    layers = {
        family: f"arn:aws:lambda:{{region}}:{PUBLISHER}:layer:twistlock-{family}:4"
        for family in ("python", "nodejs")
    }
    return Journals(
        FolderStore(root), DefenderSettings.model_validate({"layers": layers, "wrapper": WRAPPER})
    )


def remember(simulator: Simulator) -> Before:
    return Before(Counter(simulator.owned), set(simulator.functions()), len(simulator.writes))


def check_files(simulator: Simulator, root: Path, run_id: str, before: Before, rules: Rules) -> list[str]:
    """Return what the files of a run that ended say wrongly."""
    folder = root / run_folder(run_id)
    summary = json.loads((folder / "summary.json").read_text())
    changes, units, functions = (_rows(folder, name) for name in ("changes", "units", "functions"))
    problems = _changes(simulator, run_id, changes, before)
    problems += _journal(root, run_id, changes)
    problems += _numbers(summary, changes, units, functions)
    if summary["mode"] == "apply":
        # A run that could not read what earlier runs have kept made no plan.
        plan = json.loads((folder / "plan.json").read_text()) if (folder / "plan.json").exists() else None
        problems += _plan(simulator, plan or {"changes": []}, run_id, before)
        problems += [] if plan or summary["stopped_by"] == "memory" else ["there is no plan.json"]
        problems += _ledger(simulator, units, functions, before)
        problems += _protection(simulator, functions, changes, before, rules)
    return [f"{run_id}: {problem}" for problem in problems]


def check_secrets(root: Path) -> list[str]:
    """Return the files that contain a secret."""
    found = []
    for path in root.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            found += [f"{path.name} holds a secret" for secret in (OWNERS_SECRET, POLICY) if secret in text]
    return found


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))


def _changes(simulator: Simulator, run_id: str, changes: list[dict[str, str]], before: Before) -> list[str]:
    new = simulator.writes[before.writes :]
    ever = {write.arn for write in simulator.writes}
    # A change that an earlier run left open may end here, and be rolled back: it has a row of its own.
    taken = {w.arn for w in new if w.run_id == run_id and w.before["LastUpdateStatus"] != "Failed"}
    last = {change["function_arn"]: change for change in changes}
    problems = [f"{arn} was written and is in no row of changes.csv" for arn in taken - last.keys()]
    for change in changes:
        arn, outcome, detail = change["function_arn"], change["outcome"], change["detail"]
        now = simulator.functions().get(arn)
        touched = now is None or simulator.owned[arn] != before.owned[arn]
        if outcome == "changed" and (arn not in ever or not (touched or of_us(layers_of(now or {})))):
            problems.append(f"{arn} is reported as changed, and does not carry the layer")
        if outcome == "dropped" and arn in taken and not detail.startswith("gone"):
            problems.append(f"{arn} was written and is reported as dropped: {detail}")
        # An owner who deploys in the same moment may take it away again before we find out that AWS did it.
        excused = touched or any(known in detail for known in MAY_HAVE_BEEN_TAKEN) or change is not last[arn]
        if outcome == "deferred" and arn in taken and not excused:
            problems.append(f"{arn} was written and is reported as deferred: {detail}")
        if (
            outcome == "rolled_back"
            and not any(write.arn == arn for write in new)
            and "journal" not in detail
        ):
            earlier = any(write.arn == arn for write in simulator.writes)
            problems += [] if earlier else [f"{arn} is reported as rolled back, and was never written"]
    return problems


def _journal(root: Path, run_id: str, changes: list[dict[str, str]]) -> list[str]:
    store = FolderStore(root)
    entries = [entry for entry in journals_in(root).history() if entry.intent.run_id == run_id]
    open_ones = [entry for entry in entries if entry.outcome is None]
    problems = []
    if open_ones and f"state/open/{run_id}.json" not in store.list("state/open/"):
        problems.append(f"{len(open_ones)} entries of its journal are open, and no marker says so")
    reported = {change["function_arn"]: change["outcome"] for change in changes}
    settled = {entry.intent.function_arn: entry.outcome for entry in entries}
    for arn, end in settled.items():
        raced = end is not None and "concurrent_deploy" in end.detail  # read again, it was not sent again
        if end is not None and reported.get(arn) != end.outcome and not raced:
            problems.append(f"{arn}: the journal says {end.outcome}, changes.csv {reported.get(arn)}")
    return problems


def _numbers(summary: dict[str, Any], changes: Any, units: Any, functions: Any) -> list[str]:
    outcomes = Counter(change["outcome"] for change in changes)
    verdicts = Counter(function["verdict"] for function in functions)
    unread = sum(unit["outcome"] in UNREAD for unit in units)
    end = (
        "guard"
        if summary["stopped_by"]
        else "failed"
        if outcomes["failed"] or (summary["mode"] == "rollback" and not _all_as_before(changes))
        else "unread"
        if unread
        else "done"
    )
    truth = {
        "changed": outcomes["changed"],
        "failed": outcomes["failed"],
        "functions": len(functions),
        "units_expected": len(units),
        "units_read": sum(unit["outcome"] == "read" for unit in units),
        "exit_code": CODES[end],
        **{verdict: verdicts[verdict] for verdict in ("protected", "eligible", "skipped", "excluded")},
    }
    return [
        f"summary.json: {key} is {summary[key]}, the files say {n}"
        for key, n in truth.items()
        if summary[key] != n
    ]


def _all_as_before(changes: Any) -> bool:
    return all(change["as_before"] == "true" for change in changes)


def _plan(simulator: Simulator, plan: dict[str, Any], run_id: str, before: Before) -> list[str]:
    planned = {change["function_arn"] for change in plan["changes"]}
    return [
        f"{write.arn} was written and is not in the plan"
        for write in simulator.writes[before.writes :]
        if write.run_id == run_id
        and write.arn not in planned
        and write.before["LastUpdateStatus"] != "Failed"
    ]


def _ledger(simulator: Simulator, units: Any, functions: Any, before: Before) -> list[str]:
    expected = {(account, region) for account in simulator.accounts for region in REGIONS}
    reported = [(unit["account_id"], unit["region"]) for unit in units]
    problems = [] if Counter(reported) == Counter(expected) else ["units.csv does not hold each unit once"]
    seen = Counter((function["account_id"], function["region"]) for function in functions)
    gone = before.functions - set(simulator.functions())
    for unit in units:
        place = unit["account_id"], unit["region"]
        there = simulator.core.functions_of(*place)
        lost = sum(tuple(arn.split(":")[4:2:-1]) == place for arn in gone)
        count = int(unit["functions"])
        if unit["outcome"] == "read" and not len(there) <= count <= len(there) + lost:
            problems.append(f"{place}: {count} functions reported, {len(there)} are there")
        if unit["outcome"] == "read" and place[0] in simulator.denied:
            problems.append(f"{place} is reported as read, and refuses everyone")
        if seen[place] != count or (unit["outcome"] != "read" and seen[place]):
            problems.append(f"{place}: units.csv and functions.csv differ")
    return problems


def _protection(
    simulator: Simulator, functions: Any, changes: Any, before: Before, rules: Rules
) -> list[str]:
    problems = []
    written = {write.arn for write in simulator.writes[before.writes :]}
    for row in functions:
        arn = row["function_arn"]
        now = simulator.functions().get(arn)
        if now is None or simulator.owned[arn] != before.owned[arn]:
            continue
        truth = assessed(now, dict(simulator.core.functions[arn].tags), rules).protection
        if row["protection"] != truth and (arn not in written or row["protection"] == "protected"):
            problems.append(f"{arn} is reported as {row['protection']}, and is {truth}")
    return problems
