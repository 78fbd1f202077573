"""Announces changes to the owners of functions: a file and a notification for each account, then the written state."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from auto_defender.context import Context
from auto_defender.notify.sns import Topic
from remediator.change.records import ChangeResult, ChangeRow, PlannedNotice
from remediator.execution.executor import SETTLE_SECONDS
from remediator.execution.results import changes_frame, log_end
from remediator.plan.notice import Waiting, read_notices
from remediator.plan.plan import Plan
from remediator.rollout.guards import Guards, check_kill_switch
from remediator.rollout.lock import RunLock
from remediator.state.notices import Notice, forget
from remediator.state.notices import announce as keep
from remediator.state.store import run_folder
from reports.data.columns import NOTICES
from reports.data.rollout_status import AccountNotice
from reports.data.summary import utc
from reports.render.csv import csv_text
from reports.render.text import counted, visible
from scanner.aws.errors import describe
from scanner.core.errors import AutoDefenderError, GuardStop
from scanner.organization.optouts import glob_regex

log = logging.getLogger(__name__)

# A message of mail: the account's file lists all functions.
_LISTED = 100
# Accounts at once. Where all of them fail, the topic or the output is the reason, and the rest waits for the next run.
_AT_ONCE = 16


@dataclass(frozen=True)
class Announced:
    """What became of announcements, a row an account; and the guard that stopped them, if any."""

    notices: tuple[AccountNotice, ...] = ()
    stopped_by: GuardStop | None = None


@dataclass(frozen=True)
class Due:
    """The plan without the changes that are to be made later; what of it is to be announced now; the changes frame of
    what is left out.
    """  # noqa: D205

    plan: Plan
    unannounced: tuple[PlannedNotice, ...] = ()
    later: pd.DataFrame = field(default_factory=lambda: changes_frame(()))


def announce(context: Context, notices: Sequence[PlannedNotice], lock: RunLock | None) -> Announced:
    """Announce planned changes, unless this is a dry run (no lock). Nothing is raised: each account has an outcome."""
    by_account: defaultdict[str, list[PlannedNotice]] = defaultdict(list)
    for notice in notices:
        by_account[notice.account_id].append(notice)
    if lock is None:
        rows = [AccountNotice(account_id, "planned", len(of)) for account_id, of in by_account.items()]
        return Announced(tuple(rows))
    topic_arn = context.configuration.notifications.topic_arn
    if not by_account or topic_arn is None:  # notice_days requires a topic
        return Announced()
    with context.stage("notice"):
        return _Announcer(context, lock, topic_arn).announce(by_account)


def waiting_notices(waiting: Mapping[str, Waiting]) -> tuple[AccountNotice, ...]:
    """Return a row for each account with functions that were announced and are not to be changed yet."""
    return tuple(
        AccountNotice(account_id, "waiting", one.functions, utc(one.not_before))
        for account_id, one in sorted(waiting.items())
    )


def forget_changed(context: Context, changes: pd.DataFrame) -> None:
    """Drop the announcements of what was changed. Raise StoreFailed, or BadInput where such a file is malformed."""
    if context.configuration.rollout.notice_days:
        changed = changes.loc[changes["outcome"] == "changed", "function_arn"]
        forget(context.store, frozenset(changed), context.clock.now())


def within_notice(context: Context, plan: Plan) -> Due:
    """Ask the notice again for an approved plan, which may be days old. What an owner has asked to remove needs none.

    Raise BadInput where a file of the announcements is malformed.
    """
    rollout, release = context.configuration.rollout, context.configuration.release
    if not rollout.notice_days:
        return Due(plan)
    asked_for = {change.function_arn for change in plan.changes if change.action == "remove"}
    changed = map(PlannedNotice.of, plan.changes)
    planned = [*plan.notices, *(notice for notice in changed if notice.function_arn not in asked_for)]
    now, account_ids = context.clock.now(), {notice.account_id for notice in planned}
    check = read_notices(context.store, account_ids, release, rollout.notice, now)
    moments = {notice.function_arn: check.not_before(notice.function_arn) for notice in planned}
    kept, later = [], []
    for change in plan.changes:
        moment = now if change.function_arn in asked_for else moments[change.function_arn]
        if moment and moment <= now:
            kept.append(change)
            continue
        why = f"announced, not before {_minute(moment)}" if moment else "to be announced first"
        later.append(ChangeRow(change, ChangeResult("deferred", f"{why} (rollout.notice_days)")))
        log_end(later[-1])
    unannounced = tuple(
        notice
        for notice in planned
        if moments[notice.function_arn] is None and not _left_alone(context, notice, now.date())
    )
    return Due(replace(plan, changes=tuple(kept)), unannounced, changes_frame(later))


def _left_alone(context: Context, notice: PlannedNotice, today: date) -> bool:
    """Return whether a function is opted out or in quarantine by now: its owner gets no notice of a change that never comes."""
    patterns = context.optouts.patterns(notice.account_id, notice.region, today)
    opted_out = bool(patterns) and glob_regex(patterns).fullmatch(notice.function_name) is not None
    return opted_out or any(entry.function_arn == notice.function_arn for entry in context.quarantine)


class _Announcer:
    """Announces to one account after the other, some at once, until a guard, a signal or the time ends it."""

    def __init__(self, context: Context, lock: RunLock, topic_arn: str) -> None:
        self._context = context
        self._guards = Guards(
            (lock.check, lambda: check_kill_switch(context.store), *context.switches), clock=context.clock
        )
        self._topic = Topic(topic_arn, context.session)

    def announce(self, by_account: Mapping[str, Sequence[PlannedNotice]]) -> Announced:
        accounts, rows, why, stopped = list(by_account), list[AccountNotice](), "", None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while len(rows) < len(accounts) and not why:
                some = accounts[len(rows) : len(rows) + _AT_ONCE]
                try:
                    why = self._ended()
                except GuardStop as stop:
                    why, stopped = f"stopped by the guard '{stop.guard}'", stop
                if not why:
                    done = list(pool.map(self._account, some, (by_account[one] for one in some)))
                    rows += done
                    why = "those before it failed" if all(one.outcome == "failed" for one in done) else ""
        left = [
            AccountNotice(one, "deferred", len(by_account[one]), detail=why) for one in accounts[len(rows) :]
        ]
        return Announced((*rows, *left), stopped)

    def _ended(self) -> str:
        """Return why no more is announced, "" where nothing ends it. Raise GuardStop."""
        self._guards.check()
        if self._context.stop.is_set():
            return "the run was told to stop"
        deadline = self._context.deadline
        if deadline is not None and self._context.clock.monotonic() >= deadline - SETTLE_SECONDS:
            return "the run's time was up"
        return ""

    def _account(self, account_id: str, notices: Sequence[PlannedNotice]) -> AccountNotice:
        """Announce to one account. The state comes last: it alone makes the announcement count."""
        context, settings = self._context, self._context.configuration
        now = context.clock.now().replace(microsecond=0)
        row = AccountNotice(
            account_id,
            "announced",
            len(notices),
            utc(now + settings.rollout.notice),
            f"notices/{account_id}.csv",
        )
        path = f"{run_folder(context.run_id)}/{row.file}"
        try:
            context.store.upload(path, self._csv(notices, row), "text/csv; charset=utf-8")
            subject = f"{counted(row.functions, 'function')} of account {account_id} to be changed"
            self._topic.publish(subject, self._message(notices, row, path), account_id)
            keep(context.store, account_id, self._kept(notices, row, now), now)
        except (ClientError, BotoCoreError) as error:
            row = replace(row, outcome="failed", not_before="", detail=describe(error))
        except AutoDefenderError as error:
            row = replace(row, outcome="failed", not_before="", detail=str(error))
        if row.outcome == "failed":
            log.error(
                "not announced, the next run tries again: account %s: %s",
                account_id,
                row.detail,
                extra={"account_id": account_id},
            )
        return row

    def _kept(self, notices: Sequence[PlannedNotice], row: AccountNotice, now: datetime) -> Iterator[Notice]:
        release, run_id = self._context.configuration.release, self._context.run_id
        for notice in notices:
            yield Notice(notice.function_arn, release, notice.action, utc(now), row.not_before, run_id)

    def _csv(self, notices: Sequence[PlannedNotice], row: AccountNotice) -> Iterator[bytes]:
        frame = pd.DataFrame(map(asdict, notices)).assign(not_before=row.not_before, opt_out=self._opt_out())
        return (text.encode() for text in csv_text(frame, NOTICES))

    def _message(self, notices: Sequence[PlannedNotice], row: AccountNotice, path: str) -> str:
        more = len(notices) - _LISTED
        moment = _minute(datetime.fromisoformat(row.not_before))
        what = f"the configuration of {counted(row.functions, 'Lambda function')} of account {row.account_id}"
        lines = [
            f"Auto-Defender is going to change {what}, not before {moment}:",
            "it keeps the security layer and its variables on them.",
            f"To opt out before then: {self._opt_out()}.",
            f"All functions, with this in a column: {self._context.store.url(path)}",
            "",
            *(f"{notice.action:<10} {visible(notice.function_arn)}" for notice in notices[:_LISTED]),
            *([f"and {more:,} more"] if more > 0 else []),
            "",
            f"run {self._context.run_id}",
        ]
        return "\n".join(lines)

    def _opt_out(self) -> str:
        tag = self._context.configuration.rollout.optout_tag
        entry = "ask the operators of Auto-Defender for an entry in the opt-out file"
        return f"give the function the tag {tag.key} with the value {tag.value}, or {entry}" if tag else entry


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
