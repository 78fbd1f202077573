"""How a measurement of utilization ended, a row and metric: words that the check, explain and the reports share.

timeout_utilization_outcome and memory_utilization_outcome (categories) stand beside the two percentages. Besides the
words below they hold the outcomes of units (units.py) where what measures could not be read: no check passes on those.
"""

NOT_ASKED = "not_asked"  # the function fails another check, or is protected
MEASURED = "measured"
UNMEASURED = (
    "unmeasured"  # nothing measures it, or it was never invoked; risk.utilization.when_unmeasured decides
)
FAULTS = ("access_denied", "region_disabled", "throttled", "timed_out", "error")
OUTCOMES = (NOT_ASKED, MEASURED, UNMEASURED, *FAULTS)


def outcome_column(percent_column: str) -> str:
    """Name the column that tells how the measurement of a percentage ended."""
    return percent_column.removesuffix("_pct") + "_outcome"
