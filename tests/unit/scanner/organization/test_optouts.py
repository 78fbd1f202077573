"""Opt-outs: who is left alone, and that a broken file never means that nobody is."""

from datetime import date

import pytest

from scanner.core.errors import BadInput
from scanner.organization.optouts import ALL_REGIONS, OptOut, OptOuts, glob_regex, read_optouts

TODAY = date(2026, 11, 24)
FILE = b"""
optouts:
  - account: "222233334444"
    regions: [us-east-1]
    functions: ["billing-*"]
    reason: Latency budget, CHG-4711
    owner: payments@example.com
    expires: 2026-11-24
  - account: "*"
    functions: [shared-tool]
    reason: Vendor code
    owner: platform@example.com
  - account: "333344445555"
    reason: Sold
    owner: legal@example.com
  - account: "444455556666"
    reason: Was sold
    owner: legal@example.com
    expires: 2026-11-23
"""


def test_patterns_by_unit() -> None:
    optouts = read_optouts(FILE, "o.yaml")
    assert optouts.patterns("222233334444", "us-east-1", TODAY) == ("billing-*", "shared-tool")
    assert optouts.patterns("222233334444", "us-west-2", TODAY) == ("shared-tool",)
    assert optouts.patterns("333344445555", "us-east-1", TODAY) == ("shared-tool", "*")


def test_an_entry_counts_to_the_end_of_the_day_it_expires_on() -> None:
    optouts = read_optouts(FILE, "o.yaml")
    assert "billing-*" not in optouts.patterns("222233334444", "us-east-1", date(2026, 11, 25))


def test_only_a_whole_account_in_force_saves_the_calls() -> None:
    optouts = read_optouts(FILE, "o.yaml")
    entry = optouts.unit("333344445555", "eu-west-1", TODAY)
    assert entry is not None
    assert entry.owner == "legal@example.com"
    assert optouts.unit("222233334444", "us-east-1", TODAY) is None
    assert optouts.unit("444455556666", "us-east-1", TODAY) is None


def test_a_unit_where_something_may_have_to_be_removed_is_swept() -> None:
    removing = b"""
  - account: "333344445555"
    regions: [us-east-1]
    functions: ["billing-*"]
    reason: Sold
    owner: legal@example.com
    remove: true
    expires: 2026-11-24
"""
    optouts = read_optouts(FILE + removing.removeprefix(b"\n"), "o.yaml")
    assert optouts.unit("333344445555", "us-east-1", TODAY) is None
    assert optouts.unit("333344445555", ALL_REGIONS, TODAY) is None, "its regions are listed first"
    assert optouts.unit("333344445555", "eu-west-1", TODAY) is not None
    assert optouts.unit("333344445555", "us-east-1", date(2026, 11, 25)) is not None, "it has expired"
    assert "*" in optouts.patterns("333344445555", "us-east-1", TODAY), "the others are excluded as before"


def test_an_empty_list_says_that_nobody_opted_out() -> None:
    assert read_optouts(b"optouts: []", "o.yaml").entries == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"optouts:\n", "line 1: optouts: expected a valid list"),
        (b"- account: '1'\n", "not a mapping"),
        (b"optouts:\n  - account: 222233334444\n    reason: x\n    owner: y\n", "put it in quotes"),
        (b"optouts:\n  - account: '2222'\n    reason: x\n    owner: y\n", "line 2: optouts.0.account"),
        (b"optouts:\n  - account: '*'\n    owner: y\n", "optouts.0.reason: missing"),
        (
            b"optouts:\n  - account: '*'\n    reason: x\n    owner: y\n    expires: soon\n",
            "line 5: optouts.0.expires",
        ),
        (b"optouts:\n  - account: '*'\n    reason: x\n    owner: y\n    expires: 2027-02-30\n", "line 5"),
        (
            b"optouts:\n  - account: '*'\n    reason: x\n    owner: y\n    region: [us-east-1]\n",
            "unknown key",
        ),
        (b"optouts:\n  - account: '*'\n    reason: x\n    owner: y\n    functions: []\n", "at least 1"),
    ],
)
def test_a_malformed_file_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        read_optouts(text, "o.yaml")
    assert "o.yaml" in str(raised.value)
    assert said in str(raised.value)


def test_globs_match_whole_names_with_their_case() -> None:
    matches = glob_regex(("billing-*", "exact")).fullmatch
    assert matches("billing-eu")
    assert matches("exact")
    assert not matches("my-billing-eu")
    assert not matches("Exact")
    assert not matches("exactly")


def test_an_entry_for_all_accounts_sweeps_none_that_an_entry_of_its_own_takes_out() -> None:
    every = {"account": "*", "functions": ["billing-*"], "remove": True, "reason": "r", "owner": "o"}
    own = {"account": "111122223333", "reason": "r", "owner": "o"}
    whole, removes = OptOut.model_validate(own), OptOut.model_validate(every)
    named = OptOut.model_validate({**every, "account": "111122223333"})
    today = date(2026, 11, 24)
    for entries, found in (((whole, removes), whole), ((removes, whole, named), None), ((removes,), None)):
        for region in ("us-east-1", ALL_REGIONS):
            assert OptOuts(entries).unit("111122223333", region, today) == found
