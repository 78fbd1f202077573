"""Standard output and standard error, whatever they are connected to: a terminal, a pipe, or nothing any more."""

import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console


class _Outlet(io.FileIO):
    """The file behind a standard stream. What can no longer be written is dropped.

    A closed pipe, a full disk or a lost terminal must not end a run that is changing functions, nor replace its exit
    code. `lost` is the first error.
    """

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or drop the data."""
        try:
            return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes


def open_streams() -> None:
    """Replace sys.stdout and sys.stderr. Characters that their encoding lacks are escaped."""
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)


def _opened(stream: TextIO | None) -> TextIO:
    """Return the stream over an outlet; of a stream that was closed before the program began, one that drops all."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    outlet = _Outlet(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def print_result(text: str) -> None:
    """Print a command's result; report where that fails, unless its reader has closed the pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    lost = _lost(sys.stdout)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        print_error(f"the result could not be printed: {lost.strerror}")


def print_error(text: str) -> None:
    """Print the one line that says why there is no result."""
    sys.stderr.write(f"auto-defender: {text}\n")


def _lost(stream: TextIO) -> OSError | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Outlet) else None


def error_console() -> Console:
    """Return the console of stderr. Where NO_COLOR is set it writes no escape codes at all, as with TERM=dumb."""
    return Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto")


def has_escape_codes(console: Console) -> bool:
    """Return whether a console may move the cursor and use styles."""
    return console.is_terminal and console.color_system is not None
