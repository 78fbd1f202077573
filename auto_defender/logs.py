"""Logging: JSON lines where nobody watches, readable lines on a terminal; the run's id in each."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler

_OWN = ("auto_defender", "reports", "remediator", "scanner")
# Every skipped function is a line of its own: on a terminal the summary counts them instead.
SKIPS = "auto_defender.verdicts"
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, run_id, and what the caller passed as `extra`."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run_id": self._run_id,
            **{key: value for key, value in record.__dict__.items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(run_id: str, *, verbose: bool, console: Console, stream: TextIO = sys.stderr) -> None:
    """Send the project's log to stderr; other libraries' warnings come along."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, markup=False, rich_tracebacks=False)
        logging.getLogger(SKIPS).setLevel(logging.NOTSET if verbose else logging.ERROR)
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonLines(run_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
