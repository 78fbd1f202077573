"""The vulnerability check: a finding fails, a missing answer is reported as such."""

from __future__ import annotations

from typing import Any

from tools.audit import verdict

CLEAN: dict[str, Any] = {"name": "jinja2", "version": "3.1.6", "vulns": []}
HOLE = {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": [], "description": ""}
VULNERABLE: dict[str, Any] = {"name": "jinja2", "version": "2.10", "vulns": [HOLE]}
UNKNOWN: dict[str, Any] = {"name": "boto3", "skip_reason": "Dependency not found on PyPI"}


def test_no_finding_passes_and_says_how_many_were_audited() -> None:
    assert verdict({"dependencies": [CLEAN]}, "") == (0, ["audited: 1 of 1 packages"])


def test_a_finding_fails_and_says_where_it_is_fixed() -> None:
    status, lines = verdict({"dependencies": [CLEAN, VULNERABLE]}, "")
    assert status == 1
    assert lines[0] == "VULNERABLE: jinja2 2.10: PYSEC-2019-217, fixed in 2.10.1"


def test_a_finding_without_a_fix_fails_too() -> None:
    status, lines = verdict({"dependencies": [{**VULNERABLE, "vulns": [{**HOLE, "fix_versions": []}]}]}, "")
    assert status == 1
    assert lines[0].endswith("no fixed version yet")


def test_a_package_the_service_does_not_know_is_not_called_audited() -> None:
    status, lines = verdict({"dependencies": [CLEAN, UNKNOWN]}, "")
    assert status == 0
    assert lines[0].startswith("NOT AUDITED: 1 of 2 packages, such as boto3")
    assert lines[-1] == "audited: 1 of 2 packages"


def test_a_finding_beside_unknown_packages_still_fails() -> None:
    assert verdict({"dependencies": [UNKNOWN, VULNERABLE]}, "")[0] == 1


def test_a_network_failure_is_loud_and_no_failure() -> None:
    for stderr in (
        "Traceback …\nrequests.exceptions.ProxyError: HTTPSConnectionPool(host='pypi.org', port=443)",
        "ERROR:pip_audit._cli:Could not connect to PyPI\nERROR:pip_audit._cli:Tip: your network may be blocking this",
    ):
        status, (line,) = verdict(None, stderr)
        assert status == 0
        assert line.startswith("NOT AUDITED: ")


def test_any_other_failure_of_the_tool_fails() -> None:
    status, lines = verdict(None, "ERROR:pip_audit._cli:invalid requirements input: nowhere.txt")
    assert status == 1
    assert "invalid requirements input" in lines[0]
