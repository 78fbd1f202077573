"""The catalogue of checks: one entry a check. The engine, explain, the reports and docs/checks.md come from it.

To add a check: an entry here, its function in checks.py, its tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from scanner.risk import checks as columns
from scanner.risk.protection import DefenderMatch, Flags
from scanner.risk.rules import Rules


@dataclass(frozen=True)
class Check:
    """One check. `fails` returns a flag a row: True where the check forbids the change."""

    code: str
    kind: Literal["risk", "policy"]
    title: str
    reads: tuple[str, ...]
    threshold: Callable[[Rules], str]
    rationale: str
    remedy: str
    source: str
    fails: Callable[[DefenderMatch, date], Flags]
    unit: str = ""


def _tag(rules: Rules, name: Literal["require_tag", "optout_tag"]) -> str:
    tag = rules.require_tag if name == "require_tag" else rules.optout_tag
    return f"{tag.key}={tag.value}" if tag else "no rule"


def _utilization(rules: Rules) -> str:
    u = rules.risk.utilization
    if not u.enabled:
        return "not checked"
    unmeasured = "passes" if u.when_unmeasured == "allow" else "fails"
    return f"at most {u.threshold_pct} % over {u.lookback_days} days; unmeasured {unmeasured}"


def _environment_limit(rules: Rules) -> int:
    return columns.TIGHT_ENVIRONMENT_BYTES if rules.risk.keep_layer_slot else columns.MAX_ENVIRONMENT_BYTES


CHECKS: tuple[Check, ...] = (
    Check(
        code="package_type",
        kind="risk",
        title="Package type",
        reads=("package_type",),
        threshold=lambda rules: "Zip",
        rationale="Container images cannot take layers; they are protected when they are built.",
        remedy="Add the Defender to the image: COPY --from=twistlock/defender /usr/local/bin/defender.",
        source="Lambda API, FunctionConfiguration.PackageType",
        fails=columns.package_type,
    ),
    Check(
        code="architecture",
        kind="risk",
        title="Architecture",
        reads=("architecture",),
        threshold=lambda rules: " or ".join(rules.risk.architectures),
        rationale="The Defender layer is built for x86-64; on arm64 it ends in 'Exec format error'.",
        remedy="Move the function to x86_64, or wait for an arm64 layer and allow it in risk.architectures.",
        source="Lambda API, FunctionConfiguration.Architectures",
        fails=columns.architecture,
    ),
    Check(
        code="runtime",
        kind="risk",
        title="Runtime",
        reads=("runtime", "region"),
        threshold=lambda rules: (
            " or ".join(rules.risk.runtime_families)
            + ", known to AWS's runtime table, with a Defender layer in the function's region"
        ),
        rationale="Only runtimes that start through AWS_LAMBDA_EXEC_WRAPPER can carry the Defender.",
        remedy="Protect this function in its own pipeline, or move it to a supported Python or Node.js runtime.",
        source="Lambda API, FunctionConfiguration.Runtime; Lambda developer guide, wrapper scripts",
        fails=columns.runtime,
    ),
    Check(
        code="runtime_update_blocked",
        kind="risk",
        title="Runtime can still be updated",
        reads=("runtime",),
        threshold=lambda rules: "before the date from which AWS blocks function updates",
        rationale="AWS refuses to update a function whose runtime is past its block-update date.",
        remedy="Move the function to a current runtime.",
        source="Lambda developer guide, runtime deprecation table (through cfn-lint)",
        fails=columns.runtime_update_blocked,
    ),
    Check(
        code="memory",
        kind="risk",
        title="Memory headroom",
        reads=("memory_mb",),
        threshold=lambda rules: f"more than {rules.risk.min_memory_mb} MB",
        rationale="The Defender takes 30 to 70 MB; a small function would run out of memory.",
        remedy="Raise the function's memory above the floor.",
        source="Lambda API, FunctionConfiguration.MemorySize",
        fails=columns.memory,
        unit="MB",
    ),
    Check(
        code="timeout",
        kind="risk",
        title="Timeout buffer",
        reads=("timeout_sec",),
        threshold=lambda rules: f"less than {columns.MAX_TIMEOUT_SEC - rules.risk.timeout_buffer_sec} s",
        rationale="Lambda ends a function after 900 s; with no time to spare, the Defender's latency ends it earlier.",
        remedy="Lower the timeout, or split the work.",
        source="Lambda API, FunctionConfiguration.Timeout; Lambda quotas",
        fails=columns.timeout,
        unit="s",
    ),
    Check(
        code="layers",
        kind="risk",
        title="Layer slot",
        reads=("layer_count", "layers"),
        threshold=lambda rules: f"fewer than {rules.risk.layer_limit}, or one of ours to replace in place",
        rationale="A function has at most five layers.",
        remedy="Merge two layers of the function into one.",
        source="Lambda API, FunctionConfiguration.Layers; Lambda quotas",
        fails=columns.layers,
        unit="layers",
    ),
    Check(
        code="code_size",
        kind="risk",
        title="Code size",
        reads=("code_size_bytes",),
        threshold=lambda rules: f"less than {rules.risk.zipped_size_threshold_mb} MB zipped",
        rationale="Code and layers together may take 250 MB unzipped; a large package leaves no room.",
        remedy="Make the deployment package smaller.",
        source="Lambda API, FunctionConfiguration.CodeSize; Lambda quotas",
        fails=columns.code_size,
        unit="bytes",
    ),
    Check(
        code="wrapper_conflict",
        kind="risk",
        title="Wrapper is free",
        reads=("exec_wrapper",),
        threshold=lambda rules: "AWS_LAMBDA_EXEC_WRAPPER unset, or ours",
        rationale="A function has one wrapper; taking another vendor's away would switch that vendor off.",
        remedy="Decide with the function's owner which wrapper stays.",
        source="Lambda API, FunctionConfiguration.Environment",
        fails=columns.wrapper_conflict,
    ),
    Check(
        code="env_unreadable",
        kind="risk",
        title="Environment readable",
        reads=("env_readable",),
        threshold=lambda rules: "yes",
        rationale="Writing an environment that could not be read would wipe it.",
        remedy="Let the member role decrypt with the function's KMS key.",
        source="Lambda API, EnvironmentResponse.Error",
        fails=columns.env_unreadable,
    ),
    Check(
        code="env_overflow",
        kind="risk",
        title="Environment has room",
        reads=("env_bytes", "env_names"),
        threshold=lambda rules: f"at most {_environment_limit(rules)} bytes with our variables",
        rationale="All variables of a function together may take 4 KB.",
        remedy="Move large values to Parameter Store or Secrets Manager.",
        source="Lambda quotas, environment variables",
        fails=columns.env_overflow,
        unit="bytes with our variables",
    ),
    Check(
        code="memory_utilization",
        kind="risk",
        title="Memory utilization",
        reads=("memory_utilization_pct", "memory_utilization_outcome"),
        threshold=_utilization,
        rationale="A function that already uses nearly all its memory has none left for the Defender.",
        remedy="Raise the function's memory, or make it need less.",
        source="CloudWatch, LambdaInsights memory_utilization (maximum); the REPORT lines of the function's log",
        fails=columns.memory_utilization,
        unit="%",
    ),
    Check(
        code="timeout_utilization",
        kind="risk",
        title="Timeout utilization",
        reads=("timeout_utilization_pct", "timeout_utilization_outcome"),
        threshold=_utilization,
        rationale="A function that already runs close to its timeout would be ended by the Defender's latency.",
        remedy="Raise the function's timeout, or make it faster.",
        source="CloudWatch, AWS/Lambda Duration (maximum)",
        fails=columns.timeout_utilization,
        unit="%",
    ),
    Check(
        code="edge_replica",
        kind="risk",
        title="Lambda@Edge replica",
        reads=("edge_replica",),
        threshold=lambda rules: "no",
        rationale="Replicas belong to CloudFront and cannot be changed; Lambda@Edge takes neither layers nor variables.",
        remedy="Nothing: Lambda@Edge cannot carry the Defender.",
        source="Lambda API, FunctionConfiguration.MasterArn",
        fails=columns.edge_replica,
    ),
    Check(
        code="function_kind",
        kind="risk",
        title="Kind of function",
        reads=("kinds",),
        threshold=lambda rules: (
            "no kind or field that the Defender was never tried on"
            + (f", {', '.join(rules.risk.allowed_kinds)} allowed" if rules.risk.allowed_kinds else "")
        ),
        rationale="Durable, capacity-provider, tenant-isolated and yet unknown kinds may start in other ways.",
        remedy="Try the Defender on one such function, then allow the kind in risk.allowed_kinds.",
        source="Lambda API, FunctionConfiguration",
        fails=columns.function_kind,
    ),
    Check(
        code="state",
        kind="risk",
        title="State",
        reads=("state", "last_update_status"),
        threshold=lambda rules: "Active or Inactive, no update under way",
        rationale="A function that is being created or updated, or that failed, must not be changed on top.",
        remedy="Wait for the update to end, or fix the failed function.",
        source="Lambda API, FunctionConfiguration.State and LastUpdateStatus",
        fails=columns.state,
    ),
    Check(
        code="code_signing",
        kind="risk",
        title="Code-signed",
        reads=("signed",),
        threshold=lambda rules: "no",
        rationale="A code signing policy may refuse an unsigned layer, or turn the function's updates away.",
        remedy="Sign the Defender layer with a profile that the function's policy allows.",
        source="Lambda API, FunctionConfiguration.SigningJobArn",
        fails=columns.code_signing,
    ),
    Check(
        code="opted_out",
        kind="policy",
        title="Not opted out",
        reads=("account_id", "region", "function_name", "optout_tag", "tags_read"),
        threshold=lambda rules: f"not in the opt-out file; opt-out tag: {_tag(rules, 'optout_tag')}",
        rationale="Its owner asked to be left alone, or may have: where tags could not be read, nobody knows.",
        remedy="Agree with the owner named in the opt-out file, or let the entry expire.",
        source="opt-out file; Resource Groups Tagging API",
        fails=columns.opted_out,
    ),
    Check(
        code="tag_required",
        kind="policy",
        title="Carries the required tag",
        reads=("required_tag", "tags_read"),
        threshold=lambda rules: _tag(rules, "require_tag"),
        rationale="The rollout touches only functions that carry the tag; tags that could not be read count as missing.",
        remedy="Tag the function, or end the tag-based phase of the rollout.",
        source="Resource Groups Tagging API",
        fails=columns.tag_required,
    ),
    Check(
        code="exclusion_list",
        kind="policy",
        title="Not on the exclusion list",
        reads=("function_name",),
        threshold=lambda rules: f"none of {len(rules.exclusion_list)} names and globs",
        rationale="The organization listed this function to be left alone, or AWS's own landing zone runs on it.",
        remedy=(
            "Take the name off rollout.exclusion_list. Names of AWS's landing zones (docs/configuration.md, rollout) "
            "are always left alone: where one is a function of your own, give it another name."
        ),
        source="configuration, rollout.exclusion_list; built in: names of AWS landing zones",
        fails=columns.exclusion_list,
    ),
    Check(
        code="quarantined",
        kind="policy",
        title="Not quarantined",
        reads=("account_id", "region", "function_name"),
        threshold=lambda rules: "not rolled back earlier",
        rationale="The Defender was rolled back from this function.",
        remedy="Find out why, then take the function out by auto-defender state release.",
        source="state/quarantine.json",
        fails=columns.quarantined,
    ),
    Check(
        code="variable_conflict",
        kind="risk",
        title="Variables are free",
        reads=("env_different", "layers"),
        threshold=lambda rules: (
            "no variable of defender.environment set to another value, or a layer of ours"
        ),
        rationale="A function without our layer that has one of our variables got it from its owner.",
        remedy="Remove the variable from the function, or set it to the configured value.",
        source="Lambda API, FunctionConfiguration.Environment",
        fails=columns.variable_conflict,
    ),
)
BY_CODE = {check.code: check for check in CHECKS}
