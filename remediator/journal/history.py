"""The history of functions, by the journals: which changes are in effect, and which of them a rollback removes."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from remediator.change.records import Intent, Undo
from remediator.journal.functions import records
from remediator.journal.journal import Entry
from remediator.journal.journals import Journals
from remediator.journal.store import started_at
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput
from storage.protocol import StoreFailed

log = logging.getLogger(__name__)


def select(journals: Journals, runs: Collection[str], function_arns: Collection[str]) -> list[Undo]:
    """Return what `rollback --run … --function …` is to remove, one Undo a function, by ARN.

    Raises BadInput for what is no run id or no function's ARN, for a run without a journal, and for a function that no
    run has changed.
    """
    for arn in function_arns:
        if FunctionArn.parse(arn) is None:
            raise BadInput(
                f"'{arn}' is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME"
            )
    for run_id in runs:
        started_at(run_id)
        if not journals.exists(run_id):
            raise BadInput(f"run {run_id} has no journal: it changed nothing")
    of_runs = {entry.intent.function_arn for entry in journals.of_runs(runs)}
    history = _by_function(_entries_of(journals, {*function_arns, *of_runs}, runs))
    for arn in function_arns:
        if arn not in history:
            refused = f"; of journals is refused: {journals.refused[0]}" if journals.refused else ""
            raise BadInput(
                f"no run has changed {arn}: check its account, region and name; explain shows its history{refused}"
            )
    asked = set(function_arns) | {
        arn
        for arn, entries in history.items()
        if any((entry.in_effect or entry.undone_by) and entry.intent.run_id in runs for entry in entries)
    }
    return [_undo(arn, history.get(arn, ()), set(runs), whole=arn in function_arns) for arn in sorted(asked)]


def undo_each(journals: Journals, runs: Mapping[str, str]) -> list[Undo]:
    """Return what removes a run's change of a function, one Undo a function. runs: function ARN -> run id."""
    history = _by_function(_entries_of(journals, runs.keys(), runs.values()))
    return [_undo(arn, history.get(arn, ()), {runs[arn]}, whole=False) for arn in sorted(runs)]


def _entries_of(
    journals: Journals, function_arns: Collection[str], runs: Collection[str] = ()
) -> list[Entry]:
    """Return the entries of the journals about some functions, oldest first. runs: whose journals are read in any case.

    Read are the journals that the functions' records name, and those that are not folded yet; all of them where that
    can't be known, for no state file that is broken or can't be read may stop a rollback.
    """
    try:
        known = records(journals.store, {arn.split(":")[4] for arn in function_arns})
        named = {run_id for arn in function_arns if arn in known for run_id in known[arn].runs}
        entries = journals.of_runs({*runs, *named, *journals.unfolded_runs()})
    except (BadInput, StoreFailed) as error:
        log.warning("every journal is read, because %s", error)
        entries = journals.history()
    return [entry for entry in entries if entry.intent.function_arn in function_arns]


def _by_function(entries: Sequence[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Return every function's changes, the newest first, without rollbacks."""
    history: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in reversed(entries):
        if entry.intent.action != "rollback":
            history[entry.intent.function_arn].append(entry)
    return history


def _undo(arn: str, entries: Sequence[Entry], runs: Collection[str], *, whole: bool) -> Undo:
    function = FunctionArn.parse(arn)
    if function is None:
        raise BadInput(f"a journal names '{arn}', which is no function ARN")
    chosen = [entry for entry in entries if whole or entry.intent.run_id in runs]
    in_effect = [entry for entry in chosen if entry.in_effect]
    # What was rolled back, or never made by what is known, and is there nevertheless: only who names the function
    # removes that, for its owner may have deployed it.
    removed = chosen if whole else in_effect
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
    return _entries_of(journals, {function_arn})


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
    """Return each function that was changed since a moment and still carries the change; its newest one, by ARN."""
    found: dict[str, Changed] = {}
    # A run changes things for hours at most after its start, which its id begins with.
    for entry in journals.history(moment.date() - timedelta(days=1)):
        if not entry.in_effect or entry.ended is None or entry.ended < moment:
            continue
        intent = entry.intent
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
