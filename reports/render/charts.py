"""Charts as inline SVG, drawn by pygal without its script and style; templates/style.css styles them."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import pygal
from markupsafe import Markup
from pygal.style import Style

from reports.render.text import number, visible

_LABEL_LENGTH = 38
_ROW_HEIGHT = 31
# A bar's part shows its number only from this share of the longest bar.
_SHOW_NUMBER_FROM = 0.045
_UNWANTED = ("defs", "desc", "title")


def stacked_bars(
    name: str, description: str, labels: Sequence[str], series: Mapping[str, Sequence[int]]
) -> Markup:
    """Draw one stacked bar per label, top to bottom.

    name: unique in the page. description: for screen readers. series: title to one value per label;
    the page draws the first series in colour 0, the second in colour 1, and so on.
    """
    longest = max((sum(parts) for parts in zip(*series.values(), strict=True)), default=0)
    chart = pygal.HorizontalStackedBar(
        **_options(height=_ROW_HEIGHT * len(labels) + (44 if len(labels) > 1 else 30)),
        show_x_labels=len(labels) > 1,
        show_y_labels=len(labels) > 1,
        print_values=True,
        value_formatter=lambda value: number(value) if value >= longest * _SHOW_NUMBER_FROM else "",
    )
    chart.x_labels = [_short(label) for label in reversed(labels)]
    for title, values in series.items():
        chart.add(visible(title), list(reversed(values)))
    return _inline(chart, name, description)


def lines(
    name: str, description: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]]
) -> Markup:
    """Draw percentages over time; None leaves a gap."""
    chart = pygal.Line(
        **_options(height=230),
        range=(0, 100),
        allow_interruptions=True,
        dots_size=3,
        value_formatter=lambda value: f"{value:.0f} %",
    )
    chart.y_labels = [0, 25, 50, 75, 100]
    chart.x_labels = [visible(label) for label in labels]
    for title, values in series.items():
        chart.add(visible(title), list(values))
    return _inline(chart, name, description)


def _options(height: int) -> dict[str, Any]:
    return {
        "js": [],
        "css": [],
        "show_legend": False,
        "width": 900,
        "height": height,
        "margin": 4,
        "spacing": 8,
        "disable_xml_declaration": True,
        "no_data_text": "Nothing to show",
        "max_scale": 6,
        # The page sets the font; pygal reserves space for this size.
        "style": Style(label_font_size=14, major_label_font_size=14),
    }


def _short(label: str) -> str:
    """Return the end of a long label: an OU path's last parts identify it."""
    text = visible(label) or "(none)"
    return text if len(text) <= _LABEL_LENGTH else "\u2026" + text[-_LABEL_LENGTH + 1 :]


def _inline(chart: Any, name: str, description: str) -> Markup:
    chart.uuid = name
    chart.add_xml_filter(lambda root: _cleaned(root, visible(description)))
    # pygal builds the document with an XML library, which escapes every text and attribute in it.
    return Markup(chart.render(is_unicode=True))  # noqa: S704


def _cleaned(root: Element, description: str) -> Element:
    """Remove what the page's policy forbids or nothing uses, and set the description."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag: Any = child.tag  # a comment's tag is a function
            if not isinstance(tag, str) or tag.rpartition("}")[2] in _UNWANTED:
                parent.remove(child)
    for element in root.iter():
        for attribute in ("style", "onclick"):
            element.attrib.pop(attribute, None)
    root.set("role", "img")
    title = root.makeelement("title", {})  # pygal builds with lxml where it is installed
    title.text = description
    root.insert(0, title)
    return root
