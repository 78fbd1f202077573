"""What the documents say of one function, row by row: written from them, sharing nothing with the engine.

It takes Lambda's answer, not the frame, and knows AWS's defaults, the mission's five checks and the guards.
"""

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import scanner
from scanner.risk.rules import Rules
from scanner.settings import EXEC_WRAPPER

ORDER = (
    "package_type", "architecture", "runtime", "runtime_update_blocked", "memory", "timeout", "layers", "code_size",
    "wrapper_conflict", "env_unreadable", "env_overflow", "memory_utilization", "timeout_utilization", "edge_replica",
    "function_kind", "state", "code_signing", "opted_out", "tag_required", "exclusion_list", "quarantined",
    "variable_conflict",
)  # fmt: skip
POLICIES = {"opted_out", "tag_required", "exclusion_list", "quarantined"}
RUNTIMES = json.loads((Path(scanner.__file__).parent / "risk" / "data" / "lambda_runtimes.json").read_text())[
    "runtimes"
]
USUAL = set(
    """CodeSha256 CodeSize ConfigSha256 DeadLetterConfig Description Environment EphemeralStorage FileSystemConfigs
    FunctionArn FunctionName Handler ImageConfigResponse KMSKeyArn LastModified LastUpdateStatus LastUpdateStatusReason
    LastUpdateStatusReasonCode Layers LoggingConfig MasterArn MemorySize PackageType RevisionId Role Runtime
    RuntimeConfig RuntimeVersionConfig SigningJobArn SigningProfileVersionArn SnapStart State StateReason
    StateReasonCode Timeout TracingConfig Version VpcConfig Architectures ResponseMetadata""".split()
)
NICKNAMES = {
    "DurableConfig": "durable", "CapacityProviderConfig": "capacity_provider", "TenancyConfig": "tenant_isolation",
    "AcceleratorConfig": "accelerator",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One function: Lambda's answer, where it lives, its tags (None: could not be read), its utilization."""

    answer: Mapping[str, Any]
    account_id: str
    region: str
    tags: Mapping[str, str] | None = None
    memory_pct: float | None = None
    timeout_pct: float | None = None


@dataclass(frozen=True)
class Opinion:
    """The oracle's opinion."""

    protection: str
    verdict: str
    reasons: list[str]


def family_of(runtime: Any) -> str | None:
    if not isinstance(runtime, str) or not runtime.isascii():
        return None
    if runtime.startswith("python3."):
        minor = runtime[len("python3.") :]
        return "python" if minor.isdigit() and len(minor) <= 2 and int(minor) >= 8 else None
    if runtime.startswith("nodejs") and runtime.endswith(".x"):
        major = runtime[len("nodejs") : -len(".x")]
        return "nodejs" if major.isdigit() and len(major) <= 2 and int(major) >= 10 else None
    return None


def fill(template: str, row: Row) -> str:
    text = template.replace("{function_name}", row.answer["FunctionName"])
    return text.replace("{region}", row.region).replace("{account_id}", row.account_id)


def whole(value: Any, least: int) -> int | None:
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31 else None
    )


def layer_arns(answer: Mapping[str, Any]) -> list[str] | None:
    value = answer.get("Layers")
    if value is None:
        return []
    if not isinstance(value, list):
        return None
    arns = [item.get("Arn") if isinstance(item, dict) else None for item in value]
    return arns if all(isinstance(arn, str) and " " not in arn for arn in arns) else None  # type: ignore[return-value]


def variables_of(answer: Mapping[str, Any]) -> dict[str, str] | None:
    environment = answer.get("Environment")
    if environment is None:
        return {}
    if not isinstance(environment, dict) or environment.get("Error") is not None:
        return None
    variables = environment.get("Variables")
    if not isinstance(variables, dict) or not all(isinstance(v, str) for v in variables.values()):
        return None
    return variables


def measured(variables: dict[str, str]) -> int:
    text = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode("utf-8", "surrogatepass"))


def our_layer(arns: list[str], ours: str, previous: list[str], exact: bool) -> str:
    """none, older, current or newer: the first version of our layer; older beside or without one used before."""
    name, _, wanted = ours.rpartition(":")
    found, used_before = "none", False
    for arn in arns:
        of, _, text = arn.rpartition(":")
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            continue
        version = int(text)
        if of == name and found == "none":
            found = "older" if version < int(wanted) else "newer" if version > int(wanted) else "current"
        if of != name and any(old in (of, f"{of}:*") or old == arn for old in previous):
            used_before = True
    if used_before:
        return "older"
    return "current" if found == "newer" and not exact else found


def expected(row: Row, rules: Rules, today: date) -> Opinion:
    answer, risk = row.answer, rules.risk
    runtime = answer.get("Runtime")
    family = family_of(runtime)
    template = rules.defender.layers.get(family)  # type: ignore[call-overload]
    if isinstance(template, dict):
        template = template.get(row.region)
    family = family if template else None
    arns, variables = layer_arns(answer), variables_of(answer)
    carried = "none"
    if family:
        previous = [fill(old, row) for old in rules.defender.previous.layers]
        carried = our_layer(
            arns or [], fill(template, row), previous, rules.defender.version_policy == "exact"
        )
    wrapper = (variables or {}).get(EXEC_WRAPPER)
    wrappers = [rules.defender.wrapper_for(f) for f in ([family] if family else rules.defender.layers)]  # type: ignore[arg-type]
    our_wrapper = wrapper in wrappers or wrapper in rules.defender.previous.wrappers
    configured = {n: fill(v.get_secret_value(), row) for n, v in rules.defender.environment.items()}
    fails = set()
    if answer.get("PackageType") not in (None, "Zip"):
        fails.add("package_type")
    architectures = answer.get("Architectures")
    if architectures is not None and architectures not in [[allowed] for allowed in risk.architectures]:
        fails.add("architecture")
    if family is None or family not in risk.runtime_families or runtime not in RUNTIMES:
        fails.add("runtime")
    block = RUNTIMES.get(runtime, {}).get("update_block") if isinstance(runtime, str) else None
    if block and today >= date.fromisoformat(block):
        fails.add("runtime_update_blocked")
    memory, timeout = whole(answer.get("MemorySize"), 1), whole(answer.get("Timeout"), 1)
    if memory is None or not memory > risk.min_memory_mb:
        fails.add("memory")
    if timeout is None or not timeout < 900 - risk.timeout_buffer_sec:
        fails.add("timeout")
    size = answer.get("CodeSize")
    if (
        not isinstance(size, int)
        or isinstance(size, bool)
        or not 0 <= size < risk.zipped_size_threshold_mb * 2**20
    ):
        fails.add("code_size")
    if arns is None or (
        carried == "none"
        and len(arns) + 1 > (min(risk.max_layers, 4) if risk.keep_layer_slot else risk.max_layers)
    ):
        fails.add("layers")
    if variables is None:
        fails.add("env_unreadable")
    elif wrapper is not None and not our_wrapper:
        fails.add("wrapper_conflict")
    if variables is not None:
        merged = dict(variables)
        if family and (wrapper is None or our_wrapper):
            merged[EXEC_WRAPPER] = rules.defender.wrapper_for(family)  # type: ignore[arg-type]
        merged |= {n: v for n, v in configured.items() if family or n in merged}
        size, now = measured(merged), measured(variables)
        if size > 4096 or (risk.keep_layer_slot and size > now and size > 4096 * 0.95):
            fails.add("env_overflow")
    different = any(variables[n] != v for n, v in configured.items() if n in (variables or {}))  # type: ignore[index]
    if family and carried == "none" and different:
        fails.add("variable_conflict")
    for code, pct in (("memory_utilization", row.memory_pct), ("timeout_utilization", row.timeout_pct)):
        used = risk.utilization
        if used.enabled and (pct > used.threshold_pct if pct is not None else used.when_unmeasured == "skip"):
            fails.add(code)
    if answer.get("MasterArn") is not None or answer["FunctionName"].startswith("us-east-1."):
        fails.add("edge_replica")
    unusual = {NICKNAMES.get(k, k) for k, v in answer.items() if k not in USUAL and v is not None}
    if unusual - set(risk.allowed_kinds):
        fails.add("function_kind")
    if answer.get("State") not in (None, "", "Active", "Inactive"):
        fails.add("state")
    if answer.get("LastUpdateStatus") not in (None, "", "Successful"):
        fails.add("state")
    if answer.get("SigningJobArn") is not None or answer.get("SigningProfileVersionArn") is not None:
        fails.add("code_signing")
    fails |= policies(row, rules, today)
    fits = architectures is None or architectures in [[allowed] for allowed in risk.architectures]
    complete = our_wrapper and fits and variables is not None and configured.keys() <= variables.keys()
    equal = complete and not different and bool(family) and wrapper == rules.defender.wrapper_for(family)  # type: ignore[arg-type]
    protection = protection_of(our_wrapper, carried, complete, equal)
    verdict = "excluded" if fails & POLICIES else "skipped" if fails else "eligible"
    if protection == "protected":
        return Opinion(protection, "protected", [])
    return Opinion(protection, verdict, [code for code in ORDER if code in fails])


def policies(row: Row, rules: Rules, today: date) -> set[str]:
    name, fails = row.answer["FunctionName"], set()
    for entry in rules.optouts.entries:
        globs = entry.functions or ("*",)
        here = entry.account in ("*", row.account_id) and (
            entry.regions is None or row.region in entry.regions
        )
        in_force = entry.expires is None or entry.expires >= today
        if here and in_force and any(fnmatch.fnmatchcase(name, glob) for glob in globs):
            fails.add("opted_out")
    off, on = rules.optout_tag, rules.require_tag
    if off and (row.tags is None or row.tags.get(off.key) == off.value):
        fails.add("opted_out")
    if on and (row.tags is None or row.tags.get(on.key) != on.value):
        fails.add("tag_required")
    if any(fnmatch.fnmatchcase(name, glob) for glob in rules.exclusion_list):
        fails.add("exclusion_list")
    if row.answer["FunctionArn"] in rules.quarantined:
        fails.add("quarantined")
    return fails


def protection_of(our_wrapper: bool, carried: str, complete: bool, equal: bool) -> str:
    if carried == "none":
        return "partial" if our_wrapper else "unprotected"
    if not complete:
        return "partial"
    return {"older": "outdated", "newer": "ahead"}.get(carried, "protected" if equal else "partial")
