"""The errors that a user sees. str(error) is one line: what is wrong, where, and what to do."""


class AutoDefenderError(Exception):
    """An error that the command line reports in one line, without a traceback."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Take the message; characters that can't be printed, such as those of a file's key, are escaped."""
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        )


class BadInput(AutoDefenderError):
    """Usage, configuration, credentials, an opt-out file or a plan that can't be used."""

    exit_code = 2


class InternalError(AutoDefenderError):
    """A defect: something that must not happen. The run stops."""

    exit_code = 1


class WrongAccount(InternalError):
    """AWS answered for another account than the one asked for."""


class GuardStop(AutoDefenderError):
    """A guard stopped the run before it could do harm."""

    exit_code = 5

    def __init__(self, guard: str, why: str, how_to_go_on: str) -> None:
        """Take the guard's name (for summary.json), why it stopped the run, and how to go on."""
        super().__init__(f"stopped by the guard '{guard}': {why}. {how_to_go_on}")
        self.guard = guard
        self.why = why
        self.how_to_go_on = how_to_go_on
