"""Whether an entry of a journal can have been written by its run: whoever may write to the store could write one, too.

A rollback puts back and removes what an entry names. It may therefore name nothing but layers and wrappers of ours.
"""

from collections.abc import Iterator

from remediator.change.delta import Delta
from remediator.change.desired_state import Ours, ours_on
from remediator.change.records import Intent
from scanner.core.arns import FunctionArn
from scanner.settings import DefenderSettings


def refusal(intent: Intent, run_id: str, defender: DefenderSettings) -> str:
    """Return why an entry can't have been written by this run under this configuration, "" where it can."""
    if intent.run_id != run_id:
        return f"is of another run ({intent.run_id})"
    arn = FunctionArn.parse(intent.function_arn)
    if arn is None or (arn.account_id, arn.region, arn.name) != (
        intent.account_id,
        intent.region,
        intent.function_name,
    ):
        return f"names '{intent.function_arn}', which is not its account, region and function"
    ours = ours_on(defender, intent.region, intent.account_id, intent.function_name)
    problems = (_names_other(delta, ours) for delta in (intent.delta, *intent.deltas))
    return next(filter(None, problems), "")


def _names_other(delta: Delta, ours: Ours) -> str:
    """Return which layer or wrapper of a delta is not ours, "" where all are."""
    for layer in _layers(delta):
        if not ours.has_layer(layer):
            return f"names the layer '{layer}', which is neither in defender.layers nor in defender.previous"
    for wrapper in (delta.wrapper, delta.wrapper_before):
        if wrapper is not None and wrapper not in ours.wrappers:
            return f"names the wrapper '{wrapper}', which is neither in defender.wrapper nor in defender.previous"
    return ""


def _layers(delta: Delta) -> Iterator[str]:
    yield from (layer for layer in (delta.layer, delta.layer_before) if layer is not None)
    yield from (layer for _, layer in delta.layers_removed)
