"""Logging: JSON lines where nobody watches, readable lines on a terminal; the run's id in each."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

_OWN = ("auto_defender", "reports", "remediator", "storage", "scanner")
# Every skipped function is a line of its own: on a terminal the summary counts them instead.
SKIPS = "auto_defender.verdicts"
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class OfRun(logging.Filter):
    """Names the run that is under way in every record; lets all of them pass."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__()
        self.run_id = run_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp a record."""
        record.run_id = self.run_id
        return True


_under_way = OfRun()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what the caller passed as `extra`, and run_id."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Terminal(RichHandler):
    """Time, level and message; behind them, dim, the run's id, which has the date in it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, show_path=False, log_time_format="[%X]")

    def render_message(self, record: logging.LogRecord, message: str) -> Text:
        """Give the message with the run's id behind it."""
        told = cast(Text, super().render_message(record, message))
        return told.append(f"  {record.__dict__['run_id']}", "dim")


def set_up(run_id: str, *, verbose: bool, console: Console, stream: TextIO = sys.stderr) -> None:
    """Send the project's log to stderr; other libraries' warnings come along."""
    handler: logging.Handler
    if console.is_terminal:
        handler = _Terminal(console)
        logging.getLogger(SKIPS).setLevel(logging.NOTSET if verbose else logging.ERROR)
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonLines())
    handler.addFilter(_under_way)
    name_run(run_id)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def name_run(run_id: str) -> None:
    """From here on the log is this run's: the demo does one run after another."""
    _under_way.run_id = run_id
