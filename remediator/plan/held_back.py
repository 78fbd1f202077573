"""Which eligible functions a plan leaves alone: Auto-Defender itself, regressions, earlier failures, drift."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from remediator.journal.drift import ProtectionCount, find_drift
from remediator.journal.failures import Failure, failures, still_failing
from scanner.core.arns import function_arns
from scanner.settings import DefenderSettings
from storage.protocol import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldBack:
    """guards: function ARN -> guard, for make_plan.

    lost: by function ARN, the functions that lost the Defender that a run gave them. refused: by function ARN, the
    refusals that are still valid.
    """

    guards: Mapping[str, str]
    lost: Mapping[str, ProtectionCount]
    refused: Mapping[str, Failure]


def hold_back(
    assessed: pd.DataFrame,
    defender: DefenderSettings,
    *,
    store: Store,
    partition: str,
    config_digest: str,
    own_function: str | None,
    regressed: Collection[str] = (),
) -> HeldBack:
    """Find what is held back, from the assessed frame and the state that earlier runs have left in the store.

    regressed: ARNs of functions that the health watch has found to do worse since their last change.
    """
    lost = find_drift(store, _lacking(assessed), partition)
    for arn, protected in lost.items():
        log.warning(
            "drift: it lost the Defender that run %s gave it (time %d): %s",
            protected.run_id,
            protected.times,
            arn,
            extra={"function_arn": arn},
        )
    eligible = assessed[assessed["verdict"] == "eligible"]
    eligible = eligible.assign(function_arn=function_arns(eligible, partition))
    known = failures(store)
    refused = {arn: known[arn] for arn in still_failing(known, eligible, defender, config_digest)}
    guards = {arn: "drift" for arn, protected in lost.items() if protected.given_up}
    guards |= dict.fromkeys(refused, "failed_before")
    guards |= dict.fromkeys(regressed, "regressed")
    if own_function:
        guards[own_function] = "own_function"
    return HeldBack(guards, lost, refused)


def _lacking(assessed: pd.DataFrame) -> pd.DataFrame:
    """Find what lacks the layer or the wrapper and was not left out by decision; another value or version is no loss."""
    return assessed[assessed["verdict"].isin(["eligible", "skipped"]) & ~assessed["installed"]]
