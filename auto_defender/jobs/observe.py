"""The part that every job begins with: accounts, sweep, tags, verdicts. Reads only."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pandas as pd

from auto_defender.context import Context
from auto_defender.logging import SKIPS
from scanner.core.arns import function_arns
from scanner.inventory.alias_reader import AliasReader
from scanner.inventory.effective_coverage import add_effective_coverage
from scanner.inventory.functions_frame import FunctionsFrame
from scanner.inventory.ledger import Ledger
from scanner.inventory.sweep import Sweep
from scanner.inventory.tags import add_tags
from scanner.inventory.utilization import add_utilization
from scanner.organization.accounts import COLUMNS as ACCOUNT_COLUMNS
from scanner.organization.accounts import list_accounts
from scanner.risk.engine import assess_risk
from scanner.risk.protection import versions_protection

log = logging.getLogger(__name__)
verdicts = logging.getLogger(SKIPS)

# What a change makes of a function, and a rollback beside its protection; the next sweep reads it.
_CHANGED = {"protection": "protected", "verdict": "protected", "reasons": ""}
_ROLLED_BACK = {"verdict": "excluded", "reasons": "quarantined"}


@dataclass(frozen=True)
class Observation:
    """What was seen: accounts (accounts.py), units (units.py) and assessed functions (risk.py)."""

    accounts: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame

    def after(self, changes: pd.DataFrame) -> "Observation":
        """Give the same with the functions protected that were changed."""
        return self._with(changes[changes["outcome"] == "changed"], _CHANGED)

    def after_rollback(self, changes: pd.DataFrame, protection_before: Mapping[str, str]) -> "Observation":
        """Give the same with what was rolled back in quarantine, as protected as it was before. protection_before: by
        function ARN.
        """  # noqa: D205
        seen, back = self, changes[changes["outcome"] == "rolled_back"]
        protection = back["function_arn"].map(protection_before)
        for before in protection.unique():
            seen = seen._with(back[protection == before], {"protection": before, **_ROLLED_BACK})
        return seen

    def _with(self, changes: pd.DataFrame, columns: Mapping[str, str]) -> "Observation":
        if changes.empty:
            return self
        place = ["account_id", "region", "function_name"]
        candidates = self.functions[self.functions["function_name"].isin(changes["function_name"])]
        keys = pd.MultiIndex.from_frame(candidates[place].astype("str"))
        rows = candidates.index[keys.isin(pd.MultiIndex.from_frame(changes[place].astype("str")))]
        functions = self.functions.assign(
            reasons=self.functions["reasons"].cat.set_categories(
                self.functions["reasons"].cat.categories.union([columns["reasons"]])
            )
        )
        functions.loc[rows, list(columns)] = list(columns.values())
        return replace(self, functions=functions)


def observe(context: Context) -> Observation:
    """Sweep the organization and judge every function that was read."""
    return observe_accounts(context, organization_accounts(context))


def organization_accounts(context: Context) -> pd.DataFrame:
    """List the organization's accounts (accounts.py)."""
    with context.stage("accounts"):
        accounts = list_accounts(context.aws, context.configuration.organization)
    log.info("%d accounts, %d in scope", len(accounts), int(accounts["in_scope"].sum()))
    return accounts


def observe_accounts(context: Context, accounts: pd.DataFrame) -> Observation:
    """Sweep some accounts and judge every function that was read."""
    settings, aws, today = context.configuration, context.aws, datetime.now(UTC).date()
    watched = settings.defender.variable_names
    with context.stage("sweep"):
        sweep = Sweep(aws, settings.organization, settings.sweep, watched, context.display.swept)
        swept = sweep.run(accounts, context.optouts, today, context.deadline)
    with context.stage("tags"):
        rules = context.rules
        functions = add_tags(
            swept.functions, rules.require_tag, rules.optout_tag, aws, settings.sweep, context.deadline
        )
    with context.stage("assess"):
        assessed = assess_risk(functions, context.rules, today)
    if settings.risk.utilization.enabled:
        with context.stage("utilization"):
            functions = add_utilization(
                assessed, aws, settings.risk.utilization, settings.sweep, context.deadline
            )
            assessed = assess_risk(functions, context.rules, today)
    if settings.risk.effective_coverage:
        with context.stage("versions"):
            reader = AliasReader(aws, watched, partial(versions_protection, rules=context.rules))
            assessed = add_effective_coverage(
                assessed, reader.read_unit, aws, settings.sweep, context.deadline
            )
    log_verdicts(assessed, aws.partition)
    return Observation(accounts, swept.units, assessed)


def nothing_observed(context: Context) -> Observation:
    """Give empty frames, for a job that changes functions without a sweep."""
    functions = FunctionsFrame(context.aws.partition, ()).finish()
    return Observation(
        accounts=pd.DataFrame(columns=list(ACCOUNT_COLUMNS)),
        units=Ledger().frame(),
        functions=assess_risk(functions, context.rules, datetime.now(UTC).date()),
    )


def log_verdicts(assessed: pd.DataFrame, partition: str) -> None:
    """Log each function that is left alone, and why: a risk as WARNING, somebody's wish as INFO."""
    left_alone = assessed[assessed["verdict"].isin(["skipped", "excluded"])]
    arns = function_arns(left_alone, partition)
    for arn, verdict, reasons in zip(arns, left_alone["verdict"], left_alone["reasons"], strict=True):
        verdicts.log(
            logging.WARNING if verdict == "skipped" else logging.INFO,
            "%s %s: %s",
            verdict,
            arn,
            reasons,
            extra={"function_arn": arn, "verdict": verdict, "reasons": reasons},
        )
