"""What the journals say of functions: which changes stand, and which of them a rollback is to take back."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from remediator.journal.journal import Entry, Journal, runs_with_journal
from remediator.journal.store import Store, run_folder
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput

# What a function was before a change, by what the change did.
_BEFORE: Mapping[str, str] = {"protect": "unprotected", "repair": "partial", "upgrade": "outdated"}


@dataclass(frozen=True)
class Undo:
    """What to take back from one function. entries: newest first; refusal: why nothing may be, "" where it may."""

    account_id: str
    region: str
    function_name: str
    function_arn: str
    entries: tuple[Entry, ...]
    refusal: str = ""
    action: Literal["rollback"] = "rollback"

    @property
    def protection_before(self) -> str:
        """Tell what the function was before the oldest of these entries; there must be some."""
        return _BEFORE[self.entries[-1].intent.action]


def select(store: Store, runs: Collection[str], function_arns: Collection[str]) -> list[Undo]:
    """Find what `rollback --run … --function …` is to take back: a function each, by ARN.

    Raises BadInput for what is no run id or no function's ARN, and for a run without a journal.
    """
    for arn in function_arns:
        if FunctionArn.parse(arn) is None:
            raise BadInput(
                f"'{arn}' is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME"
            )
    for run_id in runs:
        if store.read(f"{run_folder(run_id)}/journal.jsonl") is None:
            raise BadInput(f"run {run_id} has no journal in {store.url('runs')}: it changed nothing there")
    journalled = runs_with_journal(store)
    oldest = "" if function_arns else min(runs, default="")
    history = _by_function(store, [run_id for run_id in journalled if run_id >= oldest])
    asked = set(function_arns) | {
        arn for arn, entries in history.items() if any(entry.intent.run_id in runs for entry in entries)
    }
    return [_undo(arn, history.get(arn, ()), set(runs), whole=arn in function_arns) for arn in sorted(asked)]


def undo_each(store: Store, runs: Mapping[str, str]) -> list[Undo]:
    """Give what takes back a run's change of a function, a function each. runs: function ARN -> run id."""
    oldest = min(runs.values(), default="")
    history = _by_function(store, [run_id for run_id in runs_with_journal(store) if run_id >= oldest])
    return [_undo(arn, history.get(arn, ()), {runs[arn]}, whole=False) for arn in sorted(runs)]


def _by_function(store: Store, runs: Sequence[str]) -> Mapping[str, Sequence[Entry]]:
    """Give every function's changes, the newest first; rollbacks, and what was never made, are none."""
    history: defaultdict[str, list[Entry]] = defaultdict(list)
    for run_id in reversed(runs):
        for entry in reversed(Journal(store, run_id).entries()):
            if entry.stands or entry.undone_by:
                history[entry.intent.function_arn].append(entry)
    return history


def _undo(arn: str, entries: Sequence[Entry], runs: Collection[str], *, whole: bool) -> Undo:
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"a journal names '{arn}', which is no function ARN")
    standing = [entry for entry in entries if entry.stands]
    chosen = [entry for entry in standing if whole or entry.intent.run_id in runs]
    return Undo(
        function.account_id,
        function.region,
        function.name,
        arn,
        tuple(chosen),
        _refusal(entries, standing, chosen),
    )


def _refusal(entries: Sequence[Entry], standing: Sequence[Entry], chosen: Sequence[Entry]) -> str:
    """Say why nothing may be taken back: only what is on top may go, as nothing that came later is touched."""
    if not entries:
        return "no run has changed it"
    if not chosen:
        return f"already rolled back by run {next(e.undone_by for e in entries if e.undone_by)}"
    if chosen[0] is not standing[0]:
        later = standing[0].intent.run_id
        return f"run {later} has changed it since; roll that back too, or use --function"
    return ""
