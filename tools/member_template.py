"""Write what `doctor` compares a stack set with: the digest and defaults of this version's member role template.

python -m tools.member_template
"""

import json
from pathlib import Path
from typing import Any

from auto_defender.doctor.stack_set import template_digest
from tools.templates import STACKSETS, read

TARGET = Path(__file__).parents[1] / "auto_defender" / "data" / "member_role.json"
NAME = "member-role.yaml"
_READ = ("ReadReportLines", "RoleName", "RolloutPhase", "TagKey")


def document() -> dict[str, Any]:
    """Return the document."""
    parameters = read(NAME)["Parameters"]
    return {
        "defaults": {name: parameters[name]["Default"] for name in _READ},
        "sha256": template_digest((STACKSETS / NAME).read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(document(), indent=2) + "\n", encoding="utf-8")
