"""Removes what was added to one function: a generator that yields the seconds to wait."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remediator.change.api_errors import CALL_ERRORS, classify_error
from remediator.change.context import ChangeContext
from remediator.change.delta import DeltaAbsent, State, lacks_delta, remove_delta
from remediator.change.records import ChangeResult, Intent, Undo
from remediator.change.settlement import Steps, refused, remove_tag
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
from scanner.settings import EXEC_WRAPPER


@dataclass(frozen=True)
class DetachContext:
    """What all rollbacks of a run share.

    run_id: the rollback's own. record_intents: makes intents durable. dry_run: send nothing.
    """

    run: ChangeContext
    run_id: str
    record_intents: Callable[[Sequence[Intent]], None]
    dry_run: bool


@dataclass(frozen=True)
class _Removal:
    """What was read, what the function carries afterwards, and the changes that are removed, newest first."""

    read: Configuration
    after: State
    removed: tuple[Intent, ...]

    @property
    def detail(self) -> str:
        """Return what goes, and what of ours stays because it was changed since."""
        before = state_of(self.read)
        gone = [arn for arn in before.layers if arn not in self.after.layers]
        back = [arn for arn in self.after.layers if arn not in before.layers]
        names, left = set(before.variables or ()), set(self.after.variables or ())
        added = {name for intent in self.removed for name in intent.delta.variables_added}
        parts = (
            ("removes ", gone + sorted(names - left)),
            ("restores ", back),
            ("keeps, changed since: ", sorted(added & left)),
        )
        return "; ".join(verb + ", ".join(things) for verb, things in parts if things)


def detach(context: DetachContext, undo: Undo, intent_id: str) -> Steps:
    """Remove the changes of one function in one update, on condition of the revision read."""
    removal = _removal(context.run, undo)
    if isinstance(removal, ChangeResult):
        return removal
    if context.dry_run:
        return ChangeResult("planned", removal.detail)
    if context.run.stopping.is_set():
        return ChangeResult("deferred", "the run was stopped before it was sent")
    intent = _intent(context.run_id, intent_id, removal)
    context.record_intents([intent])
    update = yield from send(Update(_effect(context.run, intent), removal.read, removal.after))
    return _finish(context.run, intent, update, removal.detail)


def resume_detach(run: ChangeContext, intent: Intent) -> Steps:
    """Find out how a rollback of a killed run ended. Nothing is sent again."""
    update = yield from verify_outcome(_effect(run, intent))
    return _finish(run, intent, update, "")


def _effect(run: ChangeContext, intent: Intent) -> Effect:
    values = run.values(intent)
    return Effect(
        run.function(intent), lambda state: lacks_delta(state, intent.delta, values), run.on_accepted
    )


def _removal(run: ChangeContext, undo: Undo) -> _Removal | ChangeResult:
    if undo.refusal:
        return ChangeResult("dropped", undo.refusal)
    try:
        read = run.function(undo).read()
    except CALL_ERRORS as error:
        return refused(classify_error(error))
    why = busy(read)
    if why:
        return ChangeResult("deferred", why)
    state, removed, reason = state_of(read), [], ""
    for intent in undo.intents:
        try:
            state = remove_delta(state, intent.delta, run.values(intent))
            removed.append(intent)
        except DeltaAbsent as error:
            reason = reason or str(error)
    return _Removal(read, state, tuple(removed)) if removed else ChangeResult("dropped", reason)


def _intent(run_id: str, intent_id: str, removal: _Removal) -> Intent:
    newest = removal.removed[0]
    before = state_of(removal.read)
    return Intent(
        id=intent_id,
        run_id=run_id,
        action="rollback",
        account_id=newest.account_id,
        region=newest.region,
        function_name=newest.function_name,
        function_arn=newest.function_arn,
        family=newest.family,
        revision_id=revision_of(removal.read),
        delta=newest.delta,
        layers_before=before.layers,
        wrapper_before=(before.variables or {}).get(EXEC_WRAPPER, ""),
        undoes=tuple((intent.run_id, intent.id) for intent in removal.removed),
        untag=any(intent.delta.installs for intent in removal.removed),
    )


def _finish(
    run: ChangeContext,
    intent: Intent,
    update: UpdateResult,
    detail: str,
) -> ChangeResult:
    if update.error is not None:
        return refused(update.error, 1, intent)
    if update.status == "done":
        still_tagged = remove_tag(run.function(intent), run.defender.tag if intent.untag else None)
        text = "; ".join(filter(None, (detail, still_tagged)))
        return ChangeResult("rolled_back", text, 1, intent, accepted=True)
    if update.status == "failed":
        why = f"AWS took the update and could not carry it out ({update.reason})"
        return ChangeResult("failed", why, 1, intent, accepted=True)
    if update.status == "replaced":
        why = "replaced by another deployment while it settled"
        return ChangeResult("deferred", why, 1, intent, accepted=True)
    if update.status == "not_done":
        return ChangeResult("deferred", "lost_answer: read again, AWS has not done it", 1, intent)
    return ChangeResult("deferred", "not settled in time; the next run finds out", 1, intent, unsettled=True)
