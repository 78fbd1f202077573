"""Whether an entry of a journal can have been written by its run: whoever may write to the store could write one, too.

A rollback puts back and removes what an entry names. It may therefore name nothing but layers and wrappers of ours.
"""

from collections.abc import Iterator

from remediator.change.delta import Delta
from remediator.change.records import Intent
from scanner.core.arns import FunctionArn, LayerVersion
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
    for layer in _layers(intent.delta):
        if not _is_our_layer(layer, intent, defender):
            return f"names the layer '{layer}', which is neither in defender.layers nor in defender.previous"
    wrappers = frozenset().union(*map(defender.our_wrappers, defender.layers))
    for wrapper in (intent.delta.wrapper, intent.delta.wrapper_before):
        if wrapper is not None and wrapper not in wrappers:
            return f"names the wrapper '{wrapper}', which is neither in defender.wrapper nor in defender.previous"
    return ""


def _layers(delta: Delta) -> Iterator[str]:
    yield from (layer for layer in (delta.layer, delta.layer_before) if layer is not None)
    yield from (layer for _, layer in delta.layers_removed)


def _is_our_layer(arn: str, intent: Intent, defender: DefenderSettings) -> bool:
    found = LayerVersion.parse(arn)
    if found is None:
        return False
    configured = (
        defender.layer_for(family, intent.region, intent.account_id)
        for family in defender.layers
        if defender.template_for(family, intent.region)
    )
    previous = defender.previous_layers(intent.region, intent.account_id)
    return any(map(found.same_layer, configured)) or any(layer.covers(found) for layer in previous)
