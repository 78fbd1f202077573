"""The scope of a plan, asked again right before its changes: the plan may be hours or days old."""

from dataclasses import replace

import pandas as pd

from auto_defender.context import Context
from auto_defender.stages.observe import organization_accounts
from remediator.change.records import ChangeResult, ChangeRow
from remediator.execution.apply import ApplyResult
from remediator.execution.results import changes_frame, deferred_plan, log_end
from remediator.plan.plan import Plan
from scanner.aws.caller import MAX_BACKOFF_SECONDS
from scanner.core.errors import BadInput, GuardStop
from scanner.organization.accounts import out_of_scope


def within_scope(context: Context, plan: Plan) -> tuple[Plan, pd.DataFrame]:
    """Return the plan without what is out of scope by now, and the changes frame of that.

    Opt-outs are not looked at: the recheck before each change does that. Raise BadInput where the organization can't
    be listed.
    """
    if not plan.changes:
        return plan, changes_frame(())
    accounts, units = organization_accounts(context), {(one.account_id, one.region) for one in plan.changes}
    outside = out_of_scope(units, accounts, context.configuration.organization)
    kept, dropped = [], []
    for change in plan.changes:
        if reason := outside.get((change.account_id, change.region)):
            dropped.append(ChangeRow(change, ChangeResult("dropped", f"out of scope by now: {reason}")))
            log_end(dropped[-1])
        else:
            kept.append(change)
    return replace(plan, changes=tuple(kept)), changes_frame(dropped)


def unlisted(context: Context, plan: Plan, error: BadInput) -> ApplyResult:
    """Return the result of a plan whose scope is unknown: nothing is changed.

    The run's end, which interrupts the listing, is no guard's stop.
    """
    if interrupted(context):
        deferred = ChangeResult("deferred", "the run was told to stop, or its time was up")
        rows = [ChangeRow(change, deferred) for change in plan.changes]
        return ApplyResult(changes_frame(rows), None, cut_short=True)
    stopped = GuardStop("scope", f"nothing is changed, because {error}", "Then run again")
    return ApplyResult(deferred_plan(plan, stopped), stopped)


def interrupted(context: Context) -> bool:
    """Return whether a stop or the deadline may have ended the listing: no wait for the next attempt goes beyond it."""
    time_is_up = (
        context.deadline is not None and context.clock.monotonic() + MAX_BACKOFF_SECONDS >= context.deadline
    )
    return context.stop.is_set() or time_is_up
