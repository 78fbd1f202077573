"""Which aliases of functions that are rolled back serve published versions that still carry our layer.

A rollback changes $LATEST alone. Callers of an alias get the versions that it names, as they were published.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from botocore.exceptions import ClientError

from auto_defender.context import Context
from remediator.change.detach import our_layers, versions_of_ours
from remediator.change.records import UNKNOWN, Undo
from scanner.aws.errors import error_code
from scanner.core.arns import LayerVersion
from scanner.inventory.alias_reader import AliasReader, AliasTraffic
from scanner.inventory.alias_traffic import VersionProtection, published
from scanner.inventory.ledger import Unit, outcome_of
from scanner.inventory.parallel import in_parallel

_MARKS: dict[VersionProtection, str] = {"protected": "", "unknown": "?"}


def served_versions(context: Context, undos: Sequence[Undo]) -> dict[str, str]:
    """Read the aliases of functions; return by ARN those that serve a published version with our layer.

    Such as "live=12;next=13,14"; a version that is called by its number is its own alias, and one whose layers can't be
    read is followed by "?". "" where there is none, and for a function that is gone. "unknown: WHY" where a function's
    aliases or versions could not be read. Raises InternalError.
    """
    by_arn = {undo.function_arn: undo for undo in undos}
    seconds, defender = context.configuration.sweep.unit_timeout_sec, context.configuration.defender

    def read(arn: str) -> str:
        undo, until = by_arn[arn], context.clock.monotonic() + seconds
        carry = partial(_carry, ours=our_layers(defender, undo))
        reader = AliasReader(context.aws, defender.watched_variables, carry)
        unit, found = Unit(undo.account_id, undo.region), dict[str, AliasTraffic]()
        where = (undo.account_id, undo.region, "lambda", "get_function_configuration")
        try:
            latest = context.aws.call(*where, deadline=until, FunctionName=arn)
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return ""
            raise
        reader.read_function(unit, found, until, configuration=latest)
        return _text(found[undo.function_name])

    done = in_parallel(read, list(by_arn), context.aws, context.configuration.sweep, context.deadline)
    return {end.task: _unknown(end.error) if end.error else end.result or "" for end in done}


def _carry(versions: pd.DataFrame, ours: Sequence[LayerVersion]) -> list[VersionProtection]:
    """Return a state for each published version: protected where any version of our layer is among its layers."""
    return [
        "unknown" if count < 0 else "protected" if versions_of_ours(layers.split(), ours) else "unprotected"
        for layers, count in zip(versions["layers"].astype("str"), versions["layer_count"], strict=True)
    ]


def _text(traffic: AliasTraffic) -> str:
    if traffic.qualifiers is None:
        return f"{UNKNOWN}: its aliases could not be read"
    mark = {version: _MARKS[state] for version, state in traffic.carries.items() if state in _MARKS}
    mark = dict.fromkeys(published(traffic.qualifiers) - traffic.carries.keys(), "?") | mark
    carrying = {
        qualifier: [version + mark[version] for version in versions if version in mark]
        for qualifier, versions in sorted(traffic.qualifiers.items())
    }
    return ";".join(f"{qualifier}={','.join(some)}" for qualifier, some in carrying.items() if some)


def _unknown(error: BaseException) -> str:
    outcome, detail = outcome_of(error)
    return f"{UNKNOWN}: {outcome}: {detail}"
