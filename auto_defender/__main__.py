"""The program `auto-defender`; `python -m auto_defender` is the same."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line. Ctrl-C ends it in one line from the start: loading pandas and boto3 takes seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from auto_defender.cli import main as command_line

    command_line()


def _end(number: int, frame: FrameType | None) -> None:
    """End at once, as nothing has begun yet or all is done; with the exit code of shells for a signal."""
    os.write(2, b"auto-defender: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
