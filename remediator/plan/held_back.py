"""Which functions a plan leaves alone: Auto-Defender itself, regressions, recent failures, drift."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from remediator.state.drift import ProtectionCount
from remediator.state.failures import Failure
from remediator.state.functions import FunctionRecord
from scanner.core.arns import function_arns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldBack:
    """guards: function ARN -> guard, for make_plan.

    lost: by function ARN, the functions that lost the Defender that a run gave them. refused: by function ARN, the
    failures whose next try is still to come. known: by function ARN, what is known of eligible and of lost functions.
    """

    guards: Mapping[str, str]
    lost: Mapping[str, ProtectionCount]
    refused: Mapping[str, Failure]
    known: Mapping[str, FunctionRecord]


def hold_back(
    assessed: pd.DataFrame,
    *,
    known: Mapping[str, FunctionRecord],
    partition: str,
    config_digest: str,
    own_function: str | None,
    now: datetime,
    regressed: Collection[str] = (),
) -> HeldBack:
    """Find what is held back, from the assessed frame and what earlier runs have learnt of functions, by ARN.

    regressed: ARNs of functions that the health watch has found to do worse since their last change.
    """
    lacking, planned = _lacking(assessed), assessed[(assessed["verdict"] == "eligible") | assessed["remove"]]
    lost = _lost(known, lacking, partition)
    for arn, protected in lost.items():
        log.warning(
            "drift: it lost the Defender that run %s gave it (time %d): %s",
            protected.run_id,
            protected.times,
            arn,
            extra={"function_arn": arn},
        )
    refused = _refused(known, planned, partition, config_digest, now)
    guards = {arn: "drift" for arn, protected in lost.items() if protected.given_up}
    guards |= dict.fromkeys(refused, "failed_before")
    # What regressed is not changed again; that its owner wants the Defender off is another matter.
    removals = frozenset(function_arns(_named(assessed[assessed["remove"]], regressed), partition))
    guards |= dict.fromkeys(frozenset(regressed) - removals, "regressed")
    if own_function:
        guards[own_function] = "own_function"
    return HeldBack(guards, lost, refused, known)


def _lost(
    known: Mapping[str, FunctionRecord], lacking: pd.DataFrame, partition: str
) -> dict[str, ProtectionCount]:
    protected = {arn: record.protections for arn, record in known.items() if record.protections}
    return {
        arn: protected[arn]
        for arn in function_arns(_named(lacking, protected), partition)
        if arn in protected
    }


def _refused(
    known: Mapping[str, FunctionRecord],
    planned: pd.DataFrame,
    partition: str,
    config_digest: str,
    now: datetime,
) -> dict[str, Failure]:
    waiting = {
        arn: record.failure
        for arn, record in known.items()
        if record.failure and now < record.failure.next_try
    }
    rows = _named(planned, waiting)
    found = zip(function_arns(rows, partition), rows["revision_id"], rows["remove"], strict=True)
    return {
        arn: waiting[arn]
        for arn, revision_id, remove in found
        if arn in waiting
        # That it can't be protected does not keep it from being removed, nor the other way round.
        and (waiting[arn].action == "remove") == remove
        and waiting[arn].is_of(str(revision_id), config_digest)
    }


def _named(rows: pd.DataFrame, arns: Collection[str]) -> pd.DataFrame:
    """Return the rows of functions with these names: a million ARNs are not made to find a few."""
    return rows[rows["function_name"].isin({arn.rpartition(":")[2] for arn in arns})]


def _lacking(assessed: pd.DataFrame) -> pd.DataFrame:
    """Find what lacks the layer or the wrapper and was not left out by decision; another value or version is no loss."""
    return assessed[assessed["verdict"].isin(["eligible", "skipped"]) & ~assessed["installed"]]
