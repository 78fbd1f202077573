"""What the doctor found of one thing."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do about it ("" where nothing)."""

    level: Level
    what: str
    found: str
    remedy: str = ""
