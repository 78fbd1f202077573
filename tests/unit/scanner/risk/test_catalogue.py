"""The catalogue of checks: whole, and in step with the page made from it."""

from dataclasses import replace
from typing import Any

from remediator.rollout.guards import BUILT_IN_EXCLUSIONS
from scanner.core.settings import Tag
from scanner.risk.catalogue import BY_CODE, CHECKS
from tests.unit.scanner.risk.assessed import assess, function, rules
from tools.checks_document import TARGET, document

# The reason codes that others script against.
CONTRACT = {
    "package_type", "architecture", "runtime", "runtime_update_blocked", "memory", "timeout", "layers", "code_size",
    "wrapper_conflict", "env_unreadable", "env_overflow", "memory_utilization", "timeout_utilization", "edge_replica",
    "state", "code_signing", "opted_out", "tag_required", "exclusion_list", "quarantined",
}  # fmt: skip
# Columns that are there only once tags were read, or utilization measured.
LATER = {"optout_tag", "required_tag", "tags_read"} | {
    f"{name}_utilization_{what}" for name in ("memory", "timeout") for what in ("pct", "outcome")
}


def test_the_codes_are_the_contract_s_and_those_added_since() -> None:
    codes = [check.code for check in CHECKS]
    assert len(codes) == len(set(codes))
    assert set(codes) == CONTRACT | {"function_kind", "variable_conflict"}


def test_each_check_has_its_column_and_reads_columns_that_exist() -> None:
    columns = set(assess(function()).columns)
    for check in CHECKS:
        assert f"fails_{check.code}" in columns
        assert set(check.reads) <= columns | LATER, check.code


def test_each_check_names_its_threshold_from_the_configuration() -> None:
    changed = rules({"min_memory_mb": 300, "timeout_buffer_sec": 60, "max_layers": 3, "zipped_size_threshold_mb": 40,
                     "utilization": {"threshold_pct": 80}, "allowed_kinds": ["durable"], "architectures": ["arm64"]})  # fmt: skip
    threshold = " ".join(check.threshold(changed) for check in CHECKS)
    for part in ("300 MB", "840 s", "fewer than 3", "40 MB", "80 %", "durable", "arm64"):
        assert part in threshold


def test_a_threshold_says_where_a_rule_is_off_and_which_tag_is_meant() -> None:
    def threshold(code: str, **risk: Any) -> str:
        return BY_CODE[code].threshold(rules(risk))

    assert threshold("memory_utilization") == "at most 95 % over 14 days; unmeasured passes"
    assert threshold("timeout_utilization", utilization={"when_unmeasured": "skip"}).endswith(
        "unmeasured fails"
    )
    assert threshold("timeout_utilization", utilization={"enabled": False}) == "not checked"
    tagged = replace(
        rules(),
        require_tag=Tag(key="SecurityScan", value="true"),
        optout_tag=Tag(key="Defender", value="off"),
    )
    assert BY_CODE["tag_required"].threshold(tagged) == "SecurityScan=true"
    assert BY_CODE["opted_out"].threshold(tagged).endswith("opt-out tag: Defender=off")
    assert threshold("tag_required") == "no rule"


def test_names_that_no_key_takes_off_the_exclusion_list_are_documented() -> None:
    page = (TARGET.parent / "configuration.md").read_text(encoding="utf-8")
    assert [name for name in BUILT_IN_EXCLUSIONS if f"`{name}`" not in page] == []
    (check,) = [check for check in CHECKS if check.code == "exclusion_list"]
    assert "docs/configuration.md" in check.remedy


def test_docs_checks_md_is_the_catalogue() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run: python -m tools.checks_document"
