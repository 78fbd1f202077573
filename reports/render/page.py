"""Renders a self-contained page: template, style, script, and a content security policy that allows only these."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from reports.render import text

# The policy allows the style and the script by their hashes: nothing else runs, nothing is fetched, nothing is sent.
_POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "script-src {script}"
)


def render(template: str, *, tables: bool, **values: Any) -> str:
    """Render a template of this package into one self-contained document.

    tables: include the script that draws packed tables (600 KB); a page without tables has no script.
    """
    style = _file("style.css")
    script = _table_script() if tables else ""
    policy = _POLICY.format(
        style=_digest(style), script=f"'sha256-{_digest(script)}'" if script else "'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(style),  # noqa: S704 - ours
            script=Markup(script),  # noqa: S704 - ours and itables'
            **values,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports.render"),
        autoescape=select_autoescape(default=True, disabled_extensions=("txt.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: text.visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "number": text.number,
        "percent": text.percent,
        "signed": text.signed,
        "moment": text.moment,
        "words": text.words,
        "breakable": _breakable,
    }
    environment.globals["counted"] = text.counted
    return environment


def _breakable(path: str) -> Markup:
    """Return an escaped path that may wrap between its parts."""
    return escape(text.visible(path)).replace("/", Markup("/<wbr>"))


@cache
def _table_script() -> str:
    """Return one module: DataTables, as itables ships it for offline use, then table.js."""
    bundle = resources.files("itables").joinpath("html/dt_bundle.js").read_text(encoding="utf-8")
    exported = re.search(r"export\s*\{[^}]*?([\w$]+) as jQuery\b[^}]*\}", bundle)
    if exported is None or "</script" in bundle.lower():
        raise RuntimeError("itables' DataTables bundle has an unexpected form; pin an earlier itables")
    return bundle + "\n" + _file("table.js").replace("REPORT_JQUERY", exported[1])


def _file(name: str) -> str:
    return resources.files("reports.render").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
