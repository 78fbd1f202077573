"""What a rollback selects: the changes of runs, and all that runs added to functions, accounts and waves."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from remediator.change.records import Undo
from remediator.journal.history import changes_by_function, entries_about, parsed_arn, undo
from remediator.journal.journal import Entry
from remediator.journal.journals import Journals
from remediator.state.store import started_at
from scanner.core.errors import BadInput

_ACCOUNT_ID = re.compile("[0-9]{12}")


@dataclass(frozen=True)
class Selection:
    """What a rollback is asked to remove: the changes of runs, and all that runs added to functions.

    functions: by ARN, whatever is known of them. accounts, waves, everything: each function that carries a change in
    effect, of these accounts, made in these waves, at all.
    """

    runs: Collection[str] = ()
    functions: Collection[str] = ()
    accounts: Collection[str] = ()
    waves: Collection[str] = ()
    everything: bool = False

    @property
    def by_journals(self) -> bool:
        """Return whether the journals alone say which functions it is about: a journal that is refused may name more."""
        return bool(self.accounts or self.waves or self.everything)

    def is_whole(self, arn: str, entries: Sequence[Entry]) -> bool:
        """Return whether all that runs added to a function goes. entries: its changes."""
        return arn in self.functions or any(
            self.everything or entry.intent.account_id in self.accounts or entry.intent.wave in self.waves
            for entry in entries
            if entry.in_effect
        )

    def names_run_of(self, entries: Sequence[Entry]) -> bool:
        """Return whether one of the runs made one of these changes, rolled back since or not."""
        return any(
            (entry.in_effect or entry.undone_by) and entry.intent.run_id in self.runs for entry in entries
        )


def select(journals: Journals, selection: Selection, configured_waves: Collection[str] = ()) -> list[Undo]:
    """Return what a rollback is to remove, one Undo a function, by ARN.

    Of a function that is named and that no run has changed, all of ours that it carries when it is read. Raises BadInput
    for what is no run id, function ARN or account id, for a run without a journal, for an account in which no run has
    changed a function, and for a wave that is neither configured nor in a journal.
    """
    _check_form(selection)
    for run_id in selection.runs:
        started_at(run_id)
        if not journals.exists(run_id):
            raise BadInput(f"run {run_id} has no journal: it changed nothing")
    entries = _entries(journals, selection)
    history = changes_by_function(entries)
    _check_known(selection, history, configured_waves)
    whole = {arn for arn, changes in history.items() if selection.is_whole(arn, changes)}
    of_runs = {arn for arn, changes in history.items() if selection.names_run_of(changes)}
    undos = [
        undo(arn, history[arn], selection.runs, whole=arn in whole, named=arn in selection.functions)
        for arn in whole | of_runs
    ]
    undos += _by_reading(set(selection.functions) - history.keys(), entries)
    return sorted(undos, key=lambda undo: undo.function_arn)


def _entries(journals: Journals, selection: Selection) -> list[Entry]:
    """Return what is known of the functions that may be selected.

    A wave's may be anywhere. One without a record was forgotten, or was never changed: all journals together say which.
    """
    if selection.waves or selection.everything:
        return journals.history()
    of_runs = {entry.intent.function_arn for entry in journals.of_runs(selection.runs)}
    entries = entries_about(
        journals, {*selection.functions, *of_runs}, account_ids=selection.accounts, runs=selection.runs
    )
    recorded = {entry.intent.function_arn for entry in entries}
    return entries if recorded.issuperset(selection.functions) else journals.history()


def _by_reading(arns: Collection[str], entries: Sequence[Entry]) -> Iterator[Undo]:
    """Yield what removes all of ours from functions that no run has changed; a rollback may have done so already."""
    removed = {
        entry.intent.function_arn: entry.intent.run_id
        for entry in entries
        if entry.intent.removes and entry.outcome and entry.outcome.outcome in {"changed", "rolled_back"}
    }
    for arn in arns:
        function = parsed_arn(arn)
        yield Undo(
            function.account_id,
            function.region,
            function.name,
            arn,
            (),
            undone_by=removed.get(arn, ""),
            by_reading=True,
        )


def _check_form(selection: Selection) -> None:
    for arn in selection.functions:
        parsed_arn(arn)
    for account_id in selection.accounts:
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise BadInput(f"'{account_id}' is no account id; expected its 12 digits")


def _check_known(
    selection: Selection, history: Mapping[str, Sequence[Entry]], configured_waves: Collection[str]
) -> None:
    intents = [entry.intent for entries in history.values() for entry in entries]
    accounts = {intent.account_id for intent in intents}
    for account_id in selection.accounts:
        if account_id not in accounts:
            raise BadInput(f"no run has changed a function of the account {account_id}: check its id")
    waves = {intent.wave for intent in intents if intent.wave}.union(configured_waves)
    for wave in selection.waves:
        if wave not in waves:
            known = ", ".join(sorted(waves)) or "none"
            raise BadInput(f"no wave is called '{wave}'; configured or in a journal: {known}")
