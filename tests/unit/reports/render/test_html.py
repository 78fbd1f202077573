"""The page as text: what it allows, what it contains, what it must not contain. tests/browser opens it for real."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.render import charts
from reports.render.table_data import Column, pack
from reports.render.text import percent, signed, visible
from reports.run_files import write_run
from storage.folder import FolderStore
from tests.unit.reports.frames import HOSTILE, organization, without_functions


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    write_run(FolderStore(folder), organization(hostile=True, mode="apply"))
    return (folder / "latest/report.html").read_text(encoding="utf-8")


def unpacked(data: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(data)))
    return document


def rows(data: str) -> list[list[Any]]:
    columns = unpacked(data)["columns"]
    cells = [[c["values"][code] for code in c["codes"]] if c["codes"] else c["values"] for c in columns]
    return [list(row) for row in zip(*cells, strict=True)]


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(hostile: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', hostile)
    assert policy is not None
    text = policy[1].replace("&#39;", "'")
    for kind, element in (("style", "style"), ("script", 'script type="module"')):
        content = re.findall(rf"<{element}>(.*?)</{kind}>", hostile, flags=re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
    assert text.startswith("default-src 'none'")
    assert "unsafe" not in text
    assert "http" not in text


def test_there_is_no_inline_style_and_no_handler(hostile: str) -> None:
    markup = re.sub(r"<(style|script)\b.*?</\1>", "", hostile, flags=re.DOTALL)
    assert not re.search(r"<[^>]*\s(style|on\w+)\s*=", markup)


def test_no_hostile_string_is_in_the_page_as_it_came(hostile: str) -> None:
    markup = re.sub(r"<(style|script)\b[^>]*>.*?</\1>", "", hostile, flags=re.DOTALL)
    for text in HOSTILE:
        if re.search(r"[<>\x00-\x1f\u2028\u2029\u202e\ud800]", text):
            assert text not in markup
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in markup


def test_every_link_stays_beside_the_page(hostile: str) -> None:
    for target in re.findall(r'<a [^>]*href="([^"]*)"', hostile):
        assert re.fullmatch(r"#[a-z-]+|[a-z]+\.csv(\.gz)?", target)
    assert not re.findall(
        r"<(?:link|img|iframe|object|embed|form|base)\b",
        hostile.split('<script type="module">', maxsplit=1)[0],
    )


@pytest.mark.parametrize(
    ("blind", "said"),
    [(True, "No function was read, so nothing is known of it."), (False, "There are no functions.")],
)
def test_no_functions_are_not_full_coverage(tmp_path: Path, blind: bool, said: str) -> None:
    write_run(FolderStore(tmp_path), without_functions(blind=blind))
    page = (tmp_path / "latest/report.html").read_text(encoding="utf-8")
    headline = page.split("<main", 1)[1].split('id="where"', 1)[0]
    assert said in headline
    assert "Nothing:" not in headline
    assert "100 %" not in headline.replace("\u00a0", " ")
    assert ("Incomplete: 48 units of 48" in headline) == blind


def test_the_lines_for_an_owners_template_stand_one_below_the_other(hostile: str) -> None:
    assert "<pre>layers:\n  - &lt;script&gt;window.pwned=1&lt;/script&gt;\n</pre>" in hostile


def test_a_long_quarantine_says_where_the_rest_is(tmp_path: Path) -> None:
    run = organization()
    write_run(FolderStore(tmp_path), dataclasses.replace(run, quarantine=[*run.quarantine] * 30))
    page = (tmp_path / "latest/report.html").read_text(encoding="utf-8")
    assert "Quarantined: 30" in page
    assert re.search('5 more are in <a href="functions.csv">', page.split("Quarantined: 30", 1)[1])


def test_what_security_hub_did_not_take_is_said(tmp_path: Path) -> None:
    hub = {"open": 4, "imported": 1, "closed": 0, "failed": 2, "waiting": 0, "error": "no <b>access</b>"}
    write_run(FolderStore(tmp_path), dataclasses.replace(organization(), security_hub=hub))
    page = (tmp_path / "latest/report.html").read_text(encoding="utf-8")
    assert "It refused 2 findings. <bdi>no &lt;b&gt;access&lt;/b&gt;</bdi>" in page


def test_large_organizations_see_what_needs_action_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("reports.data.run_view.FUNCTIONS_IN_PAGE", 150)
    run = organization(functions=500)
    write_run(FolderStore(tmp_path), run)
    page = (tmp_path / "latest/report.html").read_text(encoding="utf-8")
    data = re.search(r'id="functions-table-data">([^<]*)<', page)
    assert data is not None
    verdicts = [row[7] for row in rows(data[1])]
    assert verdicts.count("eligible") == (run.functions["verdict"] == "eligible").sum()
    assert len(verdicts) == 150
    assert "protected" not in verdicts
    assert "The 150 of 500 functions" in page


@given(st.lists(st.sampled_from(["", "b", "a;b", "\u202ex", *HOSTILE]), min_size=1), st.booleans())
def test_packing_keeps_every_row_and_codes_sort_like_their_values(texts: list[str], categories: bool) -> None:
    values: Any = pd.Series(pd.Categorical(texts)) if categories else pd.Series(texts, dtype=object)
    data = pack([Column("a", "A", values), Column("n", "N", pd.Series(range(len(texts))), number=True)])
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", data)
    assert rows(data) == [[visible(text), n] for n, text in enumerate(texts)]
    for column in unpacked(data)["columns"]:
        if column["codes"]:
            assert column["values"] == sorted(column["values"])


def test_a_table_without_rows_can_be_packed() -> None:
    assert unpacked(pack([Column("a", "A", pd.Series([], dtype=object))]))["rows"] == 0


@given(st.text(alphabet=st.characters(), max_size=20))
def test_what_is_shown_can_be_seen_and_is_one_line(text: str) -> None:
    shown = visible(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]", shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0 %"),
        (100.0, "100 %"),
        (99.99, "99.9 %"),
        (0.01, "0.1 %"),
        (66.6, "66.6 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(value: float | None, shown: str) -> None:
    assert percent(value).replace("\u00a0", " ") == shown


def test_a_difference_has_its_sign() -> None:
    assert [signed(1200), signed(-3), signed(0)] == ["+1,200", "\u22123", "no change"]


def test_a_chart_is_inert_named_and_says_its_numbers() -> None:
    svg = charts.stacked_bars("x", f"Outputs: {HOSTILE[0]}", HOSTILE, {HOSTILE[1]: [5] * len(HOSTILE)})
    root = ET.fromstring(svg)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "style", "defs", "image", "a", "foreignObject"}
    assert root.get("role") == "img"
    assert root[0].tag.endswith("title")
    assert root[0].text == f"Outputs: {HOSTILE[0]}"
    values = [
        element.text
        for element in root.iter()
        if element.tag.endswith("text") and element.get("class") == "value"
    ]
    assert [text for text in values if text] or "5" in svg


def test_a_gap_in_a_line_stays_a_gap() -> None:
    whole = charts.lines("a", "", ["1", "2", "3"], {"covered": [10.0, 20.0, 30.0]})
    gap = charts.lines("b", "", ["1", "2", "3", "4"], {"covered": [10.0, None, 30.0, 40.0]})
    points = {
        name: re.findall(
            r"[ML]?[\d.]+ [\d.]+", " ".join(re.findall(r'd="([^"]*)" class="line reactive', svg))
        )
        for name, svg in {"whole": whole, "gap": gap}.items()
    }
    assert len(points["whole"]) == 3
    assert len(points["gap"]) == 2  # from the third to the fourth; the first stands alone as a dot
    assert "nan" not in gap.lower()
