"""The locks: exact, hashed, from no index but the installer's own, and agreeing where they overlap."""

from __future__ import annotations

import re

import pytest

from tests.machine import ROOT

LOCKS = [f"requirements{which}.txt" for which in ("", "-demo", "-dev", "-ministack", "-mutation")]
REQUIREMENT = re.compile(r"([a-z0-9.-]+)(?:\[[^]]*\])?==(\S+) \\")


def lines(lock: str) -> list[str]:
    return (ROOT / lock).read_text(encoding="utf-8").splitlines()


def pins(lock: str) -> dict[str, str]:
    return {found[1]: found[2] for line in lines(lock) if (found := REQUIREMENT.fullmatch(line))}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_a_hash_or_a_comment(lock: str) -> None:
    others = [line for line in lines(lock) if not REQUIREMENT.fullmatch(line)]
    unknown = [
        line for line in others if not re.fullmatch(r"    (--hash=sha256:[0-9a-f]{64}( \\)?|# .*)", line)
    ]
    assert unknown == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_index_or_a_place(lock: str) -> None:
    assert not re.search(r"://|--index|--extra|--find-links|--trusted", "\n".join(lines(lock)))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    content = lines(lock)
    unhashed = [
        line
        for line, following in zip(content, [*content[1:], ""], strict=True)
        if REQUIREMENT.fullmatch(line) and not following.startswith("    --hash=sha256:")
    ]
    assert unhashed == []


@pytest.mark.parametrize("larger", ["requirements-demo.txt", "requirements-dev.txt"])
def test_what_is_tested_is_what_is_shipped(larger: str) -> None:
    shipped = pins("requirements.txt")
    assert shipped.items() <= pins(larger).items()


def test_numpy_and_botocore_stand_where_they_must() -> None:
    shipped = pins("requirements.txt")
    assert shipped["numpy"] == "2.2.6", "newer numpy wheels do not load under glibc 2.26"
    assert shipped["botocore"] == shipped["boto3"] == "1.44.5"
