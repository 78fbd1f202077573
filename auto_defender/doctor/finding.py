"""A finding of the doctor."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do about it ("" where nothing)."""

    level: Level
    what: str
    found: str
    remedy: str = ""
