"""From what became of an update to what becomes of its change: taken back where AWS failed, tagged where it held."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from remediator.change.api_errors import CALL_ERRORS, ApiError, classify_error
from remediator.change.batcher import Wait
from remediator.change.delta import DeltaAbsent, lacks_delta, remove_delta
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
from remediator.journal.journal import Intent, Outcome
from scanner.settings import Tag


@dataclass(frozen=True)
class ChangeResult:
    """How a change ended.

    intent: its journal entry, None where nothing was about to be sent. unsettled: the entry stays open.
    left: it failed, and is still on the function. taken: AWS had taken it. error: the refusal, where there was one.
    free_at: the function's revision without the change, where AWS took it, failed at it, and it is gone again.
    """

    outcome: Outcome
    detail: str = ""
    attempts: int = 0
    intent: Intent | None = None
    unsettled: bool = False
    left: bool = False
    taken: bool = False
    error: ApiError | None = None
    free_at: str = ""


Steps = Generator[Wait, None, ChangeResult]


def refused(error: ApiError, attempts: int = 0, intent: Intent | None = None) -> ChangeResult:
    """Give the end of a change that AWS refused, at the read or at the update."""
    return ChangeResult(error.ending, str(error), attempts, intent, error=error)


@dataclass(frozen=True)
class Settlement:
    """A change whose update is under way. `values`: our variables, `tag`: what a protected function gets."""

    function: Function
    intent: Intent
    values: Mapping[str, str]
    tag: Tag | None
    attempts: int

    def end(self, sent: UpdateResult) -> Steps:
        """Bring the change to its end."""
        if sent.end == "failed":
            return (yield from self._take_back(sent))
        if sent.end == "done":
            return self._ended("changed", set_tag(self.function, self.tag), taken=True)
        return self._not_made(sent)

    def _not_made(self, sent: UpdateResult) -> ChangeResult:
        if sent.error is not None:
            return refused(sent.error, self.attempts, self.intent)
        if sent.end == "replaced":
            return self._ended("deferred", "replaced by another deployment while it settled", taken=True)
        if sent.end == "not_done":
            return self._ended("deferred", "lost_answer: read again, AWS has not done it")
        return self._ended(
            "deferred", "not settled in time; the next run finds out", unsettled=True, taken=True
        )

    def _take_back(self, sent: UpdateResult) -> Steps:
        """Put our delta back after LastUpdateStatus Failed, while the deployment is still ours."""
        failed = f"AWS took the update and could not carry it out ({sent.reason})"
        if not sent.ours or sent.configuration is None:
            detail = f"{failed}; someone else has deployed since: left as it is"
            return self._ended("failed", detail, taken=True, left=True)
        try:
            after = remove_delta(state_of(sent.configuration), self.intent.delta, self.values)
        except DeltaAbsent as error:
            return self._gone(f"{failed}; nothing to take back: {error}", sent.configuration)
        effect = Effect(self.function, lambda state: lacks_delta(state, self.intent.delta, self.values))
        back = yield from send(Update(effect, sent.configuration, after))
        if back.configuration and effect.is_done(state_of(back.configuration)):
            return self._gone(f"{failed}; it was taken back", back.configuration)
        why = str(back.error) if back.error else back.end
        return self._ended("failed", f"{failed}; it could not be taken back ({why})", taken=True, left=True)

    def _gone(self, detail: str, configuration: Configuration) -> ChangeResult:
        return replace(self._ended("failed", detail, taken=True), free_at=revision_of(configuration))

    def _ended(
        self,
        outcome: Outcome,
        detail: str,
        *,
        taken: bool = False,
        left: bool = False,
        unsettled: bool = False,
    ) -> ChangeResult:
        return ChangeResult(
            outcome, detail, self.attempts, self.intent, taken=taken, left=left, unsettled=unsettled
        )


def set_tag(function: Function, tag: Tag | None) -> str:
    """Tag a function whose protection is confirmed; give a detail where that failed: it is protected all the same."""
    if tag is None:
        return ""
    try:
        function.call("tag_resource", write=True, Resource=function.arn, Tags={tag.key: tag.value})
    except CALL_ERRORS as error:
        return f"not tagged: {classify_error(error)}"
    return ""


def remove_tag(function: Function, tag: Tag | None) -> str:
    """Take our tag away while its value is ours; give a detail where that failed."""
    if tag is None:
        return ""
    try:
        tags = function.call("list_tags", Resource=function.arn).get("Tags", {})
        if tags.get(tag.key) == tag.value:
            function.call("untag_resource", write=True, Resource=function.arn, TagKeys=[tag.key])
    except CALL_ERRORS as error:
        return f"still tagged: {classify_error(error)}"
    return ""
