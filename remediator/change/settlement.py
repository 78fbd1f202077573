"""From the result of an update to the result of its change: removed where AWS failed, tagged where it succeeded."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.batcher import Wait
from remediator.change.delta import DeltaAbsent, is_without, lacks_delta, remove_delta
from remediator.change.records import ChangeResult, Intent, Outcome
from remediator.change.update import (
    Configuration,
    Effect,
    Function,
    Update,
    UpdateResult,
    revision_of,
    send,
    state_of,
)
from scanner.core.settings import Tag

Steps = Generator[Wait, None, ChangeResult]


def refused(error: ApiError, attempts: int = 0, intent: Intent | None = None) -> ChangeResult:
    """Return the result of a change that AWS refused, at the read or at the update."""
    return ChangeResult(error.outcome, str(error), attempts, intent, error=error)


@dataclass(frozen=True)
class Settlement:
    """A change whose update was sent.

    values: our variables. tag: what a protected function gets. earlier: the values that were replaced, where known.
    """

    function: Function
    intent: Intent
    values: Mapping[str, str]
    tag: Tag | None
    attempts: int
    earlier: Mapping[str, str]

    def finish(self, update: UpdateResult) -> Steps:
        """Bring the change to its end."""
        if update.status == "failed":
            return (yield from self._remove(update))
        if update.status == "done":
            return self._result("changed", set_tag(self.function, self.tag), accepted=True)
        return self._not_made(update)

    def _not_made(self, update: UpdateResult) -> ChangeResult:
        if update.error is not None:
            return refused(update.error, self.attempts, self.intent)
        if update.status == "replaced":
            why = "replaced by another deployment while it settled"
            return self._found(update, self._result("deferred", why, accepted=True))
        if update.status == "not_done":
            return self._found(
                update, self._result("deferred", "lost_answer: read again, AWS has not done it")
            )
        unknown = self._result("deferred", "not settled in time; the next run finds out", accepted=True)
        return replace(unknown, unsettled=True)

    def _found(self, update: UpdateResult, result: ChangeResult) -> ChangeResult:
        """Say whether a part of the change is on the function: a deployment may replace layers or variables alone."""
        if update.configuration is None or is_without(
            state_of(update.configuration), self.intent.delta, self.values
        ):
            return result
        return replace(result, detail=f"{result.detail}; a part of it is on the function", left=True)

    def _remove(self, update: UpdateResult) -> Steps:
        """Remove our delta after LastUpdateStatus Failed, while the deployment is still ours."""
        failed = f"AWS took the update and could not carry it out ({update.reason})"
        if not update.ours or update.configuration is None:
            return self._left(f"{failed}; someone else has deployed since: left unchanged")
        try:
            after = remove_delta(state_of(update.configuration), self.intent.delta, self.values, self.earlier)
        except DeltaAbsent as error:
            return self._removed(f"{failed}; nothing to remove: {error}", update.configuration)
        effect = Effect(
            self.function, lambda state: lacks_delta(state, self.intent.delta, self.values, self.earlier)
        )
        back = yield from send(Update(effect, update.configuration, after))
        if back.configuration and effect.is_done(state_of(back.configuration)):
            return self._removed(f"{failed}; it was removed again", back.configuration)
        return self._left(f"{failed}; it could not be removed again ({back.error or back.status})")

    def _left(self, detail: str) -> ChangeResult:
        return replace(self._result("failed", detail, accepted=True), left=True)

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
