"""The status of the rollout: its waves, the health of changed functions, and drift."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from remediator.rollout.comparison import Verdict
from remediator.rollout.health import FunctionHealth
from remediator.rollout.waves import WaveStatus

VERDICTS: tuple[Verdict, ...] = ("healthy", "regressed", "too_little_traffic", "unread")


@dataclass(frozen=True)
class DriftedFunction:
    """A function that lost the Defender after a run had added it.

    times: how often. at: when it was last added, by run_id. given_up: it is not protected again. tool: what deploys it,
    by its tags, and snippet: the lines for its template; "" where not given up. detail: why there is no snippet.
    """

    function_arn: str
    times: int
    run_id: str
    at: str
    given_up: bool
    tool: str = ""
    snippet: str = ""
    detail: str = ""


NoticeOutcome = Literal["planned", "announced", "failed", "deferred", "waiting"]


@dataclass(frozen=True)
class AccountNotice:
    """The announcement of some of an account's functions.

    outcome: announced by this run; planned, in a dry run; failed or deferred, and announced by the next run; waiting,
    announced by an earlier run. not_before: from when on the last of them may be changed (ISO 8601, UTC; "" where not
    announced). file: in the run's folder, "" none. detail: why it failed or was deferred.
    """

    account_id: str
    outcome: NoticeOutcome
    functions: int
    not_before: str = ""
    file: str = ""
    detail: str = ""


@dataclass(frozen=True)
class RolloutStatus:
    """What a run that plans reports besides verdicts."""

    waves: tuple[WaveStatus, ...] = ()
    health: tuple[FunctionHealth, ...] = ()
    drift: tuple[DriftedFunction, ...] = ()
    notices: tuple[AccountNotice, ...] = ()

    @property
    def regressed(self) -> Sequence[FunctionHealth]:
        """Return the functions whose health regressed after their change."""
        return [one for one in self.health if one.verdict == "regressed"]

    @property
    def unannounced(self) -> bool:
        """Return whether an announcement failed."""
        return any(one.outcome == "failed" for one in self.notices)

    def counts(self) -> dict[str, Any]:
        """Return the keys of summary.json: the waves, counts of functions, and those that regressed by name."""
        verdicts = Counter(one.verdict for one in self.health)
        regressed = [
            {"function_arn": one.function_arn, "run_id": one.run_id, "why": one.why} for one in self.regressed
        ]
        return {
            "waves": [asdict(wave) for wave in self.waves],
            "health": {
                "watched": len(self.health),
                **{verdict: verdicts[verdict] for verdict in VERDICTS},
                "regressed_functions": regressed,
            },
            "drift": {"lost": len(self.drift), "given_up": sum(one.given_up for one in self.drift)},
        }

    def notice_counts(self) -> dict[str, Any]:
        """Return the key `notice` of summary.json: functions by outcome, their accounts, and until when they wait."""
        functions = Counter[str]()
        for notice in self.notices:
            functions[notice.outcome] += notice.functions
        return {
            **{outcome: functions[outcome] for outcome in get_args(NoticeOutcome)},
            "accounts": len({notice.account_id for notice in self.notices}),
            "until": max((notice.not_before for notice in self.notices), default="") or None,
            "error": next((notice.detail for notice in self.notices if notice.outcome == "failed"), None),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the content of rollout.json."""
        return {field.name: [asdict(one) for one in getattr(self, field.name)] for field in fields(self)}
