"""The checks themselves: each takes the whole frame and gives a flag a row, True where the check fails.

What can't be read reads as -1 or "?" (see frame.py) and fails the check that needs it.
"""

from datetime import date
from typing import cast

import numpy as np
import pandas as pd

from scanner import runtimes
from scanner.arns import FunctionArn
from scanner.defender_match import NO_LAYER, DefenderMatch, Flags, by_category, family_of
from scanner.frame import measured_bytes
from scanner.optouts import glob_regex
from scanner.units import rows_by_unit

# Lambda quotas: function timeout 900 s, environment variables 4 KB in all; sizes there are powers of two.
MAX_TIMEOUT_SEC = 900
MAX_ENVIRONMENT_BYTES = 4096
BYTES_PER_MB = 1024 * 1024
_SETTLED_STATES = ("", "Active", "Inactive")
_SETTLED_UPDATES = ("", "Successful")


def _numbers(match: DefenderMatch, column: str) -> np.ndarray:
    return match.functions[column].to_numpy()


def _categories(match: DefenderMatch, column: str, fails: list[bool]) -> Flags:
    return cast(Flags, by_category(match.functions[column], list(fails), bool))


def package_type(match: DefenderMatch, today: date) -> Flags:
    """Anything but Zip."""
    return _categories(match, "package_type", [v != "Zip" for v in _values(match, "package_type")])


def architecture(match: DefenderMatch, today: date) -> Flags:
    """Anything but the allowed architectures."""
    allowed = match.rules.risk.architectures
    return _categories(match, "architecture", [v not in allowed for v in _values(match, "architecture")])


def runtime(match: DefenderMatch, today: date) -> Flags:
    """A runtime that no configured layer fits, or that the runtime table does not know."""
    allowed = set(match.rules.risk.runtime_families) & set(match.families)
    return _categories(
        match,
        "runtime",
        [family_of(v) not in allowed or runtimes.lifecycle(v) is None for v in _values(match, "runtime")],
    )


def runtime_update_blocked(match: DefenderMatch, today: date) -> Flags:
    """A runtime whose functions AWS no longer lets anyone update."""
    return _categories(
        match, "runtime", [runtimes.update_blocked(v, today) for v in _values(match, "runtime")]
    )


def memory(match: DefenderMatch, today: date) -> Flags:
    """Memory at or below the floor."""
    return _numbers(match, "memory_mb") <= match.rules.risk.min_memory_mb


def timeout(match: DefenderMatch, today: date) -> Flags:
    """A timeout that leaves less than the buffer below Lambda's maximum."""
    seconds = _numbers(match, "timeout_sec")
    return (seconds >= MAX_TIMEOUT_SEC - match.rules.risk.timeout_buffer_sec) | (seconds < 0)


def layers(match: DefenderMatch, today: date) -> Flags:
    """No free slot for our layer; one of ours, of whatever version, is replaced in place."""
    count = _numbers(match, "layer_count")
    return (count + (match.layer == NO_LAYER) > match.rules.risk.max_layers) | (count < 0)


def code_size(match: DefenderMatch, today: date) -> Flags:
    """A package at or above the threshold."""
    size = _numbers(match, "code_size_bytes")
    return (size >= match.rules.risk.zipped_size_threshold_mb * BYTES_PER_MB) | (size < 0)


def wrapper_conflict(match: DefenderMatch, today: date) -> Flags:
    """A wrapper that is not ours."""
    return match.has_wrapper_variable & ~match.has_our_wrapper


def env_unreadable(match: DefenderMatch, today: date) -> Flags:
    """An environment that Lambda could not decrypt, or that is no map of strings."""
    return ~_numbers(match, "env_readable")


def env_overflow(match: DefenderMatch, today: date) -> Flags:
    """More than 4 KB once the variables that are missing are added; what could not be measured fails elsewhere."""
    measured = _numbers(match, "env_bytes").astype(np.int64)
    family = match.family
    for code in range(len(match.families)):
        rows = family == code
        if rows.any():
            measured[rows] += _added_bytes(match, code)[rows]
    return measured > MAX_ENVIRONMENT_BYTES


def _added_bytes(match: DefenderMatch, family: int) -> np.ndarray:
    """Measure what our missing variables add; their length depends on the row where {placeholders} stand in them."""
    names = match.functions["env_names"]
    templates = match.rules.defender.variables_for(
        match.families[family], "{function_name}", "{region}", "0" * 12
    )
    constant, per_name, per_region = [], [], []
    for present in names.cat.categories:
        missing = {k: v for k, v in templates.items() if k not in present.split(";")}
        text = "".join(missing.values())
        on_names, on_regions = text.count("{function_name}"), text.count("{region}")
        braces = on_names * len("{function_name}") + on_regions * len("{region}")
        constant.append(sum(measured_bytes({k: v}) - 1 for k, v in missing.items()) - braces)
        per_name.append(on_names)
        per_region.append(on_regions)
    added = by_category(names, constant, np.int64)
    # The first variable of an empty environment ("{}", 2 bytes) brings no comma.
    added = added - ((_numbers(match, "env_bytes") == 2) & (added > 0))
    if any(per_name):
        lengths = match.functions["function_name"].str.len().to_numpy(dtype=np.int64)
        added = added + by_category(names, per_name, np.int64) * lengths
    if any(per_region):
        region = match.functions["region"]
        lengths = by_category(region, [len(v) for v in region.cat.categories], np.int64)
        added = added + by_category(names, per_region, np.int64) * lengths
    return added


def memory_utilization(match: DefenderMatch, today: date) -> Flags:
    """Memory use above the threshold."""
    return _utilization(match, "memory_utilization_pct")


def timeout_utilization(match: DefenderMatch, today: date) -> Flags:
    """Duration above the threshold's share of the timeout."""
    return _utilization(match, "timeout_utilization_pct")


def _utilization(match: DefenderMatch, column: str) -> Flags:
    settings = match.rules.risk.utilization
    if not settings.enabled:
        return np.zeros(len(match.functions), dtype=bool)
    if column not in match.functions:
        return np.full(len(match.functions), settings.when_unmeasured == "skip")
    used = _numbers(match, column)
    unmeasured = np.isnan(used) if settings.when_unmeasured == "skip" else np.zeros(len(used), dtype=bool)
    return (used > settings.threshold_pct) | unmeasured


def edge_replica(match: DefenderMatch, today: date) -> Flags:
    """A replica that CloudFront made of a Lambda@Edge function."""
    return _numbers(match, "edge_replica")


def function_kind(match: DefenderMatch, today: date) -> Flags:
    """A kind of function, or a field, that nobody has allowed yet."""
    allowed = set(match.rules.risk.allowed_kinds)
    return _categories(
        match, "kinds", [bool(set(filter(None, v.split(";"))) - allowed) for v in _values(match, "kinds")]
    )


def state(match: DefenderMatch, today: date) -> Flags:
    """Being created, updated or deleted, or failed; ListFunctions does not tell, a fresh read does."""
    states = _categories(match, "state", [v not in _SETTLED_STATES for v in _values(match, "state")])
    updates = [v not in _SETTLED_UPDATES for v in _values(match, "last_update_status")]
    return states | _categories(match, "last_update_status", updates)


def code_signing(match: DefenderMatch, today: date) -> Flags:
    """Deployed with a signature."""
    return _numbers(match, "signed")


def opted_out(match: DefenderMatch, today: date) -> Flags:
    """Named by the opt-out file, or tagged so by its owner; tags that could not be read count as an opt-out."""
    result = np.zeros(len(match.functions), dtype=bool)
    if match.rules.optout_tag is not None:
        result |= _tag_column(match, "optout_tag") | ~_tag_column(match, "tags_read")
    entries = match.rules.optouts.entries
    if not any(entry.in_force(today) for entry in entries):
        return result
    for unit, rows in rows_by_unit(match.functions).items():
        patterns = match.rules.optouts.patterns(unit.account_id, unit.region, today)
        if patterns:
            result[rows] |= _names_match(match.functions["function_name"].iloc[rows], patterns)
    return result


def tag_required(match: DefenderMatch, today: date) -> Flags:
    """Without the required tag, or with tags that could not be read."""
    if match.rules.require_tag is None:
        return np.zeros(len(match.functions), dtype=bool)
    return ~(_tag_column(match, "required_tag") & _tag_column(match, "tags_read"))


def _tag_column(match: DefenderMatch, column: str) -> Flags:
    """Give a tag flag; a frame that tags were never added to has none of them, so that the rules fail closed."""
    if column not in match.functions:
        return np.zeros(len(match.functions), dtype=bool)
    return _numbers(match, column)


def exclusion_list(match: DefenderMatch, today: date) -> Flags:
    """Named by a glob of the exclusion list."""
    if not match.rules.exclusion_list:
        return np.zeros(len(match.functions), dtype=bool)
    return _names_match(match.functions["function_name"], match.rules.exclusion_list)


def _names_match(names: pd.Series, patterns: tuple[str, ...]) -> Flags:
    if "*" in patterns:
        return np.ones(len(names), dtype=bool)
    fullmatch = glob_regex(patterns).fullmatch
    return np.fromiter((fullmatch(name) is not None for name in names), dtype=bool, count=len(names))


def quarantined(match: DefenderMatch, today: date) -> Flags:
    """Rolled back earlier."""
    arns = [arn for arn in map(FunctionArn.parse, match.rules.quarantined) if arn]
    names = match.functions["function_name"]
    result = np.zeros(len(names), dtype=bool)
    for row in np.flatnonzero(names.isin({arn.name for arn in arns}).to_numpy()):
        f = match.functions.iloc[row]
        result[row] = any(
            a.account_id == f["account_id"] and a.region == f["region"] and a.name == f["function_name"]
            for a in arns
        )
    return result


def _values(match: DefenderMatch, column: str) -> list[str]:
    return list(match.functions[column].cat.categories)
