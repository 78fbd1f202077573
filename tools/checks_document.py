"""Write docs/checks.md from the catalogue of checks.

python -m tools.checks_document
"""

from pathlib import Path

from scanner.risk.catalogue import CHECKS, Check
from scanner.risk.rules import Rules
from scanner.settings import DefenderSettings, RiskSettings

TARGET = Path(__file__).parents[1] / "docs" / "checks.md"
_HEAD = """# The checks

Every function is assessed by all of these, and every check that fails is one of its `reasons`. A function is changed
only if none fails. Where a risk check fails, its verdict is `skipped`; where a policy check fails, it is `excluded`.
A function that is `protected` stays protected, whatever fails.

A missing field has AWS's default (no `Architectures`: x86_64; no `PackageType`: Zip). A field that cannot be read
never passes a check. Where the environment as a whole cannot be read, `env_unreadable` fails in place of the checks
of the wrapper and of the size.

The thresholds below are the defaults; [configuration.md](configuration.md) describes how to change them. This page is
written by `python -m tools.checks_document` from `scanner/risk/catalogue.py`.
"""


def document() -> str:
    """Return the page."""
    rows = [f"| [`{check.code}`](#{check.code}) | {check.kind} | {check.title} |" for check in CHECKS]
    table = "\n".join(["| Code | Kind | Check |", "| --- | --- | --- |", *rows])
    return "\n".join([_HEAD, table, *map(_section, CHECKS)])


def _section(check: Check) -> str:
    reads = ", ".join(f"`{column}`" for column in check.reads)
    return f"""
## {check.code}

{check.title}. {check.rationale}

- Passes: {check.threshold(_defaults())}
- Reads: {reads}
- What the owner can do: {check.remedy}
- Source: {check.source}
"""


def _defaults() -> Rules:
    layers = {"python": "arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4"}
    defender = DefenderSettings.model_validate({"layers": layers, "wrapper": "/opt/twistlock/wrapper"})
    return Rules(partition="aws", risk=RiskSettings(), defender=defender)


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
