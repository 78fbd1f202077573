"""Every check of one function: what was read, what is allowed, how it ended, and what its owner can do."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

from scanner.inventory.functions_frame import UNREADABLE
from scanner.inventory.utilization import MEASURED, NOT_ASKED, UNMEASURED
from scanner.organization.optouts import glob_regex
from scanner.risk import runtimes
from scanner.risk.catalogue import CHECKS, Check
from scanner.risk.checks import BYTES_PER_MB, merged_bytes
from scanner.risk.protection import DefenderMatch
from scanner.risk.rules import Rules

_NOT_READ = "could not be read"
# Checks of the environment, which have no result where env_unreadable fails.
_OF_ENVIRONMENT = ("wrapper_conflict", "env_overflow", "variable_conflict")


@dataclass(frozen=True)
class Finding:
    """One check of one function.

    passed: None where the check has no result, because another one fails. remedy: what the owner can do, where the
    check failed or will fail soon.
    """

    code: str
    title: str
    value: str
    threshold: str
    passed: bool | None
    remedy: str


@dataclass(frozen=True)
class _Subject:
    """The function, the rules and the day."""

    row: dict[Any, Any]
    match: DefenderMatch
    today: date

    @property
    def rules(self) -> Rules:
        return self.match.rules


def explain(assessed: pd.DataFrame, rules: Rules, today: date) -> list[Finding]:
    """Return a finding a check, in the catalogue's order, for the one function of an assessed frame."""
    subject = _Subject(assessed.iloc[0].to_dict(), DefenderMatch(assessed, rules), today)
    return [_finding(check, subject) for check in CHECKS]


def _finding(check: Check, subject: _Subject) -> Finding:
    passed = _passed(check, subject.row)
    show_remedy = passed is False or (
        check.code == "runtime_update_blocked" and subject.row["warnings"] != ""
    )
    return Finding(
        code=check.code,
        title=check.title,
        value=_VALUES.get(check.code, _plain)(subject, check),
        threshold=check.threshold(subject.rules),
        passed=passed,
        remedy=check.remedy if show_remedy else "",
    )


def _passed(check: Check, row: dict[Any, Any]) -> bool | None:
    if row[f"fails_{check.code}"]:
        return False
    unreadable = check.code in _OF_ENVIRONMENT and not row["env_readable"]
    return None if unreadable or row.get(f"{check.code}_outcome") == NOT_ASKED else True


def _plain(subject: _Subject, check: Check) -> str:
    """Show the first column that the check reads, with its unit."""
    value = subject.row[check.reads[0]]
    if value == UNREADABLE or (check.unit and value < 0):
        return _NOT_READ
    if check.unit:
        return f"{value} {check.unit}"
    return {True: "yes", False: "no", "": "none"}.get(value, str(value))


def _runtime_life(subject: _Subject, check: Check) -> str:
    runtime = subject.row["runtime"]
    known = runtimes.lifecycle(runtime)
    if known is None or known.update_block is None:
        return f"{_plain(subject, check)}, no date announced"
    left = (known.update_block - subject.today).days
    when = (
        f"updates blocked from {known.update_block} (in {left} days)"
        if left > 0
        else f"updates blocked since {known.update_block}"
    )
    return f"{runtime}, {when}" + (f", successor {known.successor}" if known.successor else "")


def _code_size(subject: _Subject, check: Check) -> str:
    size = subject.row["code_size_bytes"]
    return _NOT_READ if size < 0 else f"{size / BYTES_PER_MB:.1f} MB ({size:,} {check.unit})"


def _of_environment(subject: _Subject, check: Check) -> str:
    return _plain(subject, check) if subject.row["env_readable"] else _NOT_READ


def _environment(subject: _Subject, check: Check) -> str:
    return f"{merged_bytes(subject.match)[0]} {check.unit}" if subject.row["env_readable"] else _NOT_READ


def _utilization(subject: _Subject, check: Check) -> str:
    percent, outcome = (
        subject.row.get(f"{check.code}_pct"),
        subject.row.get(f"{check.code}_outcome", NOT_ASKED),
    )
    if outcome == MEASURED:
        return f"{percent:.1f} {check.unit}"
    words = {
        NOT_ASKED: "not measured (only functions that pass every other check are)",
        UNMEASURED: UNMEASURED,
    }
    return words.get(outcome, f"{_NOT_READ} ({outcome})")


def _state(subject: _Subject, check: Check) -> str:
    return ", ".join(filter(None, (subject.row[column] for column in check.reads))) or "not reported"


def _optouts(subject: _Subject, check: Check) -> str:
    row = subject.row
    entries = [
        f"{entry.owner}: {entry.reason}" + (f" (until {entry.expires})" if entry.expires else "")
        for entry in subject.rules.optouts.entries
        if entry.in_force(subject.today)
        and entry.covers_unit(row["account_id"], row["region"])
        and glob_regex(entry.functions or ("*",)).fullmatch(row["function_name"])
    ]
    tag = [_tag("opt-out tag", row, "optout_tag")] if subject.rules.optout_tag else []
    return "; ".join([*(entries or ["not in the opt-out file"]), *tag])


def _required_tag(subject: _Subject, check: Check) -> str:
    return _tag("tag", subject.row, "required_tag") if subject.rules.require_tag else "no tag is required"


def _tag(what: str, row: dict[Any, Any], column: str) -> str:
    if not row.get("tags_read", False):
        return f"{what} {_NOT_READ}"
    return f"{what} carried" if row[column] else f"{what} not carried"


def _excluded(subject: _Subject, check: Check) -> str:
    name = subject.row["function_name"]
    matching = [pattern for pattern in subject.rules.exclusion_list if glob_regex((pattern,)).fullmatch(name)]
    return f"named by {', '.join(matching)}" if matching else "not named"


def _quarantine(subject: _Subject, check: Check) -> str:
    return "rolled back earlier" if subject.row["fails_quarantined"] else "not rolled back"


_VALUES: dict[str, Callable[[_Subject, Check], str]] = {
    "runtime_update_blocked": _runtime_life,
    "code_size": _code_size,
    "wrapper_conflict": _of_environment,
    "variable_conflict": _of_environment,
    "env_overflow": _environment,
    "memory_utilization": _utilization,
    "timeout_utilization": _utilization,
    "state": _state,
    "opted_out": _optouts,
    "tag_required": _required_tag,
    "exclusion_list": _excluded,
    "quarantined": _quarantine,
}
