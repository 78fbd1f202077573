"""The plan: frozen changes as data, made from the assessed frame, saved as JSON, and held to what was approved."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from remediator.change.delta import Delta, DeltaConflict, DesiredState, layers_with, plan_delta
from remediator.settings import RolloutSettings
from scanner.core.arns import FunctionArn, function_arns
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER, DefenderSettings, Family

Action = Literal["protect", "repair", "upgrade"]
_ACTIONS: Mapping[str, Action] = {"unprotected": "protect", "partial": "repair", "outdated": "upgrade"}
# A change board meets weekly. Age alone does no harm: a function that has moved on is dropped anyway.
VALID_FOR = timedelta(days=8)
# Some 40,000 changes: more than anyone approves at once.
MAX_PLAN_BYTES = 50_000_000
_STRICT = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class FunctionState:
    """What a function carries: layer ARNs in order, the wrapper's value ("" absent), which of our variables."""

    __pydantic_config__ = _STRICT

    layers: tuple[str, ...]
    wrapper: str
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One change of one function. `why` gives the facts that made it safe, `revision_id` what they were read from.

    wave: the name of the wave that it belongs to, "" where none is under way.
    """

    __pydantic_config__ = _STRICT

    account_id: str
    region: str
    function_name: str
    function_arn: str
    action: Action
    family: Family
    layer: str
    before: FunctionState
    after: FunctionState
    revision_id: str
    why: str
    wave: str = ""


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which they are made.

    held_back: how many more functions are eligible and wait, by the guard that holds them back
    (max_changes_per_run, max_changes_per_account, failed_before, drift, regressed, wave, own_function, or a reason code).
    digest: SHA-256 over all the rest; config_digest: of the configuration that the plan was made under.
    """

    __pydantic_config__ = _STRICT

    format: Literal[1]
    run_id: str
    created: datetime
    expires: datetime
    partition: str
    config_digest: str
    held_back: dict[str, int]
    changes: tuple[Change, ...]
    digest: str = ""

    @cached_property
    def computed_digest(self) -> str:
        """Compute what `digest` must be."""
        data = asdict(replace(self, digest=""))
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=datetime.isoformat)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> bytes:
        """Give the plan as it is saved and approved."""
        return json.dumps(asdict(self), indent=2, default=datetime.isoformat).encode() + b"\n"

    def summary(self) -> str:
        """Tell the plan in lines that a change board can read."""
        actions = (
            pd.Series([change.action for change in self.changes], dtype="str").value_counts().sort_index()
        )
        units = {(change.account_id, change.region) for change in self.changes}
        accounts = {change.account_id for change in self.changes}
        counts = ", ".join(f"{count} {action}" for action, count in actions.items()) or "nothing to do"
        where = f"in {len(accounts)} accounts, {len(units)} account-regions"
        lines = [
            f"plan {self.run_id}: {len(self.changes)} changes ({counts}) {where}",
            *(f"held back by {guard}: {count}" for guard, count in sorted(self.held_back.items())),
            f"made {self.created:%Y-%m-%d %H:%M} UTC, expires {self.expires:%Y-%m-%d %H:%M} UTC",
            f"digest {self.digest}",
        ]
        return "\n".join(lines)


def make_plan(
    assessed: pd.DataFrame,
    defender: DefenderSettings,
    rollout: RolloutSettings,
    *,
    run_id: str,
    now: datetime,
    partition: str,
    config_digest: str,
    hold: Mapping[str, str] | None = None,
) -> Plan:
    """Plan a change for each eligible function, up to the limits, the accounts taking turns.

    assessed: the frame that assess_risk gives, with the columns of waves_now.py where waves are configured.
    now: aware, UTC. hold: function ARN -> the guard that keeps its hands off it, as Holds gives it.
    """
    eligible = assessed[assessed["verdict"] == "eligible"]
    waiting = 0
    if "wave_waits" in eligible:
        waiting = int(eligible["wave_waits"].sum())
        eligible = eligible[~eligible["wave_waits"]]
    eligible = eligible.assign(function_arn=function_arns(eligible, partition))
    held = eligible["function_arn"].map(hold or {})
    counts = {**held.value_counts().to_dict(), "wave": waiting}
    chosen, limited = _within_limits(eligible[held.isna()], rollout)
    changes = []
    for row in chosen.to_dict("records"):
        try:
            changes.append(_change(row, defender))
        except DeltaConflict as error:
            counts[str(error)] = counts.get(str(error), 0) + 1
    held_back = {str(guard): int(count) for guard, count in {**counts, **limited}.items() if count}
    plan = Plan(1, run_id, now, now + VALID_FOR, partition, config_digest, held_back, tuple(changes))
    return replace(plan, digest=plan.computed_digest)


def _within_limits(eligible: pd.DataFrame, rollout: RolloutSettings) -> tuple[pd.DataFrame, dict[str, int]]:
    """Take turns by account, so that no account uses up a run; give what fits and how many each limit holds."""
    place = ["account_id", "region", "function_name"]
    ordered = eligible.assign(**{column: eligible[column].astype("str") for column in place}).sort_values(
        place
    )
    turn = ordered.groupby("account_id").cumcount()
    fair = ordered.assign(turn=turn)[turn < rollout.max_changes_per_account].sort_values(["turn", *place])
    chosen = fair.head(rollout.max_changes_per_run)
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
        tuple(name for name in row["env_names"].split(";") if name),
    )
    delta = plan_delta(before.layers, before.wrapper, before.variables, ours)
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
    )


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


def desired_state(defender: DefenderSettings, family: Family, region: str, account_id: str) -> DesiredState:
    """Give what a function of this family, region and account is to carry."""
    return DesiredState(
        defender.layer_for(family, region, account_id), defender.wrapper_for(family), defender.variable_names
    )


def configuration_digest(*sections: BaseModel) -> str:
    """Digest what decides over changes (the sections defender, risk and rollout), but not rollout.dry_run.

    The configuration holds secrets, and a plan is handed around: key stretching keeps them from being guessed.
    """
    data = [section.model_dump(exclude={"dry_run"}) for section in sections]
    text = json.dumps(data, sort_keys=True, default=_plain)
    # OWASP password storage cheat sheet: PBKDF2-HMAC-SHA256 with 600,000 iterations.
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"auto-defender plan", 600_000).hex()


def _plain(value: object) -> str:
    return str(value.get_secret_value()) if isinstance(value, SecretStr) else str(value)


def read_plan(text: bytes, source: str, *, now: datetime, config_digest: str) -> Plan:
    """Read a saved plan that may be applied now.

    Raises BadInput for anything else: too large, not a plan, edited, expired, or made under another configuration.
    """
    if len(text) > MAX_PLAN_BYTES:
        raise BadInput(f"{source}: {len(text):,} bytes; at most {MAX_PLAN_BYTES:,} are read")
    try:
        plan: Plan = TypeAdapter(Plan).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{source}: {key + ': ' if key else ''}not a plan: {first['msg']}") from None
    again = "make a new one with: auto-defender plan"
    if plan.digest != plan.computed_digest or not all(_consistent(change, plan) for change in plan.changes):
        raise BadInput(f"{source}: edited after it was made, its digest does not fit; {again}")
    if plan.created.tzinfo is None or plan.expires.tzinfo is None or now >= plan.expires:
        raise BadInput(f"{source}: expired on {plan.expires:%Y-%m-%d %H:%M} UTC; {again}")
    if plan.config_digest != config_digest:
        raise BadInput(
            f"{source}: made under another configuration (defender, risk or rollout differ); {again}"
        )
    return plan


def _consistent(change: Change, plan: Plan) -> bool:
    arn = FunctionArn(plan.partition, change.region, change.account_id, change.function_name)
    return FunctionArn.parse(change.function_arn) == arn and EXEC_WRAPPER in change.after.variables
