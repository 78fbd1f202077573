"""The pages of a listing, to the last one."""

from collections.abc import Iterator
from typing import Any

from scanner.aws.caller import Aws
from scanner.aws.errors import BrokenAnswer

TOKEN = ("NextToken", "NextToken")
MARKER = ("NextMarker", "Marker")


class EndlessPages(BrokenAnswer):
    """A page named one that had come before."""


def pages(
    aws: Aws,
    account_id: str,
    region: str,
    service: str,
    method: str,
    *,
    token: tuple[str, str] = TOKEN,
    deadline: float | None = None,
    first_deadline: float | None = None,
    **parameters: Any,
) -> Iterator[dict[str, Any]]:
    """Yield every page, by Aws.call. token: the keys by which a page names the next one, and a request asks for it.

    first_deadline: an earlier deadline for the first page.
    Raises what Aws.call raises, and EndlessPages for a token that comes back twice.
    """
    named, asked = token
    more: dict[str, Any] = {}
    until = first_deadline or deadline
    seen: set[str] = set()
    while True:
        page = aws.call(account_id, region, service, method, deadline=until, **parameters, **more)
        yield page
        following = page.get(named)
        if not following:
            return
        if following in seen:
            raise EndlessPages(f"{method}: the same {asked} came twice")
        seen.add(following)
        more, until = {asked: following}, deadline
