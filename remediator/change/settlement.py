"""From the result of an update to the result of its change: removed where AWS failed, tagged where it succeeded."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.batcher import Wait
from remediator.change.context import ChangeContext
from remediator.change.delta import (
    DeltaAbsent,
    DeltaUnreadable,
    State,
    is_without,
    lacks_delta,
    other_values,
    remove_delta,
    values_before,
)
from remediator.change.desired_state import ours_on
from remediator.change.records import ChangeResult, Intent, Outcome
from remediator.change.update import (
    Configuration,
    Effect,
    Function,
    Update,
    UpdateResult,
    revision_of,
    same_update,
    send,
    state_of,
)
from scanner.core.errors import GuardStop
from scanner.core.settings import Tag

Steps = Generator[Wait, None, ChangeResult]
# How often a removal is sent whose answers are lost; each takes ten seconds to find out about.
_REMOVALS = 3


def refused(error: ApiError, attempts: int = 0, intent: Intent | None = None) -> ChangeResult:
    """Return the result of a change that AWS refused, at the read or at the update."""
    return ChangeResult(error.outcome, str(error), attempts, intent, error=error)


def stopped(stop: GuardStop, attempts: int, intent: Intent) -> ChangeResult:
    """Return the result of a change that a guard stopped right before it was sent."""
    return ChangeResult("deferred", f"stopped by the guard '{stop.guard}'", attempts, intent, stopped_by=stop)


@dataclass(frozen=True)
class Settlement:
    """A change that was sent, or was about to be. earlier: the values that it replaces, where known."""

    run: ChangeContext
    intent: Intent
    attempts: int
    earlier: Mapping[str, str]

    def finish(self, update: UpdateResult) -> Steps:
        """Bring the change to its end."""
        if update.status == "failed" and update.configuration is not None:
            failed = f"AWS took the update and could not carry it out ({update.reason})"
            if self.intent.removes:
                return self._result("failed", failed, accepted=True)
            if not update.ours:
                return self._left(failed)
            return (yield from self._remove(failed, update.configuration))
        if update.status == "done":
            return self._result("changed", self._made(update), accepted=True)
        return self._not_made(update)

    def _made(self, update: UpdateResult) -> str:
        """Set our tag, or remove it; return a detail where that failed, and of a removal what stays."""
        intent, defender, function = self.intent, self.run.defender, self.run.function(self.intent)
        if not intent.removes:
            return set_tag(function, defender.tag)
        ours = ours_on(defender, intent.region, intent.account_id, intent.function_name)
        state = state_of(update.configuration or {})
        still_tagged = remove_tag(function, defender.tag if intent.untag else None)
        details = other_values(state, ours), values_before(state, ours), still_tagged
        return "; ".join(filter(None, details))

    def _not_made(self, update: UpdateResult) -> ChangeResult:
        if update.error is not None:
            return refused(update.error, self.attempts, self.intent)
        if update.stop is not None:
            return stopped(update.stop, self.attempts - 1, self.intent)
        if update.status == "replaced":
            why = "replaced by another deployment while it settled"
            return self._found(update, self._result("deferred", why, accepted=True))
        if update.status == "not_done":
            return self._found(
                update, self._result("deferred", "lost_answer: read again, AWS has not done it")
            )
        return replace(self._result("deferred", update.why_unknown, accepted=True), unsettled=True)

    def _found(self, update: UpdateResult, result: ChangeResult) -> ChangeResult:
        """Say whether a part of the change is on the function: a deployment may replace layers or variables alone."""
        read = update.configuration
        if read is None or self.intent.removes or is_without(state_of(read), self.intent.delta, self._values):
            return result
        return replace(result, detail=f"{result.detail}; a part of it is on the function", left=True)

    def _remove(self, failed: str, read: Configuration, tries: int = _REMOVALS) -> Steps:
        """Remove our delta from a function that an update of ours left Failed, while nobody else has deployed since.

        A removal whose answer was lost, and that AWS has not done, is sent again on condition of the revision that
        shows it. What can't be removed now stays open in the journal, and the next run goes on with it.
        """
        try:
            after = remove_delta(state_of(read), self.intent.delta, self._values, self.earlier)
        except DeltaUnreadable as error:
            return self._still_there(f"{failed}; it could not be removed again ({error})")
        except DeltaAbsent as error:
            return self._removed(f"{failed}; nothing to remove: {error}", read)
        effect = Effect(self.run.function(self.intent), self._is_removed)
        removal = yield from send(Update(effect, read, after, self.run.may_remove))
        if removal.status == "not_done" and removal.configuration is not None and tries > 1:
            if not same_update(read, removal.configuration):
                return self._left(failed)
            return (yield from self._remove(failed, removal.configuration, tries - 1))
        return self._after_removal(failed, removal)

    def _after_removal(self, failed: str, removal: UpdateResult) -> ChangeResult:
        kind = removal.error.kind if removal.error else ""
        read = removal.configuration
        if read and (removal.status == "done" or self._is_removed(state_of(read))):
            return self._removed(f"{failed}; it was removed again", read)
        if removal.error and kind == "gone":
            return replace(refused(removal.error, self.attempts, self.intent), accepted=True)
        if removal.status == "replaced" or kind == "concurrent_deploy":
            return self._left(failed)
        why = removal.error or (removal.stop and f"stopped by the guard '{removal.stop.guard}'")
        there = self._still_there(f"{failed}; it could not be removed again ({why or removal.status})")
        return replace(there, stopped_by=removal.stop)

    @property
    def _values(self) -> Mapping[str, str]:
        return self.run.values(self.intent)

    def _is_removed(self, state: State) -> bool | None:
        return lacks_delta(state, self.intent.delta, self._values, self.earlier)

    def _left(self, failed: str) -> ChangeResult:
        detail = f"{failed}; someone else has deployed since: left unchanged"
        return replace(self._result("failed", detail, accepted=True), left=True)

    def _still_there(self, detail: str) -> ChangeResult:
        open_ = self._result("failed", f"{detail}; the next run tries again", accepted=True)
        return replace(open_, left=True, unsettled=True)

    def _removed(self, detail: str, configuration: Configuration) -> ChangeResult:
        return replace(
            self._result("failed", detail, accepted=True), clean_revision=revision_of(configuration)
        )

    def _result(self, outcome: Outcome, detail: str, *, accepted: bool = False) -> ChangeResult:
        return ChangeResult(outcome, detail, self.attempts, self.intent, accepted=accepted)


def set_tag(function: Function, tag: Tag | None) -> str:
    """Tag a function whose protection is confirmed; return a detail where that failed, for the change is made."""
    if tag is None:
        return ""
    try:
        function.call("tag_resource", write=True, Resource=function.arn, Tags={tag.key: tag.value})
    except CALL_ERRORS as error:
        return f"not tagged: {classify_error(error)}"
    return ""


def remove_tag(function: Function, tag: Tag | None) -> str:
    """Remove our tag while its value is ours; return a detail where that failed."""
    if tag is None:
        return ""
    try:
        tags = function.call("list_tags", Resource=function.arn).get("Tags", {})
        if tags.get(tag.key) == tag.value:
            function.call("untag_resource", write=True, Resource=function.arn, TagKeys=[tag.key])
    except CALL_ERRORS as error:
        return f"still tagged: {classify_error(error)}"
    return ""
