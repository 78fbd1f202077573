"""The same rules, one function at a time, as a script that loops over rows."""

import fnmatch
import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from scanner.core.arns import LayerVersion
from scanner.risk import runtimes
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER

_POLICIES = {"opted_out", "tag_required", "exclusion_list", "quarantined"}


def assess_row(row: Mapping[str, Any], rules: Rules, today: date) -> tuple[str, str, str]:
    """Protection, verdict and reasons of one row of the functions frame."""
    family = _family(row["runtime"], rules)
    layer = _our_layer(row, family, rules) if family else None
    names = row["env_names"].split(";")
    wrappers = {rules.defender.wrapper_for(f) for f in ([family] if family else rules.defender.layers)}  # type: ignore[arg-type]
    wrapped = EXEC_WRAPPER in names and row["exec_wrapper"] in wrappers
    fails = _fails(row, rules, today, family, layer, names, wrapped)
    protection = _protection(row, rules, layer, names, wrapped)
    if protection == "protected":
        return "protected", "protected", ""
    verdict = "excluded" if _POLICIES & set(fails) else "skipped" if fails else "eligible"
    return protection, verdict, ";".join(fails)


def _protection(
    row: Mapping[str, Any], rules: Rules, layer: str | None, names: list[str], wrapped: bool
) -> str:
    if not (wrapped or layer):
        return "unprotected"
    complete = wrapped and row["architecture"] in rules.risk.architectures
    if not complete or layer is None or not set(rules.defender.variable_names) <= set(names):
        return "partial"
    different = layer == "current" and row["env_different"]
    return "partial" if different else {"current": "protected", "older": "outdated", "newer": "ahead"}[layer]


def _family(runtime: str, rules: Rules) -> str | None:
    for family, prefix, oldest in (("python", "python3.", 8), ("nodejs", "nodejs", 10)):
        number = runtime.removeprefix(prefix).removesuffix(".x")
        if runtime.startswith(prefix) and number.isdigit() and int(number) >= oldest:
            return family if family in rules.defender.layers else None
    return None


def _our_layer(row: Mapping[str, Any], family: str, rules: Rules) -> str | None:
    ours = rules.defender.layer_for(family, row["region"], row["account_id"])  # type: ignore[arg-type]
    for arn in row["layers"].split(" "):
        found = LayerVersion.parse(arn)
        if found and found.same_layer(ours):
            newer = "newer" if found.version > ours.version else "older"
            return "current" if found.version == ours.version else newer
    return None


def _fails(
    row: Mapping[str, Any], rules: Rules, today: date, family: str | None, layer: str | None, names: list[str],
    wrapped: bool,
) -> list[str]:  # fmt: skip
    risk, used = rules.risk, rules.risk.utilization
    known = {
        "package_type": row["package_type"] != "Zip",
        "architecture": row["architecture"] not in risk.architectures,
        "runtime": family not in risk.runtime_families or runtimes.lifecycle(row["runtime"]) is None,
        "runtime_update_blocked": runtimes.update_blocked(row["runtime"], today),
        "memory": row["memory_mb"] <= risk.min_memory_mb,
        "timeout": not 0 <= row["timeout_sec"] < 900 - risk.timeout_buffer_sec,
        "layers": row["layer_count"] < 0 or (layer is None and row["layer_count"] >= risk.max_layers),
        "code_size": not 0 <= row["code_size_bytes"] < risk.zipped_size_threshold_mb * 1024 * 1024,
        "wrapper_conflict": EXEC_WRAPPER in names and not wrapped,
        "env_unreadable": not row["env_readable"],
        "env_overflow": row["env_bytes"] + row["env_growth"] + _added(row, rules, family, names) > 4096,
        "memory_utilization": _over(row["memory_utilization_pct"], used),
        "timeout_utilization": _over(row["timeout_utilization_pct"], used),
        "edge_replica": row["edge_replica"],
        "function_kind": bool({k for k in row["kinds"].split(";") if k} - set(risk.allowed_kinds)),
        "state": row["state"] not in ("", "Active", "Inactive")
        or row["last_update_status"] not in ("", "Successful"),
        "code_signing": row["signed"],
        "opted_out": _opted_out(row, rules, today),
        "tag_required": rules.require_tag is not None and not (row["required_tag"] and row["tags_read"]),
        "exclusion_list": any(
            fnmatch.fnmatchcase(row["function_name"], glob) for glob in rules.exclusion_list
        ),
        "quarantined": _arn(row, rules) in rules.quarantined,
        "variable_conflict": family is not None and layer is None and row["env_different"] != "",
    }
    return [code for code, failed in known.items() if failed]


def _added(row: Mapping[str, Any], rules: Rules, family: str | None, names: list[str]) -> int:
    if family is None:
        return 0
    ours = rules.defender.variables_for(family, row["function_name"], row["region"], row["account_id"])  # type: ignore[arg-type]
    missing = {name: value for name, value in ours.items() if name not in names}
    size = len(json.dumps(missing, separators=(",", ":"), ensure_ascii=False).encode())
    return size - (2 if row["env_bytes"] == 2 else 1) if missing else 0


def _over(pct: float, used: Any) -> bool:
    if not used.enabled:
        return False
    return bool(used.when_unmeasured == "skip") if math.isnan(pct) else bool(pct > used.threshold_pct)


def _opted_out(row: Mapping[str, Any], rules: Rules, today: date) -> bool:
    globs = rules.optouts.patterns(row["account_id"], row["region"], today)
    by_tag = rules.optout_tag is not None and (row["optout_tag"] or not row["tags_read"])
    return by_tag or any(fnmatch.fnmatchcase(row["function_name"], glob) for glob in globs)


def _arn(row: Mapping[str, Any], rules: Rules) -> str:
    return f"arn:{rules.partition}:lambda:{row['region']}:{row['account_id']}:function:{row['function_name']}"
