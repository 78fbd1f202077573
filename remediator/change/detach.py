"""Removes what was added to one function: a generator that yields the seconds to wait."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.context import ChangeContext
from remediator.change.delta import (
    Delta,
    DeltaAbsent,
    State,
    are_without,
    deltas_of_ours,
    is_without,
    kept_variables,
    other_values,
    remove_delta,
    remove_deltas,
)
from remediator.change.desired_state import Ours, ours_on
from remediator.change.records import (
    NOTHING,
    UNKNOWN,
    Carried,
    ChangeResult,
    Intent,
    Item,
    OutcomeRecord,
    Undo,
)
from remediator.change.settlement import Steps, refused, remove_tag, stopped
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
from scanner.core.arns import LayerVersion
from scanner.risk.protection import family_of
from scanner.settings import EXEC_WRAPPER, DefenderSettings, Family

# Another deployment came between read and update, or is under way: read once more, then report it.
_READS = 2
_CONFLICTS = {"concurrent_deploy", "conflict"}
# Most updates settle within two seconds.
_PAUSE_SECONDS = (2.0, 4.0)


@dataclass(frozen=True)
class DetachContext:
    """What all rollbacks of a run share.

    run_id: the rollback's own. record_intents, record_outcomes: write to its journal. dry_run: send nothing.
    """

    run: ChangeContext
    run_id: str
    record_intents: Callable[[Sequence[Intent]], None]
    record_outcomes: Callable[[Sequence[OutcomeRecord]], None]
    dry_run: bool


@dataclass(frozen=True)
class _Removal:
    """What was read, what the function carries afterwards, and what is removed, the newest first.

    deltas: what was gone already and replaced values included. undoes: the changes, each by run id and intent id, that
    are no longer in effect then. installed: one of what goes gave the function its layer or its wrapper.
    """

    read: Configuration
    after: State
    family: Family
    delta: Delta
    deltas: tuple[Delta, ...]
    installed: bool
    undoes: tuple[tuple[str, str], ...] = ()

    @property
    def detail(self) -> str:
        """Return what goes, and what comes back."""
        before = state_of(self.read)
        gone = [arn for arn in before.layers if arn not in self.after.layers]
        back = [arn for arn in self.after.layers if arn not in before.layers]
        names, left = set(before.variables or ()), set(self.after.variables or ())
        parts = (
            ("removes ", gone + sorted(names - left)),
            ("restores ", back),
        )
        return "; ".join(verb + ", ".join(things) for verb, things in parts if things)


def _kept(run: ChangeContext, item: Undo | Intent, state: State, deltas: Sequence[Delta]) -> str:
    """Return which variables may not be as they were, as a detail: nobody knows whose value they have, or had."""
    by_reading = item.by_reading if isinstance(item, Undo) else not item.undoes
    if by_reading:
        return other_values(state, _ours(run.defender, item))
    added, replaced = kept_variables(state, deltas)
    parts = (
        ("keeps, changed since: ", added, " (by its owner, or ours of an earlier configuration)"),
        ("keeps the value that a run gave, the one before is not known: ", replaced, ""),
    )
    return "; ".join(verb + ", ".join(names) + why for verb, names, why in parts if names)


def _joined(*details: str) -> str:
    return "; ".join(filter(None, details))


def detach(context: DetachContext, undo: Undo, name: str) -> Steps:
    """Remove the changes of one function in one update, on condition of the revision read; after a conflict, once more.

    name: the prefix of its intents' ids.
    """
    sent = 0
    for attempt in range(1, _READS + 1):
        result = yield from _attempt(context, undo, f"{name}.{attempt}")
        sent += result.attempts
        result = replace(result, attempts=sent)
        if attempt == _READS or result.error is None or result.error.kind not in _CONFLICTS:
            return result
        if result.intent is not None:
            refusal = OutcomeRecord(result.intent.id, result.outcome, result.detail, sent)
            context.record_outcomes([refusal])
        yield random.uniform(*_PAUSE_SECONDS)  # noqa: S311 - spreads reads, keeps no secret
    raise AssertionError("the last attempt returns")


def resume_detach(run: ChangeContext, intent: Intent) -> Steps:
    """Find out how a rollback of a killed run ended. Nothing is sent again."""
    update = yield from verify_outcome(_effect(run, intent))
    return _finish(run, intent, update, "")


def carries_nothing(run: ChangeContext, undo: Undo) -> bool:
    """Return whether a function does not exist, or carries nothing of ours; False where that can't be read."""
    try:
        state = state_of(run.function(undo).read())
    except CALL_ERRORS as error:
        return classify_error(error).kind == "gone"
    try:
        return not deltas_of_ours(state, _ours(run.defender, undo))
    except DeltaAbsent:
        return False


def _ours(defender: DefenderSettings, item: Item) -> Ours:
    return ours_on(defender, item.region, item.account_id, item.function_name)


def our_layers(defender: DefenderSettings, undo: Undo) -> tuple[LayerVersion, ...]:
    """Return the layers that are ours on a function: what runs added to it, and what the configuration names."""
    added = [intent.delta.layer or "" for intent in (*undo.intents, *undo.undone)]
    configured = defender.all_layers(undo.region, undo.account_id)
    return (*filter(None, map(LayerVersion.parse, added)), *configured)


def versions_of_ours(layers: Sequence[str], ours: Sequence[LayerVersion]) -> list[str]:
    """Return which of some layers (ARNs) are versions of ours."""
    parsed = ((arn, LayerVersion.parse(arn)) for arn in layers)
    return [arn for arn, found in parsed if found and any(found.same_layer(layer) for layer in ours)]


def _attempt(context: DetachContext, undo: Undo, intent_id: str) -> Steps:
    run = context.run
    try:
        read = run.function(undo).read()
    except CALL_ERRORS as error:
        return _refused(classify_error(error))
    before = _carried(run, undo, state_of(read))
    removal = _removal(run, undo, read)
    if isinstance(removal, ChangeResult):
        return replace(removal, before=before, after=before)
    if context.dry_run:
        after = _carried(run, undo, removal.after)
        kept = _kept(run, undo, removal.after, removal.deltas)
        return ChangeResult("planned", _joined(removal.detail, kept), before=before, after=after)
    if run.stopping.is_set():
        why = "the run was stopped before it was sent"
        return ChangeResult("deferred", why, before=before, after=before, untouched=True)
    intent = _intent(context.run_id, intent_id, undo, removal)
    context.record_intents([intent])
    update = yield from send(Update(_effect(run, intent), removal.read, removal.after, run.may_remove))
    result = _finish(run, intent, update, removal.detail)
    if update.configuration is not None and update.status != "unknown":
        return replace(result, before=before, after=_carried(run, undo, state_of(update.configuration)))
    unchanged = update.status in {"refused", "stopped", "not_done"}
    return replace(result, before=before, after=result.after or (before if unchanged else None))


def _effect(run: ChangeContext, intent: Intent) -> Effect:
    values = run.values(intent)
    return Effect(
        run.function(intent), lambda state: are_without(state, intent.all_deltas, values), run.on_accepted
    )


def _carried(run: ChangeContext, undo: Undo, state: State) -> Carried:
    layers = versions_of_ours(state.layers, our_layers(run.defender, undo))
    wrapper = UNKNOWN if state.variables is None else state.variables.get(EXEC_WRAPPER, "")
    return Carried(" ".join(layers), wrapper)


def _refused(error: ApiError, attempts: int = 0, intent: Intent | None = None) -> ChangeResult:
    """Return the result of a read or an update that AWS refused; a function that is gone carries nothing of ours."""
    gone = error.kind == "gone"
    carries = NOTHING if gone else None
    return replace(
        refused(error, attempts, intent), before=carries, after=carries, as_before=gone, untouched=True
    )


def _removal(run: ChangeContext, undo: Undo, read: Configuration) -> _Removal | ChangeResult:
    if undo.refusal:
        return _dropped(undo.refusal)
    if why := busy(read):
        return ChangeResult("deferred", why, error=ApiError("conflict", why, "deferred"), untouched=True)
    return _of_all_that_is_ours(run, undo, read) if undo.by_reading else _of_changes(run, undo, read)


def _of_changes(run: ChangeContext, undo: Undo, read: Configuration) -> _Removal | ChangeResult:
    state, removed, reason = state_of(read), [], ""
    for intent in undo.intents:
        values = run.values(intent)
        try:
            state = remove_delta(state, intent.delta, values)
            removed.append(intent)
        except DeltaAbsent as error:
            reason = str(error)
            # All or nothing: a layer that stays without its variables is not what anyone asked for.
            if intent not in undo.unsure and not is_without(state, intent.delta, values):
                return _dropped(reason)
    if removed:
        asked = [intent for intent in undo.intents if intent in removed or intent not in undo.unsure]
        return _Removal(
            read,
            state,
            removed[0].family,
            removed[0].delta,
            tuple(intent.delta for intent in asked),
            any(intent.delta.installs for intent in removed),
            tuple((intent.run_id, intent.id) for intent in asked),
        )
    if undo.intents and not any(intent.delta.reversible for intent in undo.intents):
        return _dropped(reason)
    return _nothing_left(run, undo, read)


def _of_all_that_is_ours(run: ChangeContext, undo: Undo, read: Configuration) -> _Removal | ChangeResult:
    state, ours = state_of(read), _ours(run.defender, undo)
    try:
        deltas = deltas_of_ours(state, ours)
    except DeltaAbsent as error:
        return _dropped(str(error))
    if not deltas:
        return _nothing_left(run, undo, read)
    after = remove_deltas(state, deltas, ours.variables)
    family = family_of(str(read.get("Runtime")))
    configured = family if family in run.defender.layers else next(iter(run.defender.layers))
    return _Removal(read, after, configured, deltas[0], deltas, any(delta.installs for delta in deltas))


def _nothing_left(run: ChangeContext, undo: Undo, read: Configuration) -> ChangeResult:
    """Return the result for a function that carries none of the changes asked for."""
    state = state_of(read)
    if not all(is_without(state, intent.delta, run.values(intent)) for intent in undo.undone):
        why = f"already rolled back by run {undo.undone_by}, and deployed again since; --function removes it"
        return _dropped(why)
    by = f"already rolled back by run {undo.undone_by}" if undo.undone_by else ""
    kept = _kept(run, undo, state, [intent.delta for intent in (*undo.intents, *undo.undone)])
    text = _joined(by or "it no longer carries what was added", kept)
    return ChangeResult("dropped", text, as_before=not kept)


def _dropped(why: str) -> ChangeResult:
    return ChangeResult("dropped", why, untouched=True)


def _intent(run_id: str, intent_id: str, undo: Undo, removal: _Removal) -> Intent:
    before = state_of(removal.read)
    return Intent(
        id=intent_id,
        run_id=run_id,
        action="rollback",
        account_id=undo.account_id,
        region=undo.region,
        function_name=undo.function_name,
        function_arn=undo.function_arn,
        family=removal.family,
        revision_id=revision_of(removal.read),
        delta=removal.delta,
        layers_before=before.layers,
        wrapper_before=(before.variables or {}).get(EXEC_WRAPPER, ""),
        undoes=removal.undoes,
        untag=removal.installed,
        deltas=removal.deltas,
    )


def _finish(
    run: ChangeContext,
    intent: Intent,
    update: UpdateResult,
    detail: str,
) -> ChangeResult:
    if update.error is not None:
        return _refused(update.error, 1, intent)
    if update.stop is not None:
        return replace(stopped(update.stop, 0, intent), untouched=True)
    if update.status == "done":
        still_tagged = remove_tag(run.function(intent), run.defender.tag if intent.untag else None)
        kept = _kept(run, intent, state_of(update.configuration or {}), intent.all_deltas)
        text = _joined(detail, kept, still_tagged)
        return ChangeResult("rolled_back", text, 1, intent, accepted=True, as_before=not kept)
    if update.status == "failed":
        why = f"AWS took the update and could not carry it out ({update.reason})"
        return ChangeResult("failed", why, 1, intent, accepted=True)
    if update.status == "replaced":
        why = "replaced by another deployment while it settled"
        return ChangeResult("deferred", why, 1, intent, accepted=True)
    if update.status == "not_done":
        return ChangeResult("deferred", "lost_answer: read again, AWS has not done it", 1, intent)
    return ChangeResult("deferred", update.why_unknown, 1, intent, unsettled=True)
