"""Text for people: names with invisible characters escaped, numbers and times formatted."""

import re
from datetime import UTC, datetime

# Control characters, bidirectional marks and overrides, line separators, lone surrogates and zero-width characters:
# shown as escapes, so that no name can look like another or break a line.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Return a text with its invisible characters as escapes (\n, \u202e)."""
    return _INVISIBLE.sub(
        lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text
    )


def number(value: float) -> str:
    """Format a count with thousands separators: 1,234,567."""
    return f"{int(value):,}"


def percent(value: float | None) -> str:
    """Format a share in percent; never rounded up to 100 % or down to 0 %; a dash for None or NaN."""
    if value is None or value != value:  # noqa: PLR0124 - NaN, from a frame
        return "\u2013"
    rounded = round(value, 1)
    if rounded >= 100 > value:
        rounded = 99.9
    if rounded <= 0 < value:
        rounded = 0.1
    return f"{rounded:.1f}\u00a0%" if rounded % 1 else f"{rounded:.0f}\u00a0%"


def signed(value: int) -> str:
    """Format a difference with its sign."""
    return f"+{value:,}" if value > 0 else f"\u2212{-value:,}" if value < 0 else "no change"


def moment(value: datetime) -> str:
    """Format a time in UTC."""
    return f"{value.astimezone(UTC):%d %B %Y, %H:%M} UTC"


def words(code: str) -> str:
    """Format a code as words: runtime_update_blocked, Runtime update blocked."""
    return code.replace("_", " ").capitalize()


def counted(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun: 1 unit, 3 units."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
