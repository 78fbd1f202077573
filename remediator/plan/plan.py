"""The plan: frozen changes as data, made from the assessed frame, saved as JSON, and held to what was approved."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from remediator.change.delta import (
    Delta,
    DeltaConflict,
    State,
    deltas_of_ours,
    layers_with,
    plan_delta,
    remove_deltas,
)
from remediator.change.desired_state import DesiredState, desired_state, ours_on
from remediator.change.records import STRICT, Change, FunctionState, PlannedAction, PlannedNotice
from remediator.settings import RolloutSettings
from scanner.core.arns import function_arns
from scanner.settings import EXEC_WRAPPER, DefenderSettings, Family

_ACTIONS: Mapping[str, PlannedAction] = {
    "unprotected": "protect",
    "partial": "repair",
    "outdated": "upgrade",
    "ahead": "downgrade",
}
# A change board meets weekly. Age alone does no harm: a function that has moved on is dropped anyway.
VALID_FOR = timedelta(days=8)
# Some 2 MB of a plan, which each run writes. Owners get one message for an account: what is left waits for the next run.
MAX_NOTICES = 10_000


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which they are made.

    held_back: how many more functions are eligible and wait, by the guard that holds them back
    (max_changes_per_run, max_changes_per_account, failed_before, drift, regressed, wave, own_function, notice, or a reason
    code). notices: which functions are announced, before a later plan changes them.
    digest: SHA-256 over all the rest; config_digest: of the configuration that the plan was made under.
    """

    __pydantic_config__ = STRICT

    format: Literal[1]
    run_id: str
    created: datetime
    expires: datetime
    partition: str
    config_digest: str
    held_back: dict[str, int]
    changes: tuple[Change, ...]
    digest: str = ""
    notices: tuple[PlannedNotice, ...] = ()

    def to_json(self) -> bytes:
        """Return the plan as it is saved and approved."""
        return json.dumps(asdict(self), indent=2, default=datetime.isoformat).encode() + b"\n"

    def summary(self) -> str:
        """Return the plan in lines that a change board can read."""
        actions = (
            pd.Series([change.action for change in self.changes], dtype="str").value_counts().sort_index()
        )
        units = {(change.account_id, change.region) for change in self.changes}
        accounts = {change.account_id for change in self.changes}
        counts = ", ".join(f"{count} {action}" for action, count in actions.items()) or "nothing to do"
        full = sum(change.layers_full for change in self.changes)
        tight = sum(change.env_tight for change in self.changes)
        where = f"in {len(accounts)} accounts, {len(units)} account-regions"
        lines = [
            f"plan {self.run_id}: {len(self.changes)} changes ({counts}) {where}",
            f"headroom: {full} would end at five layers, {tight} within 5 % of 4 KB of variables",
            *(f"held back by {guard}: {count}" for guard, count in sorted(self.held_back.items())),
            *self._notices_summary(),
            f"made {self.created:%Y-%m-%d %H:%M} UTC, expires {self.expires:%Y-%m-%d %H:%M} UTC",
            f"digest {self.digest}",
        ]
        return "\n".join(lines)

    def _notices_summary(self) -> Sequence[str]:
        accounts = len({notice.account_id for notice in self.notices})
        return [f"to be announced: {len(self.notices)} functions in {accounts} accounts"] if accounts else []


def make_plan(
    assessed: pd.DataFrame,
    defender: DefenderSettings,
    rollout: RolloutSettings,
    *,
    run_id: str,
    now: datetime,
    partition: str,
    config_digest: str,
    guards: Mapping[str, str] | None = None,
    made_before: Mapping[str, int] | None = None,
    unannounced: Collection[str] = (),
    given: Mapping[str, Collection[str]] = MappingProxyType({}),
    max_notices: int = MAX_NOTICES,
) -> Plan:
    """Plan a change for each eligible function and each removal, up to the limits, round robin over the accounts.

    A removal, which an owner has asked for, waits for no wave.

    assessed: the frame that assess_risk gives, with the columns of wave_progress.py where waves are configured.
    now: aware, UTC. guards: function ARN -> the guard that holds it back (HeldBack.guards). made_before: how many changes
    the run has made already, by account; the limits count them. unannounced: ARNs of functions that have to be announced;
    guards names those of the current wave too. given: by ARN, which variables runs gave to functions; one that is not
    named here loses all that have our value. max_notices: announcements end with the account that reaches it.
    """
    planned = assessed[(assessed["verdict"] == "eligible") | assessed["remove"]]
    waits = planned["wave_waits"] & ~planned["remove"] if "wave_waits" in planned else False
    planned = planned.assign(wave_waits=waits)
    notices = _notices(planned, defender, partition, unannounced, max_notices) if unannounced else ()
    current = planned[~planned["wave_waits"]]
    current = current.assign(function_arn=function_arns(current, partition))
    held = current["function_arn"].map(guards or {})
    counts = Counter({**held.value_counts().to_dict(), "wave": int(planned["wave_waits"].sum())})
    chosen, limited = _within_limits(current[held.isna()], rollout, made_before or {})
    changes, conflicts = _changes(chosen, defender, given)
    counts.update(conflicts)
    held_back = {str(guard): int(count) for guard, count in {**counts, **limited}.items() if count}
    plan = Plan(
        1, run_id, now, now + VALID_FOR, partition, config_digest, held_back, tuple(changes), notices=notices
    )
    return replace(plan, digest=document_digest(asdict(plan)))


def document_digest(document: Mapping[str, Any]) -> str:
    """Return what `digest` of a plan must be, by what its file says: one of an earlier release may lack keys of today."""
    text = json.dumps(
        {**document, "digest": ""}, sort_keys=True, separators=(",", ":"), default=datetime.isoformat
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _notices(
    planned: pd.DataFrame,
    defender: DefenderSettings,
    partition: str,
    unannounced: Collection[str],
    most: int,
) -> tuple[PlannedNotice, ...]:
    """Return the announcements, accounts with functions of the current wave first.

    Whole accounts, until there are `most` functions or more, and no function that would not be changed.
    """
    rows = planned.assign(function_arn=function_arns(planned, partition))
    rows = rows[rows["function_arn"].isin(list(unannounced))]
    ordered = rows.astype({"account_id": "str", "region": "str", "function_name": "str"}).sort_values(
        ["wave_waits", "account_id", "region", "function_name"]
    )
    sizes = ordered.groupby("account_id", sort=False).size()
    chosen = sizes.index[sizes.cumsum() - sizes < most]
    changes, _ = _changes(ordered[ordered["account_id"].isin(chosen)], defender, {})
    return tuple(map(PlannedNotice.of, changes))


def _changes(
    rows: pd.DataFrame, defender: DefenderSettings, given: Mapping[str, Collection[str]]
) -> tuple[list[Change], Counter[str]]:
    """Return the changes of these functions, and how many functions have none, by reason code."""
    changes, conflicts = [], Counter[str]()
    for row in rows.to_dict("records"):
        try:
            changes.append(_removal(row, defender, given) if row["remove"] else _change(row, defender))
        except DeltaConflict as error:
            conflicts[str(error)] += 1
    return changes, conflicts


def _within_limits(
    eligible: pd.DataFrame, rollout: RolloutSettings, made_before: Mapping[str, int]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Order round robin by account, so that no account uses up a run; return what fits and how many each limit holds back."""
    place = ["account_id", "region", "function_name"]
    ordered = eligible.assign(**{column: eligible[column].astype("str") for column in place}).sort_values(
        place
    )
    earlier = ordered["account_id"].map(made_before).fillna(0).astype("int64")
    rank = ordered.groupby("account_id").cumcount() + earlier
    fair = ordered.assign(rank=rank)[rank < rollout.max_changes_per_account].sort_values(["rank", *place])
    chosen = fair.head(max(0, rollout.max_changes_per_run - sum(made_before.values())))
    return chosen, {
        "max_changes_per_account": len(ordered) - len(fair),
        "max_changes_per_run": len(fair) - len(chosen),
    }


def _change(row: Mapping[Any, Any], defender: DefenderSettings) -> Change:
    family: Family = row["family"]
    account_id, region = row["account_id"], row["region"]
    ours = desired_state(defender, family, region, account_id)
    before = FunctionState(
        tuple(row["layers"].split()),
        row["exec_wrapper"],
        _names(row["env_names"]),
    )
    different = _names(row["env_different"])
    delta = plan_delta(before.layers, before.wrapper, before.variables, ours, different)
    return Change(
        account_id=account_id,
        region=region,
        function_name=row["function_name"],
        function_arn=row["function_arn"],
        action=_ACTIONS[row["protection"]],
        family=family,
        layer=str(ours.layer),
        before=before,
        after=_after(before, delta, ours),
        revision_id=row["revision_id"],
        why=_why(row),
        wave=row.get("wave", ""),
        variables_changed=delta.variables_changed,
        env_tight=row["env_tight"],
    )


def _removal(
    row: Mapping[Any, Any], defender: DefenderSettings, given: Mapping[str, Collection[str]]
) -> Change:
    ours = ours_on(defender, row["region"], row["account_id"], row["function_name"])
    before = FunctionState(tuple(row["layers"].split()), row["exec_wrapper"], _names(row["env_names"]))
    different = _names(row["env_different"])
    if (names := given.get(row["function_arn"])) is not None:
        ours = ours.only(names)
    # The frame has names alone: a variable of ours that is not different has our value.
    equal = set(before.variables).difference(different)
    variables = {name: value for name, value in ours.variables.items() if name in equal}
    if EXEC_WRAPPER in before.variables:
        variables[EXEC_WRAPPER] = before.wrapper
    state = State(before.layers, variables)
    deltas = deltas_of_ours(state, ours)
    if not deltas:
        raise DeltaConflict("wrapper_conflict")
    after = remove_deltas(state, deltas, ours.variables)
    left = after.variables or {}
    gone = variables.keys() - left.keys()
    return Change(
        account_id=row["account_id"],
        region=row["region"],
        function_name=row["function_name"],
        function_arn=row["function_arn"],
        action="remove",
        family=row["family"] or next(iter(defender.layers)),
        layer="",
        before=before,
        after=FunctionState(
            after.layers,
            left.get(EXEC_WRAPPER, ""),
            tuple(name for name in before.variables if name not in gone),
        ),
        revision_id=row["revision_id"],
        why="an entry of the opt-out file says remove: true",
        variables_changed=different,
    )


def _names(joined: str) -> tuple[str, ...]:
    return tuple(name for name in joined.split(";") if name)


def _after(before: FunctionState, delta: Delta, ours: DesiredState) -> FunctionState:
    return FunctionState(
        layers_with(before.layers, delta),
        delta.wrapper or before.wrapper,
        tuple(name for name in ours.names if name in (*before.variables, *delta.variables_added)),
    )


def _why(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['package_type']}, {row['architecture']}, {row['runtime']}, {row['memory_mb']} MB, "
        f"timeout {row['timeout_sec']} s, {row['code_size_bytes']} bytes of code, "
        f"{row['layer_count']} layers, {row['env_bytes']} bytes of variables; every check passed"
    )
