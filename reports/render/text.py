"""What a person reads: names made safe to look at, numbers and moments written out."""

import re
from datetime import UTC, datetime

# Control characters, what reorders a line (bidirectional marks and overrides), line separators, lone surrogates,
# and what has no width: shown as escapes, so that no name can look like another or break a line.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Write what can't be seen in a text as escapes (\n, \u202e)."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def number(value: float) -> str:
    """Write a count with thousands apart: 1,234,567."""
    return f"{int(value):,}"


def percent(value: float | None) -> str:
    """Write a share; never rounded up to 100 % or down to 0 %; a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124 - NaN, from a frame
        return "\u2013"
    rounded = round(value, 1)
    if rounded >= 100 > value:
        rounded = 99.9
    if rounded <= 0 < value:
        rounded = 0.1
    return f"{rounded:.1f}\u00a0%" if rounded % 1 else f"{rounded:.0f}\u00a0%"


def signed(value: int) -> str:
    """Write a difference with its sign."""
    return f"+{value:,}" if value > 0 else f"\u2212{-value:,}" if value < 0 else "no change"


def moment(value: datetime) -> str:
    """Write a moment in UTC."""
    return f"{value.astimezone(UTC):%d %B %Y, %H:%M} UTC"


def words(code: str) -> str:
    """Write a code as words: runtime_update_blocked, Runtime update blocked."""
    return code.replace("_", " ").capitalize()


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: 1 unit, 3 units."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
