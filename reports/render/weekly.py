"""The weekly report and its mail, from templates."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.data.week import Week
from reports.data.weekly import TRAFFIC, unmeasured_weeks
from reports.render import charts, page

# File name to content type; templates/weekly_NAME.j2 is its template.
FILES = {"report.html": "text/html", "mail.html": "text/html", "mail.txt": "text/plain"}


def render_weekly(
    week: Week, summary: Mapping[str, Any], view: Mapping[str, Any], *, over: bool
) -> dict[str, str]:
    """Return the text of each of FILES. view: from weekly_view(). over: the week has ended."""
    chart = _trend_chart(summary["trend"])
    return {
        name: page.render(
            f"weekly_{name}.j2",
            tables=False,
            week=week,
            over=over,
            summary=summary,
            trend_chart=chart,
            **view,
        )
        for name in FILES
    }


def _trend_chart(trend: Sequence[Mapping[str, Any]]) -> Any:
    known = [point for point in trend if point["of_all_pct"] is not None]
    description = f"Coverage over {len(trend)} weeks; of {len(known)} of them it is known."
    shares = {"Of what can be covered": "of_coverable", "Of all functions": "of_all"}
    if unmeasured_weeks(trend) is not None:
        shares["Where traffic goes"] = TRAFFIC
    return charts.lines(
        "trend",
        description,
        [point["week"].partition("-")[2] for point in trend],
        {title: [point[f"{share}_pct"] for point in trend] for title, share in shares.items()},
    )
