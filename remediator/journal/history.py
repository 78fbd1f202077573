"""The history of functions, by the journals: which changes are in effect, and what removes them."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from remediator.change.records import Intent, Undo
from remediator.journal.journal import Entry
from remediator.journal.journals import Journals
from remediator.state.functions import records
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)


def undo_each(journals: Journals, runs: Mapping[str, str]) -> list[Undo]:
    """Return what removes a run's change of a function with values that were replaced since, one Undo a function.

    runs: function ARN -> run id.
    """
    history = changes_by_function(entries_about(journals, runs.keys(), runs=runs.values()))
    return [
        undo(arn, history.get(arn, ()), _with_new_values(history.get(arn, ()), runs[arn]), whole=False)
        for arn in sorted(runs)
    ]


def _with_new_values(entries: Sequence[Entry], run_id: str) -> set[str]:
    """Return a run, and those that have only replaced values after it. entries: a function's changes, the newest first."""
    newer = takewhile(lambda entry: entry.intent.run_id != run_id, entries)
    return {run_id, *(entry.intent.run_id for entry in newer if not entry.intent.delta.reversible)}


def entries_about(
    journals: Journals,
    function_arns: Collection[str],
    *,
    account_ids: Collection[str] = (),
    runs: Collection[str] = (),
) -> list[Entry]:
    """Return the entries of the journals about some functions, and all of some accounts, oldest first.

    Read are the journals that the functions' records name, those that are not folded yet, and those of `runs`; all of
    them where that can't be known, for no state file that is broken or can't be read may stop a rollback.
    """
    try:
        known = records(journals.store, {*account_ids, *(arn.split(":")[4] for arn in function_arns)})
        named = {
            run_id
            for arn, record in known.items()
            if arn in function_arns or arn.split(":")[4] in account_ids
            for run_id in record.runs
        }
        entries = journals.of_runs({*runs, *named, *journals.unfolded_runs()})
    except (BadInput, StoreFailed) as error:
        log.warning("every journal is read, because %s", error)
        entries = journals.history()
    return [
        entry
        for entry in entries
        if entry.intent.function_arn in function_arns or entry.intent.account_id in account_ids
    ]


def variables_given(journals: Journals, function_arns: Collection[str]) -> Mapping[str, Collection[str]]:
    """Return the names of the variables that runs gave to functions, by ARN, of those that carry a change in effect."""
    given: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries_about(journals, set(function_arns)) if len(function_arns) else ():
        if entry.in_effect:
            delta = entry.intent.delta
            given[entry.intent.function_arn].update(delta.variables_added, delta.variables_changed)
    return given


def changes_by_function(entries: Sequence[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Return every function's changes, the newest first, without removals and rollbacks."""
    history: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in reversed(entries):
        if not entry.intent.removes:
            history[entry.intent.function_arn].append(entry)
    return history


def undo(
    arn: str, entries: Sequence[Entry], runs: Collection[str], *, whole: bool, named: bool = False
) -> Undo:
    """Return what removes the changes of some runs from a function. entries: all its changes. whole: of every run.

    named: the function is asked for by its ARN.
    """
    function = parsed_arn(arn)
    chosen = [entry for entry in entries if whole or entry.intent.run_id in runs]
    in_effect = [entry for entry in chosen if entry.in_effect]
    # What was rolled back, and is there nevertheless: only who names the function removes that, for its owner may have
    # deployed it. What was never made by what is known goes with the rest of a function.
    removed = [entry for entry in chosen if named or not entry.undone_by] if whole else in_effect
    return Undo(
        function.account_id,
        function.region,
        function.name,
        arn,
        _intents(removed),
        _refusal(entries, removed or chosen),
        undone=() if removed else _intents(chosen),
        undone_by=next((entry.undone_by for entry in chosen if entry.undone_by and not in_effect), ""),
        unsure=_intents([entry for entry in removed if in_effect and not entry.in_effect]),
    )


def parsed_arn(arn: str) -> FunctionArn:
    """Return a function's ARN in its parts; raise BadInput for what is none."""
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"'{arn}' is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME")
    return function


def _intents(entries: Sequence[Entry]) -> tuple[Intent, ...]:
    return tuple(entry.intent for entry in entries)


def _refusal(entries: Sequence[Entry], chosen: Sequence[Entry]) -> str:
    """Return why nothing may be removed: only the newest changes may, as nothing that came later is touched."""
    if not chosen:
        return "no run has changed it"
    newer = takewhile(lambda entry: entry is not chosen[0], entries)
    later = next((entry.intent.run_id for entry in newer if entry.in_effect), "")
    return f"run {later} has changed it since; roll that back too, or use --function" if later else ""


def entries_of(journals: Journals, function_arn: str) -> list[Entry]:
    """Return every entry of the journals about a function, rollbacks and what was not made included, oldest first."""
    return entries_about(journals, {function_arn})


@dataclass(frozen=True)
class Changed:
    """A function that carries a change: the run that made it, its wave, when (UTC) it began and was confirmed."""

    account_id: str
    region: str
    function_name: str
    function_arn: str
    run_id: str
    wave: str
    begun: datetime
    ended: datetime


def changed_since(journals: Journals, moment: datetime) -> list[Changed]:
    """Return each function that was changed since a moment and still carries the change; its newest one, by ARN.

    One that replaced values alone, which nobody can restore, does not stand for what was added shortly before it.
    """
    found: dict[str, Changed] = {}
    # A run changes things for hours at most after its start, which its id begins with.
    for entry in journals.history(moment.date() - timedelta(days=1)):
        if not entry.in_effect or entry.ended is None or entry.ended < moment:
            continue
        intent = entry.intent
        if intent.function_arn in found and not intent.delta.reversible:
            continue
        found[intent.function_arn] = Changed(
            intent.account_id,
            intent.region,
            intent.function_name,
            intent.function_arn,
            intent.run_id,
            intent.wave,
            entry.begun,
            entry.ended,
        )
    return [found[arn] for arn in sorted(found)]
