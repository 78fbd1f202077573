"""What every contender is asked to do, and what it says when it is done."""

from dataclasses import dataclass

ROLE = "AutoDefenderMember"


@dataclass(frozen=True)
class Task:
    """Read every account in every region, with so many threads."""

    accounts: tuple[str, ...]
    regions: tuple[str, ...]
    workers: int


@dataclass(frozen=True)
class Found:
    """How many functions there are; the memory of the frame that holds them, for a contender that makes one."""

    functions: int
    frame_mb: float | None = None
