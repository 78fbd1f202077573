"""The task and the result of a contender."""

from dataclasses import dataclass

ROLE = "AutoDefenderMember"


@dataclass(frozen=True)
class Task:
    """Read every account in every region, with this number of threads."""

    accounts: tuple[str, ...]
    regions: tuple[str, ...]
    workers: int


@dataclass(frozen=True)
class Found:
    """How many functions there are; the memory of their frame, for a contender that builds one."""

    functions: int
    frame_mb: float | None = None
