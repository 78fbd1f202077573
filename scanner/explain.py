"""Every check of one function: what was read, what is allowed, how it ended, and what its owner can do."""

from dataclasses import dataclass
from datetime import date

import pandas as pd

from scanner import runtimes
from scanner.checks import CHECKS, Check
from scanner.rules import Rules


@dataclass(frozen=True)
class Finding:
    """One check of one function."""

    code: str
    title: str
    value: str
    threshold: str
    passed: bool
    remedy: str


def explain(assessed: pd.DataFrame, rules: Rules, today: date) -> list[Finding]:
    """Explain the one function of an assessed frame, check by check, in the catalogue's order."""
    row = assessed.iloc[0].to_dict()
    return [
        Finding(
            code=check.code,
            title=check.title,
            value=_value(check, row, today),
            threshold=check.threshold(rules),
            passed=not row[f"fails_{check.code}"],
            remedy=check.remedy if row[f"fails_{check.code}"] else "",
        )
        for check in CHECKS
    ]


def _value(check: Check, row: dict[object, object], today: date) -> str:
    values = [_shown(row.get(column)) for column in check.reads]
    text = ", ".join(filter(None, values)) or "none"
    if check.code == "runtime_update_blocked":
        return f"{text}{_lifecycle(str(row['runtime']), today)}"
    return text


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN is unequal to itself
        return "unmeasured"
    if value in (-1, "?"):
        return "could not be read"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


def _lifecycle(runtime: str, today: date) -> str:
    known = runtimes.lifecycle(runtime)
    if known is None or known.update_block is None:
        return ""
    when = "blocked since" if today >= known.update_block else "blocked from"
    successor = f", successor {known.successor}" if known.successor else ""
    return f", {when} {known.update_block.isoformat()}{successor}"
