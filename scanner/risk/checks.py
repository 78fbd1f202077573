"""The checks: each takes the whole frame and returns a flag a row, True where the check fails.

A field that can't be read is -1 or "?" (functions_frame.py) and fails the check that needs it.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.core.arns import FunctionArn, function_arns
from scanner.core.categories import by_category
from scanner.inventory.functions_frame import EMPTY_ENVIRONMENT_BYTES, measured_bytes
from scanner.inventory.ledger import rows_by_unit
from scanner.inventory.utilization import MEASURED, NOT_ASKED, UNMEASURED, outcome_column
from scanner.organization.optouts import OptOut, OptOuts
from scanner.risk import runtimes
from scanner.risk.globs import names_match
from scanner.risk.layers import NO_LAYER
from scanner.risk.protection import DefenderMatch, Flags, family_of
from scanner.settings import Family

# Lambda quotas: function timeout 900 s, environment variables 4 KB in all; sizes there are powers of two.
MAX_TIMEOUT_SEC = 900
MAX_ENVIRONMENT_BYTES = 4096
# Within 5 % of the quota.
TIGHT_ENVIRONMENT_BYTES = MAX_ENVIRONMENT_BYTES * 95 // 100
BYTES_PER_MB = 1024 * 1024
_SETTLED_STATES = ("", "Active", "Inactive")
_SETTLED_UPDATES = ("", "Successful")
# FunctionConfiguration, Lambda API reference: a function's name has at most 170 characters.
_LONGEST_NAME = 170
Rows = npt.NDArray[np.intp]
Sizes = npt.NDArray[np.int32]


def _numbers(match: DefenderMatch, column: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = match.functions[column].to_numpy()
    return values


def _categories(match: DefenderMatch, column: str, fails: Callable[[str], bool]) -> Flags:
    """Decide once a category; a row without one could not be read and fails."""
    values = match.functions[column]
    return by_category(values, [fails(text) for text in values.cat.categories], bool, True)


def package_type(match: DefenderMatch, today: date) -> Flags:
    """Anything but Zip."""
    return _categories(match, "package_type", lambda text: text != "Zip")


def architecture(match: DefenderMatch, today: date) -> Flags:
    """Anything but the allowed architectures."""
    allowed = match.rules.risk.architectures
    return _categories(match, "architecture", lambda text: text not in allowed)


def runtime(match: DefenderMatch, today: date) -> Flags:
    """A runtime that no configured layer fits in its region, or that the runtime table does not know."""
    allowed = match.rules.risk.runtime_families
    unfit: Flags = _categories(
        match, "runtime", lambda text: family_of(text) not in allowed or runtimes.lifecycle(text) is None
    )
    unfit |= match.family == -1
    return unfit


def runtime_update_blocked(match: DefenderMatch, today: date) -> Flags:
    """A runtime whose functions AWS no longer lets anyone update; one that can't be read fails `runtime`."""
    values = match.functions["runtime"]
    blocked: list[object] = [runtimes.update_blocked(text, today) for text in values.cat.categories]
    return by_category(values, blocked, bool, False)


def memory(match: DefenderMatch, today: date) -> Flags:
    """Memory at or below the floor."""
    return _numbers(match, "memory_mb") <= match.rules.risk.min_memory_mb


def timeout(match: DefenderMatch, today: date) -> Flags:
    """A timeout that leaves less than the buffer below Lambda's maximum."""
    seconds = _numbers(match, "timeout_sec")
    return (seconds >= MAX_TIMEOUT_SEC - match.rules.risk.timeout_buffer_sec) | (seconds < 0)


def layers(match: DefenderMatch, today: date) -> Flags:
    """No free slot for our layer; one of ours, of whatever version or used before, is replaced in place."""
    count = _numbers(match, "layer_count")
    full: Flags = ((count >= match.rules.risk.layer_limit) & (match.layer == NO_LAYER)) | (count < 0)
    return full


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


def variable_conflict(match: DefenderMatch, today: date) -> Flags:
    """A variable of ours with another value, and none of our layers: its owner's. Without a family `runtime` fails."""
    conflict: Flags = match.has_another_value & (match.layer == NO_LAYER) & (match.family >= 0)
    return conflict


def env_overflow(match: DefenderMatch, today: date) -> Flags:
    """More than 4 KB once our variables are set; what could not be measured fails env_unreadable."""
    over = _exceeds(match, MAX_ENVIRONMENT_BYTES)
    if match.rules.risk.keep_layer_slot:
        nameless, names = _merged(match)
        over |= env_tight(match) & (nameless + names > _numbers(match, "env_bytes"))
    return over


def env_tight(match: DefenderMatch) -> Flags:
    """Within 5 % of 4 KB once our variables are set."""
    return _exceeds(match, TIGHT_ENVIRONMENT_BYTES)


def _exceeds(match: DefenderMatch, limit: int) -> Flags:
    nameless, names = _merged(match)
    # Names are looked at only where they decide.
    near = np.flatnonzero((nameless <= limit) & (nameless + names * _LONGEST_NAME > limit))
    nameless[near] += names[near] * _name_lengths(match, near)
    return nameless > limit


def merged_bytes(match: DefenderMatch) -> Sizes:
    """Return the environment's size a row in bytes, with our variables set; meaningless where it is unreadable."""
    nameless, names = _merged(match)
    return nameless + names * _name_lengths(match, np.arange(len(names)))


def _merged(match: DefenderMatch) -> tuple[Sizes, Sizes]:
    """Return the sizes with {function_name} empty, and how often the name occurs in our missing variables."""
    templates = {
        family: match.rules.defender.variables_for(family, "{function_name}", "{region}", "0" * 12)
        for family in match.families
    }

    def missing(present: str, family: Family | None) -> dict[str, str]:
        return {k: v for k, v in templates[family].items() if k not in present.split(";")} if family else {}

    def times(placeholder: str) -> Callable[[str, Family | None], int]:
        return lambda present, family: sum(v.count(placeholder) for v in missing(present, family).values())

    def constant(present: str, family: Family | None) -> int:
        size = sum(measured_bytes({k: v}) - 1 for k, v in missing(present, family).items())
        return size - sum(
            len(what) * times(what)(present, family) for what in ("{function_name}", "{region}")
        )

    def spread(value: Callable[[str, Family | None], int], absent: int) -> Sizes:
        return match.by_category_and_family("env_names", value, np.int32, absent)

    measured = _numbers(match, "env_bytes")
    added = spread(constant, MAX_ENVIRONMENT_BYTES)
    regions = spread(times("{region}"), 0)
    if regions.any():
        region = match.functions["region"]
        added += regions * by_category(region, [len(text) for text in region.cat.categories], np.int32, 0)
    names = spread(times("{function_name}"), 0)
    # The first variable of an empty environment ("{}", 2 bytes) brings no comma.
    added -= (measured == EMPTY_ENVIRONMENT_BYTES) & (added > 0)
    return measured + added + _numbers(match, "env_growth") + _wrapper_growth(match), names


def _wrapper_growth(match: DefenderMatch) -> Sizes:
    """Return by how many bytes a wrapper that was used before grows once it is the configured one."""
    defender = match.rules.defender

    def growth(text: str, family: Family | None) -> int:
        if family is None or text not in defender.our_wrappers(family):
            return 0
        return measured_bytes({"": defender.wrapper_for(family)}) - measured_bytes({"": text})

    sizes: Sizes = match.by_category_and_family("exec_wrapper", growth, np.int32, 0)
    return sizes


def _name_lengths(match: DefenderMatch, rows: Rows) -> Sizes:
    names = match.functions["function_name"].to_numpy(dtype=object)[rows]
    return np.fromiter(map(len, names), dtype=np.int32, count=len(rows))


def memory_utilization(match: DefenderMatch, today: date) -> Flags:
    """Memory use above the threshold."""
    return _utilization(match, "memory_utilization_pct")


def timeout_utilization(match: DefenderMatch, today: date) -> Flags:
    """Duration above the threshold's share of the timeout."""
    return _utilization(match, "timeout_utilization_pct")


def _utilization(match: DefenderMatch, column: str) -> Flags:
    settings = match.rules.risk.utilization
    skip = settings.when_unmeasured == "skip"
    if not settings.enabled:
        return np.zeros(len(match.functions), dtype=bool)
    if column not in match.functions:
        return np.full(len(match.functions), skip)
    used = _numbers(match, column)
    over: Flags = used > settings.threshold_pct
    outcome = outcome_column(column)
    if outcome in match.functions:
        passes = {MEASURED, NOT_ASKED} | (set() if skip else {UNMEASURED})
        return over | _categories(match, outcome, lambda text: text not in passes)
    return over | np.isnan(used) if skip else over


def edge_replica(match: DefenderMatch, today: date) -> Flags:
    """A replica that CloudFront made of a Lambda@Edge function."""
    return _numbers(match, "edge_replica")


def function_kind(match: DefenderMatch, today: date) -> Flags:
    """A kind of function, or a field, that nobody has allowed yet."""
    allowed = {"", *match.rules.risk.allowed_kinds}
    return _categories(match, "kinds", lambda text: not allowed.issuperset(text.split(";")))


def state(match: DefenderMatch, today: date) -> Flags:
    """Being created, updated or deleted, or failed; ListFunctions lacks the state, GetFunctionConfiguration has it."""
    return _categories(match, "state", lambda text: text not in _SETTLED_STATES) | _categories(
        match, "last_update_status", lambda text: text not in _SETTLED_UPDATES
    )


def code_signing(match: DefenderMatch, today: date) -> Flags:
    """Deployed with a signature."""
    return _numbers(match, "signed")


def opted_out(match: DefenderMatch, today: date) -> Flags:
    """Named by the opt-out file, or tagged so by its owner; tags that could not be read count as an opt-out."""
    by_file = _named(match, match.rules.optouts.entries, today)
    if match.rules.optout_tag is None:
        return by_file
    return by_file | _tag_column(match, "optout_tag") | ~_tag_column(match, "tags_read")


def to_remove(match: DefenderMatch, today: date) -> Flags:
    """Named by an entry of the opt-out file that says remove."""
    return _named(match, [entry for entry in match.rules.optouts.entries if entry.remove], today)


def _named(match: DefenderMatch, optouts: Iterable[OptOut], today: date) -> Flags:
    """Return which rows some opt-outs name. Names are matched once for each set of patterns, over all of its units."""
    result = np.zeros(len(match.functions), dtype=bool)
    of_account: dict[str, list[OptOut]] = defaultdict(list)
    for entry in optouts:
        if entry.in_force(today):
            of_account[entry.account].append(entry)
    if not of_account:
        return result
    units = match.functions[["account_id", "region"]]
    named = np.arange(len(units)) if "*" in of_account else _rows_in(match, of_account)
    rows_of: dict[tuple[str, ...], list[Rows]] = defaultdict(list)
    for unit, rows in rows_by_unit(units.iloc[named]).items():
        entries = OptOuts((*of_account.get("*", ()), *of_account.get(unit.account_id, ())))
        rows_of[entries.patterns(unit.account_id, unit.region, today)].append(named[rows])
    for patterns, parts in rows_of.items():
        rows = np.concatenate(parts)
        result[rows] = names_match(match.functions["function_name"].iloc[rows], patterns)
    return result


def _rows_in(match: DefenderMatch, accounts: Container[str]) -> Rows:
    """Return the rows of some accounts; each account is looked up once, not once a row."""
    column = match.functions["account_id"]
    return np.flatnonzero(
        by_category(column, [text in accounts for text in column.cat.categories], bool, False)
    )


def tag_required(match: DefenderMatch, today: date) -> Flags:
    """Without the required tag, or with tags that could not be read."""
    if match.rules.require_tag is None:
        return np.zeros(len(match.functions), dtype=bool)
    return ~(_tag_column(match, "required_tag") & _tag_column(match, "tags_read"))


def _tag_column(match: DefenderMatch, column: str) -> Flags:
    """Return a tag flag a row; all False in a frame without tags, so that the checks fail."""
    if column not in match.functions:
        return np.zeros(len(match.functions), dtype=bool)
    return _numbers(match, column)


def exclusion_list(match: DefenderMatch, today: date) -> Flags:
    """Named by the exclusion list: names and globs."""
    return names_match(match.functions["function_name"], match.rules.exclusion_list)


def quarantined(match: DefenderMatch, today: date) -> Flags:
    """Rolled back earlier: known by the whole ARN."""
    place = match.functions[["account_id", "region", "function_name"]]
    arns = [arn for arn in map(FunctionArn.parse, match.rules.quarantined) if arn]
    rows = _rows_in(match, {arn.account_id for arn in arns})
    rows = rows[place["function_name"].iloc[rows].isin({arn.name for arn in arns})]
    result = np.zeros(len(place), dtype=bool)
    result[rows] = function_arns(place.iloc[rows], match.rules.partition).isin(match.rules.quarantined)
    return result
