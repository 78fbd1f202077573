"""Notice: a function is announced for a release, and changed no earlier than the days of notice after that."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from remediator.state.functions import FunctionRecord, records
from remediator.state.notices import Notice, announced
from scanner.core.arns import function_arns
from storage.protocol import Store


@dataclass(frozen=True)
class NoticeCheck:
    """Decides which functions may be changed at `now` (UTC, aware), by ARN.

    release: what is to be attached. period: the configured notice. notices: all that was announced. known: what is known
    of functions.
    """

    release: str
    period: timedelta
    now: datetime
    notices: Mapping[str, Notice]
    known: Mapping[str, FunctionRecord]

    def not_before(self, arn: str) -> datetime | None:
        """Return from when on a function may be changed; None where it has to be announced first.

        The date that its owner was notified of is kept where the configured notice became shorter meanwhile.
        """
        record, notice = self.known.get(arn), self.notices.get(arn)
        made = record if record and (record.ended, record.release) == ("changed", self.release) else None
        if made and made.protections:
            return self.now  # a repair of what was announced and made under this release
        if notice is None or notice.release != self.release or notice.lapsed(self.now):
            return None
        moment = datetime.fromisoformat(notice.announced)
        if made and datetime.fromisoformat(made.at) > moment:
            return None  # that change was rolled back since
        return max(datetime.fromisoformat(notice.not_before), moment + self.period)

    def late(self, waves: Mapping[str, str]) -> dict[str, int]:
        """Count by wave what was announced, or is to be, after the first change of its wave. waves: by ARN of what waits.

        New functions come all the time: one that keeps its wave open for the days of its notice keeps it open forever.
        """
        begun: dict[str, datetime] = {}
        for record in self.known.values():
            if (record.ended, record.release) == ("changed", self.release):
                at = datetime.fromisoformat(record.at)
                begun[record.wave] = min(begun.get(record.wave, at), at)
        return Counter(
            wave for arn, wave in waves.items() if wave in begun and self._announced(arn) > begun[wave]
        )

    def _announced(self, arn: str) -> datetime:
        notice = self.notices.get(arn)
        counts = notice is not None and notice.release == self.release and not notice.lapsed(self.now)
        return datetime.fromisoformat(notice.announced) if notice and counts else self.now


@dataclass(frozen=True)
class Waiting:
    """The functions of an account that were announced and are not to be changed yet; not_before: of the last of them."""

    functions: int
    not_before: datetime


@dataclass(frozen=True)
class Noticed:
    """guards: function ARN -> "notice", of what is to be changed later. unannounced: ARNs of what is to be announced.
    waiting: by account. late: by wave, how many of its functions came after its first change.
    """  # noqa: D205

    guards: Mapping[str, str] = field(default_factory=dict)
    unannounced: Collection[str] = frozenset()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)


def read_notices(
    store: Store,
    account_ids: Collection[str],
    release: str,
    period: timedelta,
    now: datetime,
    known: Mapping[str, FunctionRecord] | None = None,
) -> NoticeCheck:
    """Return the check for the functions of some accounts. known: what is known of them; None: it is read, too.

    Raise BadInput where a file of the announcements is malformed.
    """
    known = records(store, account_ids) if known is None else known
    return NoticeCheck(release, period, now, announced(store, account_ids), known)


def check_notice(
    marked: pd.DataFrame,
    *,
    store: Store,
    partition: str,
    release: str,
    period: timedelta,
    held: Collection[str],
    known: Mapping[str, FunctionRecord],
    now: datetime,
) -> Noticed:
    """Return what the notice holds back of the functions that may be changed otherwise, and of the next wave.

    marked: of WaveProgress.marked. held: ARNs of what other guards hold back. known: what is known of eligible functions.
    Raise BadInput where a file of the announcements is malformed.
    """
    if not period:
        return Noticed()
    rows = marked[marked["verdict"] == "eligible"]
    if "wave_waits" in rows:
        rows = rows[~rows["wave_waits"] | rows["wave_next"]]
    check = read_notices(store, set(rows["account_id"].unique()), release, period, now, known)
    arns = function_arns(rows, partition)
    moments = {arn: check.not_before(arn) for arn in arns if arn not in held}
    later = {arn: moment for arn, moment in moments.items() if moment and moment > now}
    unannounced = frozenset(arn for arn, moment in moments.items() if moment is None)
    guards = dict.fromkeys([*later, *unannounced], "notice")
    waves = dict(zip(arns, rows["wave"], strict=True)) if "wave" in rows else {}
    late = check.late({arn: waves[arn] for arn in guards if arn in waves})
    return Noticed(guards, unannounced, _by_account(later), late)


def _by_account(later: Mapping[str, datetime]) -> dict[str, Waiting]:
    found: dict[str, Waiting] = {}
    for arn, moment in later.items():
        account_id = arn.split(":")[4]
        before = found.get(account_id, Waiting(0, moment))
        found[account_id] = Waiting(before.functions + 1, max(before.not_before, moment))
    return found
