"""Logging: JSON lines, or readable lines on a terminal; each has the run's id."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

_OWN = ("auto_defender", "reports", "remediator", "storage", "scanner")
# One record per skipped or excluded function; on a terminal only the summary counts them.
SKIPS = "auto_defender.verdicts"
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class RunIdFilter(logging.Filter):
    """Adds the run's id to every record; drops none."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__()
        self.run_id = run_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the run's id to a record."""
        record.run_id = self.run_id
        return True


_run_id_filter = RunIdFilter()


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the caller's `extra`, and run_id."""

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
    """Time, level, message and, dimmed, the run's id, which contains the date."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, show_path=False, log_time_format="[%X]")

    def render_message(self, record: logging.LogRecord, message: str) -> Text:
        """Return the message followed by the run's id."""
        text = cast(Text, super().render_message(record, message))
        return text.append(f"  {record.__dict__['run_id']}", "dim")


def set_up(run_id: str, *, verbose: bool, console: Console) -> None:
    """Send the project's log, and other libraries' warnings, to the console of stderr."""
    handler: logging.Handler
    if console.is_terminal:
        handler = _Terminal(console)
        logging.getLogger(SKIPS).setLevel(logging.NOTSET if verbose else logging.ERROR)
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(JsonLines())
    handler.addFilter(_run_id_filter)
    set_run_id(run_id)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


def set_run_id(run_id: str) -> None:
    """Log under this run's id from now on: the demo does several runs in one process."""
    _run_id_filter.run_id = run_id
