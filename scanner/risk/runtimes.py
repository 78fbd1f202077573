"""The lifecycle of each Lambda runtime: when it is deprecated, and from when AWS refuses updates of its functions.

A function whose runtime is blocked for updates can't be protected, and one that we protect shortly before can't be
rolled back afterwards. The dates come from data/lambda_runtimes.json, which names their source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class RuntimeLifecycle:
    """What AWS announced for one runtime; None where it announced no date or names no successor."""

    runtime: str
    deprecated: date | None
    create_block: date | None
    update_block: date | None
    successor: str | None


def lifecycle(runtime: str) -> RuntimeLifecycle | None:
    """Return what AWS announced for `runtime` (such as "python3.8"), or None if it announced nothing."""
    return _lifecycles().get(runtime)


def update_blocked(runtime: str, today: date) -> bool:
    """Return whether AWS refuses every update of a function on `runtime`: from the announced day on."""
    known = lifecycle(runtime)
    return known is not None and known.update_block is not None and known.update_block <= today


def blocked_soon(runtime: str, today: date, days: int = 60) -> bool:
    """Return whether updates on `runtime` are open today and blocked within `days` days."""
    return not update_blocked(runtime, today) and update_blocked(runtime, today + timedelta(days=days))


@cache
def _lifecycles() -> dict[str, RuntimeLifecycle]:
    text = (
        resources.files("scanner.risk").joinpath("data", "lambda_runtimes.json").read_text(encoding="utf-8")
    )
    runtimes: dict[str, dict[str, str | None]] = json.loads(text)["runtimes"]
    return {
        runtime: RuntimeLifecycle(
            runtime=runtime,
            deprecated=_day(dates["deprecated"]),
            create_block=_day(dates["create_block"]),
            update_block=_day(dates["update_block"]),
            successor=dates["successor"],
        )
        for runtime, dates in runtimes.items()
    }


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
