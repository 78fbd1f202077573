"""`explain`: one function, read now, every check of it, and what runs did to it. Nothing is written."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import pandas as pd
from botocore.exceptions import ClientError

from auto_defender.context import Context
from auto_defender.job_result import JobResult
from auto_defender.stages.drift import report_drift
from auto_defender.stages.function_history import function_history, history_lines
from remediator.journal.history import variables_given
from remediator.journal.upgrade import awaits_upgrade
from remediator.plan.held_back import HeldBack, hold_back
from remediator.plan.notice import Noticed, check_notice
from remediator.plan.plan import make_plan
from remediator.rollout.guards import own_function
from remediator.rollout.wave_membership import read_tags, wave_numbers
from remediator.rollout.wave_progress import WaveProgress
from remediator.state.functions import records
from remediator.state.wave_states import states
from reports.data.rollout_status import DriftedFunction
from scanner.aws.errors import Throttled, TimedOut, Unreachable, describe, error_code
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput
from scanner.inventory.alias_reader import AliasReader
from scanner.inventory.alias_traffic import LATEST, effective_protection
from scanner.inventory.effective_coverage import READ, add_effective_coverage
from scanner.inventory.functions_frame import frame_of
from scanner.inventory.tags import add_tags
from scanner.inventory.utilization import add_utilization
from scanner.organization.accounts import list_accounts, out_of_scope
from scanner.risk.engine import assess_risk
from scanner.risk.explain import Finding, explain
from scanner.risk.protection import versions_protection
from storage.protocol import StoreFailed

T = TypeVar("T")

_FORMER = "what an earlier release left is not read: the next run that writes takes it over"
_LEFT_BEHIND = (
    "its owner publishes a new version once $LATEST has the Defender, and points the alias to it; "
    "no run does that"
)


@dataclass(frozen=True)
class _Prospect:
    """What the next run does with the function, by the configuration and the state that earlier runs left.

    change: the planned one; held_back: the guard that holds it back, blocked says why. drifted: it lost the Defender.
    """

    change: dict[str, Any] | None
    held_back: str | None
    blocked: str
    drifted: DriftedFunction | None

    @property
    def lines(self) -> list[str]:
        """Return it as text."""
        change = self.change
        would = (
            [f"would {change['action']}: layers {' '.join(change['after']['layers']) or 'none'}"]
            if change
            else []
        )
        blocked = [self.blocked] if self.blocked else []
        return [*would, *blocked, *([_drift(self.drifted)] if self.drifted else [])]


def explain_function(context: Context, text: str) -> JobResult:
    """Read one function and explain its verdict, and show what runs did to it.

    Where a part of it can't be read, a line says why, and the exit code is 3: the function, what a run would do (by the
    state of earlier runs and the list of accounts), the history. Raises BadInput where neither the function nor a
    history of it is known.
    """
    arn = _parsed(context, text)
    past = _past(context, text)
    configuration, unread = _or_why(lambda: _read(context, arn))
    if configuration is None:
        if not past.history:
            raise BadInput(unread)
        known = {"function_arn": text, "history": past.history, "state_unread": past.unread or None}
        return JobResult({**known, "function_unread": unread}, "\n".join([unread, *past.lines]), 3)
    context, quarantine_unread = _with_quarantine(context)
    assessed = _assessed(context, arn, configuration)
    findings = explain(assessed, context.rules, context.clock.now().date())
    served = _aliases(context, assessed, configuration)
    prospect, state_unread = None, quarantine_unread
    accounts, accounts_unread = _or_why(
        lambda: list_accounts(context.aws, context.configuration.organization)
    )
    outside = "" if accounts is None else _outside(context, arn, accounts)
    if accounts is not None and not quarantine_unread:
        prospect, state_unread = _or_why(lambda: _prospect(context, arn, assessed, accounts, outside))
    state_unread = state_unread or accounts_unread
    unread = state_unread or past.unread
    row = assessed.iloc[0]
    summary: dict[str, Any] = {
        "function_arn": text,
        "protection": row["protection"],
        "verdict": row["verdict"],
        "reasons": [code for code in row["reasons"].split(";") if code],
        "checks": [asdict(finding) for finding in findings],
        "effective_coverage": served,
        "change": prospect.change if prospect else None,
        "held_back": prospect.held_back if prospect else None,
        "out_of_scope": outside or None,
        "drift": asdict(prospect.drifted) if prospect and prospect.drifted else None,
        "history": past.history,
        "state_unread": unread or None,
        "function_unread": None,
    }
    lines = [f"{text}\n{row['protection']}, verdict: {row['verdict']}\n", *map(_line, findings)]
    lines += _alias_lines(served, row["protection"]) if served else []
    lines += prospect.lines if prospect else [f"what a run would do: unknown, {state_unread}"]
    return JobResult(summary, "\n".join([*lines, *past.lines]), 3 if unread else 0)


@dataclass(frozen=True)
class _Past:
    """What runs did to the function, None where that can't be read; unread: why it is not known in full, or ""."""

    history: list[dict[str, Any]] | None
    unread: str
    lines: list[str]


def _past(context: Context, text: str) -> _Past:
    history, unread = _or_why(lambda: function_history(context.journals, text))
    if history is None:
        return _Past(None, unread, [f"history: unknown, {unread}"])
    former, _ = _or_why(lambda: awaits_upgrade(context.store))
    refused = [*context.journals.refused, *([_FORMER] if former else [])]
    return _Past(history, next(iter(refused), ""), history_lines(history, refused))


def _outside(context: Context, arn: FunctionArn, accounts: pd.DataFrame) -> str:
    """Return why the function is out of scope, "" where it is not."""
    unit = (arn.account_id, arn.region)
    return out_of_scope([unit], accounts, context.configuration.organization).get(unit, "")


def _or_why(read: Callable[[], T]) -> tuple[T | None, str]:
    """Return what is read of the state, or None and why it can't be read."""
    try:
        return read(), ""
    except (StoreFailed, BadInput) as error:
        return None, str(error)


def _with_quarantine(context: Context) -> tuple[Context, str]:
    read, unread = _or_why(context.with_current_quarantine)
    return read or context, unread


def _assessed(context: Context, arn: FunctionArn, configuration: dict[str, object]) -> pd.DataFrame:
    settings, rules, today = context.configuration, context.rules, context.clock.now().date()
    functions = frame_of(
        [configuration], arn.partition, arn.account_id, arn.region, settings.defender.watched_variables
    )
    functions = add_tags(functions, rules.require_tag, rules.optout_tag, context.aws, settings.sweep)
    assessed = assess_risk(functions, rules, today)
    if not settings.risk.utilization.enabled:
        return assessed
    functions = add_utilization(assessed, context.aws, settings.risk.utilization, settings.sweep)
    return assess_risk(functions, rules, today)


def _prospect(
    context: Context, arn: FunctionArn, assessed: pd.DataFrame, accounts: pd.DataFrame, outside: str
) -> _Prospect:
    settings, text = context.configuration, str(arn)
    digest, now = settings.digest, context.clock.now().replace(microsecond=0)
    held = hold_back(
        assessed,
        known=records(context.store, [arn.account_id]),
        partition=arn.partition,
        config_digest=digest,
        own_function=own_function(os.environ, arn.partition, context.aws.central_account_id),
        now=now,
    )
    guards = {**held.guards, text: "out_of_scope"} if outside else held.guards
    marked = _in_waves(context, assessed, accounts)
    noticed = check_notice(
        marked,
        store=context.store,
        partition=arn.partition,
        release=settings.release,
        period=settings.rollout.notice,
        held=guards.keys(),
        known=held.known,
        now=now,
    )
    plan = make_plan(
        marked,
        settings.defender,
        settings.rollout,
        run_id=context.run_id,
        now=now,
        partition=arn.partition,
        config_digest=digest,
        guards={**guards, **noticed.guards},
        given=variables_given(context.journals, [text] if marked["remove"].any() else ()),
    )
    held_back = guards.get(text) or next(iter(plan.held_back), None)
    drift = report_drift(held.lost, assessed, context.aws, settings.defender, settings.sweep)
    return _Prospect(
        asdict(plan.changes[0]) if plan.changes else None,
        held_back,
        _held_back(held_back, outside, held, noticed, text) if held_back else "",
        next(iter(drift), None),
    )


def _parsed(context: Context, text: str) -> FunctionArn:
    arn, partition = FunctionArn.parse(text), context.aws.partition
    if arn is None:
        raise BadInput(
            f"{text!r} is no function ARN; expected arn:aws:lambda:REGION:ACCOUNT:function:NAME, no version"
        )
    if arn.partition != partition:
        raise BadInput(f"{text}: these credentials are of the partition '{partition}'")
    if arn.region not in context.session.get_available_regions("lambda", partition_name=partition):
        raise BadInput(f"{text}: AWS Lambda has no region '{arn.region}' in the partition '{partition}'")
    return arn


def _in_waves(context: Context, assessed: pd.DataFrame, accounts: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that make_plan reads, with the waves as the last run saved them."""
    settings = context.configuration
    waves = settings.rollout.waves
    tagged = read_tags(assessed, waves, context.aws, settings.sweep, context.deadline)
    numbers = wave_numbers(assessed, accounts, waves, tagged)
    kept = tuple(states(context.store, settings.release, waves))
    return WaveProgress(settings.release, waves, kept, (), numbers, context.clock.now()).marked(assessed)


def _held_back(guard: str, outside: str, held: HeldBack, noticed: Noticed, arn: str) -> str:
    moments = [one.not_before for one in noticed.waiting.values()]
    why = {
        "notice": f"it was announced, and is not changed before {moments[0]:%Y-%m-%d %H:%M} UTC"
        if moments
        else "the next run that writes announces it first",
        "out_of_scope": f"out of scope: {outside}",
        "own_function": "Auto-Defender itself runs in it",
        "wave": "it waits for the waves before its own, or the tags that assign its wave could not be read",
    }
    if arn in held.refused and guard == "failed_before":
        return f"held back, it could not be changed: {held.refused[arn].says}"
    return f"held back, {why.get(guard, guard)}"


def _drift(drifted: DriftedFunction) -> str:
    times = "once" if drifted.times == 1 else f"{drifted.times} times"
    lost = f"it lost the Defender that a run added, {times}; last added by run {drifted.run_id}"
    if not drifted.given_up:
        return lost
    if not drifted.snippet:
        return f"{lost}; given up: {drifted.detail}"
    return f"{lost}; given up. To make it permanent, put this into its template ({drifted.tool}):\n{drifted.snippet}"


def _line(finding: Finding) -> str:
    mark = {True: "passed", False: "FAILED", None: "unknown"}[finding.passed]
    remedy = f"\n         {finding.remedy}" if finding.remedy else ""
    return f"{mark:<7}  {finding.title}: {finding.value} (wanted: {finding.threshold}){remedy}"


def _read(context: Context, arn: FunctionArn) -> dict[str, object]:
    try:
        return context.aws.call(
            arn.account_id, arn.region, "lambda", "get_function_configuration", FunctionName=str(arn)
        )
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            raise BadInput(f"{arn}: no such function") from None
        raise BadInput(f"{arn}: could not be read: {describe(error)}") from None
    except (Throttled, TimedOut, Unreachable) as error:
        raise BadInput(f"{arn}: could not be read: {error}") from None


def _aliases(
    context: Context, assessed: pd.DataFrame, configuration: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Read the aliases of the one function of a frame; None where effective coverage is not enabled.

    Return the columns of functions.csv that docs/schema.md calls effective_protection to served_outcome.
    """
    settings = context.configuration
    if not settings.risk.effective_coverage:
        return None
    protection = partial(versions_protection, rules=context.rules)
    reader = AliasReader(context.aws, settings.defender.watched_variables, protection)
    read = partial(reader.read_function, configuration=configuration)
    found = add_effective_coverage(assessed, read, context.aws, settings.sweep, context.deadline)
    row = found.assign(effective_protection=effective_protection(found)).iloc[0]
    provisioned = int(row["provisioned_concurrency"])
    return {
        "effective_protection": row["effective_protection"],
        "served": row["served"],
        "aliases": row["aliases"],
        "snap_start": row["snap_start"],
        "provisioned_concurrency": None if provisioned < 0 else provisioned,
        "served_outcome": row["served_outcome"],
    }


def _alias_lines(served: Mapping[str, Any], protection: str) -> list[str]:
    """Return lines of text. protection: of $LATEST."""
    if served["served_outcome"] != READ:
        return [
            f"where its traffic goes: unknown, its aliases could not be read ({served['served_outcome']})"
        ]
    aliases = [alias.partition("=") for alias in served["aliases"].split(";") if alias]
    lines = [f"where its traffic goes: {served['effective_protection']}"]
    lines += [f"         {name} serves {_versions(versions, protection)}" for name, _, versions in aliases]
    if not aliases:
        lines.append(f"         no alias serves a published version; $LATEST is {protection}")
    if served["served"] == "served_unprotected":
        lines.append(f"         {_LEFT_BEHIND}")
    if served["snap_start"] == "PublishedVersions":
        lines.append("         SnapStart is on for published versions")
    if served["provisioned_concurrency"]:
        lines.append(f"         provisioned concurrency: {served['provisioned_concurrency']}")
    return lines


def _versions(versions: str, latest: str) -> str:
    parts = (version.partition(":") for version in versions.split(","))
    return ", ".join(f"{name}: {latest if name == LATEST else state}" for name, _, state in parts)
