"""One function's rollback, from the fresh read to its end: a generator that yields the seconds to wait."""

from collections import defaultdict
from dataclasses import dataclass

from remediator.change.api_errors import CALL_ERRORS, classify_error
from remediator.change.delta import DeltaAbsent, State, lacks_delta, remove_delta
from remediator.change.run_context import ChangeContext
from remediator.change.settlement import ChangeResult, Steps, refused, remove_tag
from remediator.change.update import (
    Configuration,
    Effect,
    Update,
    UpdateResult,
    busy,
    revision_of,
    send,
    state_of,
    verify_outcome,
)
from remediator.journal.history import Undo
from remediator.journal.journal import Entry, Intent, Journal
from remediator.journal.store import Store
from scanner.settings import EXEC_WRAPPER


@dataclass(frozen=True)
class DetachContext:
    """What all rollbacks of a run share. journal: the rollback's own; dry_run: tell, and send nothing."""

    run: ChangeContext
    store: Store
    journal: Journal
    dry_run: bool


@dataclass(frozen=True)
class _Way:
    """The way back of a function: what was read, what it is to carry, and the entries that go, newest first."""

    read: Configuration
    after: State
    going: tuple[Entry, ...]

    @property
    def detail(self) -> str:
        """Tell what goes, and what of ours stays because it was changed since."""
        before = state_of(self.read)
        gone = [arn for arn in before.layers if arn not in self.after.layers]
        back = [arn for arn in self.after.layers if arn not in before.layers]
        names, left = set(before.variables or ()), set(self.after.variables or ())
        added = {name for entry in self.going for name in entry.intent.delta.variables_added}
        parts = (
            ("takes out ", gone + sorted(names - left)),
            ("puts back ", back),
            ("keeps, changed since: ", sorted(added & left)),
        )
        return "; ".join(verb + ", ".join(things) for verb, things in parts if things)


def detach(taking: DetachContext, undo: Undo, intent_id: str) -> Steps:
    """Take the entries of one function back in one update, on condition of the revision read."""
    way = _way(taking, undo)
    if isinstance(way, ChangeResult):
        return way
    if taking.dry_run:
        return ChangeResult("planned", way.detail)
    if taking.run.stopping.is_set():
        return ChangeResult("deferred", "the run was stopped before it was sent")
    intent = _intent(taking.journal.run_id, intent_id, way)
    taking.journal.intend([intent])
    sent = yield from send(Update(_effect(taking.run, intent), way.read, way.after))
    return _end(taking.run, taking.store, intent, sent, way.detail)


def resume_detach(run: ChangeContext, store: Store, intent: Intent) -> Steps:
    """Find out what became of a rollback whose run was killed. Nothing is sent again."""
    sent = yield from verify_outcome(_effect(run, intent))
    return _end(run, store, intent, sent, "")


def _effect(run: ChangeContext, intent: Intent) -> Effect:
    values = run.values(intent)
    return Effect(run.function(intent), lambda state: lacks_delta(state, intent.delta, values), run.taken)


def _way(taking: DetachContext, undo: Undo) -> _Way | ChangeResult:
    if undo.refusal:
        return ChangeResult("dropped", undo.refusal)
    try:
        read = taking.run.function(undo).read()
    except CALL_ERRORS as error:
        return refused(classify_error(error))
    why = busy(read)
    if why:
        return ChangeResult("deferred", why)
    state, going, reason = state_of(read), [], ""
    for entry in undo.entries:
        try:
            state = remove_delta(state, entry.intent.delta, taking.run.values(entry.intent))
            going.append(entry)
        except DeltaAbsent as error:
            reason = reason or str(error)
    return _Way(read, state, tuple(going)) if going else ChangeResult("dropped", reason)


def _intent(run_id: str, intent_id: str, way: _Way) -> Intent:
    newest = way.going[0].intent
    before = state_of(way.read)
    return Intent(
        id=intent_id,
        run_id=run_id,
        action="rollback",
        account_id=newest.account_id,
        region=newest.region,
        function_name=newest.function_name,
        function_arn=newest.function_arn,
        family=newest.family,
        revision_id=revision_of(way.read),
        delta=newest.delta,
        layers_before=before.layers,
        wrapper_before=(before.variables or {}).get(EXEC_WRAPPER, ""),
        undoes=tuple((entry.intent.run_id, entry.intent.id) for entry in way.going),
        untag=any(entry.intent.action != "upgrade" for entry in way.going),
    )


def _end(run: ChangeContext, store: Store, intent: Intent, sent: UpdateResult, detail: str) -> ChangeResult:
    if sent.error is not None:
        return refused(sent.error, 1, intent)
    if sent.end == "done":
        return _taken_back(run, store, intent, detail)
    if sent.end == "failed":
        why = f"AWS took the update and could not carry it out ({sent.reason})"
        return ChangeResult("failed", why, 1, intent, taken=True)
    if sent.end == "replaced":
        return ChangeResult(
            "deferred", "replaced by another deployment while it settled", 1, intent, taken=True
        )
    if sent.end == "not_done":
        return ChangeResult("deferred", "lost_answer: read again, AWS has not done it", 1, intent)
    return ChangeResult("deferred", "not settled in time; the next run finds out", 1, intent, unsettled=True)


def _taken_back(run: ChangeContext, store: Store, intent: Intent, detail: str) -> ChangeResult:
    untagged = remove_tag(run.function(intent), run.defender.tag if intent.untag else None)
    ids: defaultdict[str, list[str]] = defaultdict(list)
    for run_id, entry_id in intent.undoes:
        ids[run_id].append(entry_id)
    for run_id, entries in ids.items():
        Journal(store, run_id).undone(entries, by=intent.run_id)
    return ChangeResult("rolled_back", "; ".join(filter(None, (detail, untagged))), 1, intent, taken=True)
