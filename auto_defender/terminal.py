"""Standard output and standard error, whatever they are connected to: a terminal, a pipe, or nothing any more."""

import errno
import io
import os
import select
import sys
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

# Limit in seconds for a reader that has stopped reading: the run must go on, and end before an operator gives it up.
WAIT_SEC = 30.0


class _Outlet(io.FileIO):
    """The file behind a standard stream. What can no longer be written is dropped.

    A closed pipe, a full disk or a lost terminal must not end a run that is changing functions, nor replace its exit
    code. `lost` is the first error.
    """

    lost: OSError | None = None

    def __init__(self, descriptor: int, wait_sec: float) -> None:
        """Take the stream's descriptor, and the seconds to wait for the reader of a full pipe that is non-blocking."""
        super().__init__(descriptor, "w", closefd=False)
        self._wait_sec = wait_sec

    def write(self, data: Any, /) -> int:
        """Write, or drop the data."""
        try:
            return self._written(data)
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes

    def _written(self, data: Any) -> int:
        """Return how many bytes were written. FileIO returns None for a full pipe that ssh or node made non-blocking."""
        written: int | None = super().write(data)
        while written is None:
            # Once something was dropped, later data does not wait again for a reader that has stopped.
            if self.lost or not select.select([], [self], [], self._wait_sec)[1]:
                raise BlockingIOError(errno.EAGAIN, "its reader has stopped reading")
            written = super().write(data)
        return written


def open_streams(wait_sec: float = WAIT_SEC) -> None:
    """Replace sys.stdout and sys.stderr. Characters that their encoding lacks are escaped.

    wait_sec: how long a non-blocking stream waits for its reader before it drops data.
    """
    sys.stdout, sys.stderr = _opened(sys.stdout, wait_sec), _opened(sys.stderr, wait_sec)


def _opened(stream: TextIO | None, wait_sec: float) -> TextIO:
    """Return the stream over an outlet; of a stream that was closed before the program began, one that drops all."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    outlet = _Outlet(stream.fileno(), wait_sec)
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
