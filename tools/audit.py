"""Query PyPI's vulnerability service for every locked package; fail on a finding, warn when there is no answer.

If the service can't be reached or does not know a package, a line in capitals says so and the status is 0. A known
vulnerability, or pip-audit failing for any other reason, is a failure.

    python -m tools.audit requirements-dev.txt
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# pip-audit's error without an answer: its own message, or an error of the HTTP library it uses.
NO_ANSWER = re.compile(r"network may be blocking|\brequests\.exceptions\.|\bServiceError\b")


def main() -> int:
    """Audit the locks named on the command line; return the exit status."""
    locks = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "audit.json")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off"]
        command += ["--format", "json", "--output", str(answer)]
        for lock in locks:
            command += ["--requirement", lock]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    status, lines = verdict(found, ended.stderr)
    print("\n".join(lines))
    return status


def verdict(found: dict[str, Any] | None, stderr: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines to print for what pip-audit found (None: it wrote no answer)."""
    if found is None:
        if NO_ANSWER.search(stderr):
            return 0, [
                f"NOT AUDITED: the vulnerability service gave no answer: {stderr.strip().splitlines()[-1]}"
            ]
        return 1, [f"pip-audit failed:\n{stderr.strip()}"]
    packages = found["dependencies"]
    lines = [
        f"VULNERABLE: {package['name']} {package['version']}: {vulnerability['id']}, {fixes(vulnerability)}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    status = 1 if lines else 0
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        lines.append(
            f"NOT AUDITED: {len(unknown)} of {len(packages)} packages, such as {unknown[0]}: {SKIPPED}"
        )
    lines.append(f"audited: {len(packages) - len(unknown)} of {len(packages)} packages")
    return status, lines


SKIPPED = "the vulnerability service knows nothing of them (a mirror does not pass its answers on)"


def fixes(vulnerability: dict[str, Any]) -> str:
    """Return in which versions a vulnerability is fixed."""
    versions = vulnerability["fix_versions"]
    return f"fixed in {', '.join(versions)}" if versions else "no fixed version yet"


if __name__ == "__main__":
    sys.exit(main())
