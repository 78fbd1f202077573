"""A saved plan: read back, and held against the configuration that it was made under."""

import hashlib
import json
from datetime import datetime
from functools import lru_cache

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from remediator.change.records import Change, PlannedNotice
from remediator.plan.plan import Plan, document_digest
from scanner.core.arns import FunctionArn
from scanner.core.errors import BadInput
from scanner.settings import EXEC_WRAPPER

# Some 40,000 changes: more than anyone approves at once.
MAX_PLAN_BYTES = 50_000_000
# rollout.dry_run is the command's; `doctor` alone reads organization.stack_set.
_NO_DECISION = {"dry_run", "stack_set"}
# OWASP password storage cheat sheet: PBKDF2-HMAC-SHA256 with 600,000 iterations.
STRETCHING = 600_000


def configuration_digest(*sections: BaseModel, iterations: int = STRETCHING) -> str:
    """Digest sections of the configuration, without the keys that decide over no change.

    Keys at their default are left out, so that a version with new keys accepts what was made before it. A default that
    another version has changed is not noticed here: the recheck before each change uses the new one.
    The configuration holds secrets, and a plan is handed around: key stretching keeps them from being guessed.
    """
    data = [section.model_dump(exclude=_NO_DECISION, exclude_defaults=True) for section in sections]
    return _stretched(json.dumps(data, sort_keys=True, default=_plain), iterations)


# Kept for a Lambda function's next invocations: each digest takes a tenth of a second or more of their time.
@lru_cache(maxsize=8)
def _stretched(text: str, iterations: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"auto-defender plan", iterations).hex()


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
    if plan.digest != document_digest(json.loads(text)) or not _consistent(plan):
        raise BadInput(f"{source}: edited after it was made, its digest does not fit; {again}")
    if plan.created.tzinfo is None or plan.expires.tzinfo is None or now >= plan.expires:
        raise BadInput(f"{source}: expired on {plan.expires:%Y-%m-%d %H:%M} UTC; {again}")
    if plan.config_digest != config_digest:
        raise BadInput(
            f"{source}: made under another configuration (defender, risk, rollout or organization differ); {again}"
        )
    return plan


def _consistent(plan: Plan) -> bool:
    notices = [*plan.notices, *map(PlannedNotice.of, plan.changes)]
    named = all(FunctionArn.parse(one.function_arn) == _arn(one, plan) for one in notices)
    return named and all(map(_ends_as_its_action, plan.changes))


def _ends_as_its_action(change: Change) -> bool:
    return not change.layer if change.action == "remove" else EXEC_WRAPPER in change.after.variables


def _arn(notice: PlannedNotice, plan: Plan) -> FunctionArn:
    return FunctionArn(plan.partition, notice.region, notice.account_id, notice.function_name)
