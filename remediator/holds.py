"""Which eligible functions a plan keeps its hands off, and why: Auto-Defender itself, refusals that stand, drift."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from remediator.drift import given_up, lost_again
from remediator.failures import failures, still_failing
from remediator.state import Store
from scanner.arns import function_arns
from scanner.settings import DefenderSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holds:
    """hold: function ARN -> guard, for make_plan. drifted: function ARN -> how often it was protected, and lost it."""

    hold: Mapping[str, str]
    drifted: Mapping[str, int]


def holds_on(
    assessed: pd.DataFrame,
    defender: DefenderSettings,
    *,
    store: Store,
    partition: str,
    config_digest: str,
    own_function: str | None,
) -> Holds:
    """Find what is held back, from the assessed frame and from what earlier runs have kept in the store."""
    eligible = assessed[assessed["verdict"] == "eligible"]
    eligible = eligible.assign(function_arn=function_arns(eligible, partition))
    lacking = eligible[eligible["protection"].isin(["unprotected", "partial"])]
    lost = lost_again(store, dict(zip(lacking["function_arn"], lacking["account_id"], strict=True)))
    for arn, protected in lost.items():
        log.warning(
            "drift: it lost the Defender that run %s gave it (time %d): %s",
            protected.run_id,
            protected.times,
            arn,
            extra={"function_arn": arn},
        )
    hold = dict.fromkeys(given_up(lost), "drift")
    hold |= dict.fromkeys(still_failing(failures(store), eligible, defender, config_digest), "failed_before")
    if own_function:
        hold[own_function] = "own_function"
    return Holds(hold, {arn: protected.times for arn, protected in lost.items()})
