"""What all changes of a run share."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from remediator.change.update import Aws, Function
from remediator.execution.results import Item
from remediator.journal.journal import Intent
from remediator.rollout.guards import Guards
from scanner.settings import DefenderSettings


@dataclass(frozen=True)
class ChangeContext:
    """Who calls AWS, what a protected function carries, who counts, and until when.

    stopping: set once no further update may be sent. deadline: a time.monotonic() moment, None for none.
    """

    aws: Aws
    defender: DefenderSettings
    guards: Guards
    stopping: threading.Event
    deadline: float | None

    def function(self, item: Item) -> Function:
        """Give the function that a change is about."""
        return Function(self.aws, item.account_id, item.region, item.function_arn, self.deadline)

    def values(self, intent: Intent) -> Mapping[str, str]:
        """Render our variables again; none where the configuration no longer knows the function's family."""
        if intent.family not in self.defender.layers:
            return {}
        return self.defender.variables_for(
            intent.family, intent.function_name, intent.region, intent.account_id
        )

    def taken(self) -> None:
        """Count an update that AWS has taken."""
        self.guards.count(tried=1)
