"""What lines of journals and state files may say in a field: others can write them, and every run reads them."""

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator

from scanner.core.arns import FunctionArn

# What is added to a moment (a backoff, a soak, a week) must not overflow.
_LAST_YEAR = 9000


def checked_moment(text: str) -> str:
    """Return a moment (ISO 8601, with its offset); raise ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without its offset from UTC")
    if moment.year > _LAST_YEAR:
        raise ValueError(f"a moment after the year {_LAST_YEAR}")
    return text


def _moment_or_none(text: str) -> str:
    return text and checked_moment(text)


def _day_or_none(text: str) -> str:
    return text and date.fromisoformat(text).isoformat()


def _checked_arn(text: str) -> str:
    if FunctionArn.parse(text) is None:
        raise ValueError(f"'{text}' is no function ARN")
    return text


def _checked_account(text: str) -> str:
    if len(text) != len("111122223333") or not (text.isascii() and text.isdecimal()):
        raise ValueError(f"'{text}' is no account id")
    return text


Moment = Annotated[str, AfterValidator(checked_moment)]
# "" for none.
MomentOrNone = Annotated[str, AfterValidator(_moment_or_none)]
DayOrNone = Annotated[str, AfterValidator(_day_or_none)]
Arn = Annotated[str, AfterValidator(_checked_arn)]
# It becomes a file's name.
AccountId = Annotated[str, AfterValidator(_checked_account)]
