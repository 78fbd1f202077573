"""What all changes of a run share."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from remediator.change.records import Intent, Item
from remediator.change.update import Aws, Function
from scanner.settings import DefenderSettings


@dataclass(frozen=True)
class ChangeContext:
    """Who calls AWS, what a protected function carries, and until when.

    stopping: set once no further update may be sent. deadline: a Clock.monotonic() moment, None for none.
    on_accepted: called once for each update that AWS has accepted. may_change, may_remove: called right before an update
    is sent that makes a change of a plan, or that rolls one back; each raises GuardStop where it may not be sent.
    """

    aws: Aws
    defender: DefenderSettings
    stopping: threading.Event
    deadline: float | None = None
    on_accepted: Callable[[], None] = lambda: None
    may_change: Callable[[], None] = lambda: None
    may_remove: Callable[[], None] = lambda: None

    def function(self, item: Item) -> Function:
        """Return the function that a change is about."""
        return Function(self.aws, item.account_id, item.region, item.function_arn, self.deadline)

    def values(self, intent: Intent) -> Mapping[str, str]:
        """Render our variables again; none where the configuration no longer knows the function's family."""
        if intent.family not in self.defender.layers:
            return {}
        return self.defender.variables_for(
            intent.family, intent.function_name, intent.region, intent.account_id
        )
