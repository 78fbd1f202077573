"""The columns of the CSV files; docs/schema.md defines each."""

# The column order is a contract: new columns go to the end.
FUNCTIONS = (
    "account_id", "account_name", "ou_path", "region", "function_name", "function_arn", "runtime",
    "package_type", "architecture", "memory_mb", "timeout_sec", "code_size_bytes", "layer_count", "protection",
    "verdict", "reasons", "family", "layers", "exec_wrapper", "env_bytes", "env_readable", "kinds", "state",
    "last_update_status", "memory_utilization_pct", "timeout_utilization_pct", "warnings",
    "timeout_utilization_outcome", "memory_utilization_outcome", "effective_protection", "served", "aliases",
    "snap_start", "provisioned_concurrency", "served_outcome",
)  # fmt: skip
ACCOUNTS = (
    "account_id", "account_name", "ou_path", "outcome", "units_expected", "units_read", "functions",
    "protected", "eligible", "skipped", "excluded",
)  # fmt: skip
UNITS = ("account_id", "region", "outcome", "functions", "detail")
CHANGES = (
    "account_id", "region", "function_name", "function_arn", "action", "outcome", "detail", "attempts",
    "layer_before", "layer_after", "wrapper_before", "wrapper_after", "as_before", "aliases",
)  # fmt: skip
COVERAGE = (
    "account_id", "account_name", "ou_path", "outcome", "units_expected", "units_read", "functions", "protected",
    "eligible", "skipped", "excluded", "covered_pct", "coverable_pct", "functions_start", "protected_start",
    "newly_protected", "lost",
)  # fmt: skip
NOTICES = (
    "account_id", "region", "function_name", "function_arn", "action", "not_before", "opt_out",
)  # fmt: skip
