"""Write scanner/risk/data/lambda_runtimes.json: when AWS deprecates each Lambda runtime and blocks its updates.

cfn-lint ships that table and follows AWS's runtime support policy with each release. It is a development tool, so
the scanner's part of it is a file; a test fails when the locked cfn-lint and the file differ.

    python -m tools.lambda_runtimes
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cfnlint.data import AdditionalSpecs
from cfnlint.helpers import load_resource

DATA_FILE = Path(__file__).parent.parent / "scanner" / "risk" / "data" / "lambda_runtimes.json"
POLICY = "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html"


def table() -> dict[str, Any]:
    """Return the installed cfn-lint's table: its version and, and per runtime three dates and the successor."""
    lifecycles: dict[str, dict[str, str | None]] = load_resource(AdditionalSpecs, "LmbdRuntimeLifecycle.json")
    return {
        "source": f"cfn-lint, from {POLICY}",
        "cfn_lint_version": version("cfn-lint"),
        "runtimes": {
            runtime: {
                "deprecated": dates["deprecated"],
                "create_block": dates["create-block"],
                "update_block": dates["update-block"],
                "successor": dates["successor"],
            }
            for runtime, dates in sorted(lifecycles.items())
        },
    }


def main() -> None:
    """Write the data file, dated today (UTC)."""
    document = {"generated": datetime.now(UTC).date().isoformat(), **table()}
    DATA_FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{DATA_FILE}: {len(document['runtimes'])} runtimes from cfn-lint {document['cfn_lint_version']}")


if __name__ == "__main__":
    main()
