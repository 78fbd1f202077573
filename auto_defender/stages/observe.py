"""The read-only part that jobs begin with: accounts, sweep, tags, verdicts."""

import logging
from functools import partial

import pandas as pd

from auto_defender.context import Context
from auto_defender.logging import SKIPS
from auto_defender.observation import Observation
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


def observe(context: Context) -> Observation:
    """Sweep the organization and assess every function that was read."""
    return observe_accounts(context, organization_accounts(context))


def organization_accounts(context: Context) -> pd.DataFrame:
    """Return the organization's accounts (scanner/organization/accounts.py)."""
    with context.stage("accounts"):
        accounts = list_accounts(context.aws, context.configuration.organization, context.deadline)
    log.info("%d accounts, %d in scope", len(accounts), int(accounts["in_scope"].sum()))
    return accounts


def observe_accounts(context: Context, accounts: pd.DataFrame) -> Observation:
    """Sweep some accounts and assess every function that was read."""
    settings, aws, today = context.configuration, context.aws, context.clock.now().date()
    watched = settings.defender.watched_variables
    with context.stage("sweep"):
        sweep = Sweep(aws, settings.organization, settings.sweep, watched, context.display.swept)
        swept = sweep.run(accounts, context.optouts, today, context.deadline)
        cut_off = context.stop.is_set() or _time_is_up(context)
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
    whole_scope = not (cut_off and (swept.units["outcome"] == "timed_out").any())
    return Observation(accounts, swept.units, assessed, whole_scope)


def _time_is_up(context: Context) -> bool:
    return context.deadline is not None and context.clock.monotonic() >= context.deadline


def nothing_observed(context: Context) -> Observation:
    """Return empty frames, for a job that changes functions without a sweep."""
    functions = FunctionsFrame().finish()
    return Observation(
        accounts=pd.DataFrame(columns=list(ACCOUNT_COLUMNS)),
        units=Ledger().frame(),
        functions=assess_risk(functions, context.rules, context.clock.now().date()),
    )


def log_verdicts(assessed: pd.DataFrame, partition: str) -> None:
    """Log each skipped function (a risk) as WARNING, each excluded one (a policy) as INFO, with the reasons."""
    uncovered = assessed[assessed["verdict"].isin(["skipped", "excluded"])]
    arns = function_arns(uncovered, partition)
    for arn, verdict, reasons in zip(arns, uncovered["verdict"], uncovered["reasons"], strict=True):
        verdicts.log(
            logging.WARNING if verdict == "skipped" else logging.INFO,
            "%s %s: %s",
            verdict,
            arn,
            reasons,
            extra={"function_arn": arn, "verdict": verdict, "reasons": reasons},
        )
