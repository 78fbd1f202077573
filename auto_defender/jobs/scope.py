"""The scope of a plan, asked again right before its changes: the plan may be hours or days old."""

from dataclasses import replace

import pandas as pd

from auto_defender.context import Context
from auto_defender.jobs.observe import organization_accounts
from remediator.change.records import ChangeResult, ChangeRow
from remediator.execution.results import changes_frame, log_end
from remediator.plan.plan import Plan
from scanner.core.errors import BadInput, GuardStop
from scanner.organization.accounts import out_of_scope


def within_scope(context: Context, plan: Plan) -> tuple[Plan, pd.DataFrame]:
    """Return the plan without what is out of scope by now, and the changes frame of that.

    Opt-outs are not looked at: the recheck before each change does that. Raise BadInput where the organization can't
    be listed.
    """
    if not plan.changes or context.stop.is_set():  # nothing will begin
        return plan, changes_frame(())
    accounts, units = organization_accounts(context), {(one.account_id, one.region) for one in plan.changes}
    outside = out_of_scope(units, accounts, context.configuration.organization)
    kept, dropped = [], []
    for change in plan.changes:
        reason = outside.get((change.account_id, change.region))
        if reason is None:
            kept.append(change)
        else:
            dropped.append(ChangeRow(change, ChangeResult("dropped", f"out of scope by now: {reason}")))
    for row in dropped:
        log_end(row)
    return replace(plan, changes=tuple(kept)), changes_frame(dropped)


def scope_unknown(error: BadInput) -> GuardStop:
    """Return the stop of a run that can't list the organization right before its changes."""
    return GuardStop("scope", f"nothing is changed, because {error}", "Then run again")
