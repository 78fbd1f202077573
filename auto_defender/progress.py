"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere and without escape codes."""

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from auto_defender.terminal import has_escape_codes
from scanner.core.clock import SYSTEM_CLOCK
from scanner.inventory.sweep import Progress

log = logging.getLogger(__name__)
_LINE_EVERY_SECONDS = 5.0


class Display:
    """Shows the sweep's and the changes' progress."""

    def __init__(self, console: Console) -> None:
        """Take the console of stderr."""
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not has_escape_codes(console),
        )
        self._lines = not has_escape_codes(console)
        self._last_line = SYSTEM_CLOCK.monotonic()
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start the bars."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the bars."""
        self._bars.stop()

    def swept(self, progress: Progress) -> None:
        """Show how far the sweep is."""
        unread = ", ".join(f"{count} {outcome}" for outcome, count in sorted(progress.unread.items()))
        note = f"{progress.functions:,} functions" + (f", {unread}" if unread else "")
        self._show("units read", progress.done, progress.total, note)

    def changed(self, done: int, total: int) -> None:
        """Show how far the changes are."""
        self._show("changes", done, total, "")

    def _show(self, what: str, done: int, total: int, note: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)  # type: ignore[arg-type]
        now = SYSTEM_CLOCK.monotonic()
        if self._lines and (done == total or now - self._last_line >= _LINE_EVERY_SECONDS):
            self._last_line = now
            log.info("%s: %d of %d %s", what, done, total, note)
