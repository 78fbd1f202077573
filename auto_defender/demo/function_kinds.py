"""The kinds of functions in the simulated organization: for each reason and each protection at least one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auto_defender.demo.organization import REGIONS
from scanner.settings import EXEC_WRAPPER

WRAPPER = "/opt/twistlock/wrapper"
OLDER, CURRENT, NEWER = 2, 4, 5
# defender.environment of the demo.
POLICY = "simulated-policy-of-{function_name}"
# rollout.require_tag and rollout.optout_tag of the demo.
ROLLOUT_TAG = {"SecurityScan": "true"}
OPTOUT_TAG = {"AutoDefender": "off"}
_TAGGED_BY_US = {**ROLLOUT_TAG, "SecurityProtected": "True"}
INSIGHTS = "LambdaInsightsExtension"
TEAM_LAYERS = ("powertools", "company-ca", "observability", "http-client", "feature-flags")

_JOBS = (
    "webhook-receiver", "event-router", "nightly-export", "report-builder", "token-refresh", "queue-consumer",
    "config-sync", "audit-writer", "cache-warmer", "email-sender", "search-indexer", "pdf-renderer", "feed-importer",
    "address-check", "session-cleaner", "price-updater", "partner-sync", "backup-verifier", "stream-processor",
    "refund-worker", "score-batch", "profile-enricher", "api-authorizer", "health-probe",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of function.

    weight: its frequency relative to the other kinds. request: members of CreateFunction that differ from the default.
    variables: {function_name} is filled in.
    unmodelled: members of FunctionConfiguration that moto does not model. defender: the version of our layer that it
    has, 0 none. duration_pct, memory_pct: the highest use of timeout and memory in CloudWatch; None is a random duration
    and no memory metric. alias: callers use an alias of a published version.
    """

    name: str
    weight: float = 1
    jobs: tuple[str, ...] = _JOBS
    request: Mapping[str, Any] = field(default_factory=dict)
    unmodelled: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=lambda: ROLLOUT_TAG)
    layers: tuple[str, ...] = ()
    defender: int = 0
    duration_pct: float | None = None
    memory_pct: float | None = None
    regions: tuple[str, ...] = REGIONS
    alias: bool = False


_WRAPPED = {EXEC_WRAPPER: WRAPPER}
_OURS = {**_WRAPPED, "TW_POLICY": POLICY}
_ROTATED = {**_WRAPPED, "TW_POLICY": "simulated-policy-of-last-year"}
_DENIED = "KMS key access was denied. Please check the function's KMS key settings."

KINDS = (
    Kind("unprotected", 36),
    Kind("unprotected, with layers of its team", 12, layers=TEAM_LAYERS[:2], alias=True),
    Kind("unprotected, with Lambda Insights", 3, layers=(INSIGHTS,), memory_pct=61.5),
    Kind("protected", 20, defender=CURRENT, variables=_OURS, tags=_TAGGED_BY_US, alias=True),
    Kind("outdated", 7, defender=OLDER, variables=_OURS, tags=_TAGGED_BY_US),
    Kind("ahead", 2, defender=NEWER, variables=_OURS, tags=_TAGGED_BY_US),
    Kind("partial: layer only", 2, defender=CURRENT),
    Kind("partial: wrapper only", 2, variables=_WRAPPED),
    Kind("partial: rotated value", 3, defender=CURRENT, variables=_ROTATED, tags=_TAGGED_BY_US),
    Kind("package_type", 6, request={"PackageType": "Image", "Runtime": None, "Handler": None}),
    Kind("architecture", 7, request={"Architectures": ["arm64"]}),
    Kind("runtime: Java", 3, request={"Runtime": "java21", "Handler": "com.example.Handler"}),
    Kind("runtime: Go", 3, request={"Runtime": "provided.al2023", "Handler": "bootstrap"}),
    Kind("runtime: .NET", 1, request={"Runtime": "dotnet8", "Handler": "App::App.Function::Handle"}),
    Kind("runtime_update_blocked", 3, request={"Runtime": "nodejs12.x"}),
    Kind("memory", 7, request={"MemorySize": 128}),
    Kind("timeout", 3, request={"Timeout": 900}),
    Kind("memory and timeout", 1, request={"MemorySize": 256, "Timeout": 900}),
    Kind("layers", 2, layers=TEAM_LAYERS),
    Kind("code_size", 2, unmodelled={"CodeSize": 93 * 1024 * 1024}),
    Kind("wrapper_conflict", 3, variables={EXEC_WRAPPER: "/opt/datadog_wrapper"}),
    Kind("wrapper_conflict, hostile", 0.3, variables={EXEC_WRAPPER: "/opt/'\"><script>alert(1)</script>"}),
    Kind(
        "env_unreadable",
        unmodelled={"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": _DENIED}}},
    ),
    Kind("env_overflow", variables={"RULES": "x" * 3950}),
    Kind("memory_utilization", layers=(INSIGHTS,), memory_pct=98.2),
    Kind("timeout_utilization", duration_pct=99.1),
    Kind(
        "edge_replica",
        jobs=("cdn-headers", "cdn-redirects"),
        unmodelled={"MasterArn": "arn:aws:lambda:us-east-1:123456789012:function:cdn:7"},
        regions=REGIONS[1:],
    ),
    Kind(
        "function_kind",
        unmodelled={"DurableConfig": {"ExecutionTimeout": 86_400, "RetentionPeriodInDays": 14}},
    ),
    Kind("state", unmodelled={"State": "Failed", "StateReasonCode": "SubnetOutOfIPAddresses"}),
    Kind("state, update under way", 0.5, unmodelled={"LastUpdateStatus": "InProgress"}),
    Kind("code_signing", request={"SigningJobArn": "arn:aws:signer:us-east-1:123456789012:/signing-jobs/1"}),
    Kind("opted_out, by tag", 2, tags={**ROLLOUT_TAG, **OPTOUT_TAG}),
    Kind("opted_out, by the file", 1, jobs=("settlement-intraday", "settlement-close")),
    Kind("tag_required", 3, tags={}),
    Kind("exclusion_list", 2, jobs=("deploy-canary", "checkout-canary")),
    Kind("exclusion_list, built in", 2, jobs=("aws-controltower-NotificationForwarder",)),
    Kind("quarantined", 1, jobs=("invoice-splitter", "tax-rounding")),
    Kind("variable_conflict", 1, variables={"TW_POLICY": "simulated-policy-of-its-team"}),
)
