"""CSV files: what a spreadsheet, a parser and a script that reads columns by name rely on."""

import csv
import gzip
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.columns import ACCOUNTS, CHANGES, COVERAGE, FUNCTIONS, UNITS
from reports.data.functions_table import functions_table
from reports.data.summary import summarize
from reports.render import csv as csv_files
from reports.render.csv import ATHENA_ESCAPE, csv_text, neutral, write_csv
from reports.render.text import visible
from tests.unit.reports.frames import HOSTILE, organization

CONTRACT = {
    "functions": (
        FUNCTIONS,
        (
            "account_id, account_name, ou_path, region, function_name, function_arn, runtime, package_type, "
            "architecture, memory_mb, timeout_sec, code_size_bytes, layer_count, protection, verdict, reasons"
        ),
    ),
    "units": (UNITS, "account_id, region, outcome, functions, detail"),
    "accounts": (
        ACCOUNTS,
        (
            "account_id, account_name, ou_path, outcome, units_expected, units_read, functions, protected, "
            "eligible, skipped, excluded"
        ),
    ),
    "changes": (
        CHANGES,
        "account_id, region, function_name, function_arn, action, outcome, detail, attempts",
    ),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contracts_columns_come_first_and_in_order(name: str) -> None:
    columns, contract = CONTRACT[name]
    assert columns[: len(contract.split(", "))] == tuple(contract.split(", "))


@pytest.mark.parametrize(
    ("name", "columns"),
    [*((name, columns) for name, (columns, _) in CONTRACT.items()), ("coverage", COVERAGE)],
)
def test_the_schema_document_lists_exactly_these_columns(name: str, columns: tuple[str, ...]) -> None:
    assert documented(f"{name}.csv") == columns


def test_the_schema_document_lists_exactly_the_summarys_keys() -> None:
    assert documented("summary.json") == (*summarize(organization()), "files")


def documented(file: str) -> tuple[str, ...]:
    document = Path("docs/schema.md").read_text(encoding="utf-8")
    section = next(part for part in re.split(r"^## ", document, flags=re.MULTILINE) if part.startswith(file))
    return tuple(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE))


def parsed(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(csv_text(frame, columns)), newline="")))


@given(st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE), min_size=1, max_size=20))
def test_every_text_can_be_seen_and_none_starts_a_formula(texts: list[str]) -> None:
    for values in (pd.Series(texts, dtype=object), pd.Series(pd.Categorical(texts))):
        frame = pd.DataFrame({"detail": values, "n": range(len(texts))})
        cells = [row["detail"] for row in parsed(frame, ("n", "detail"))]
        assert cells == [neutral(text) for text in texts]
        for cell, text in zip(cells, texts, strict=True):
            assert cell.replace("'", "") == visible(text).replace("`", "\\u0060").replace("'", "")
            for part in cell.split(";"):
                assert part[:1] not in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def test_records_end_with_crlf_and_quotes_are_doubled() -> None:
    frame = pd.DataFrame({"a": ['say "hi"', "two, or\nthree"], "b": [1, 2]})
    assert "".join(csv_text(frame, ("a", "b"))) == 'a,b\r\n"say ""hi""",1\r\n"two, or\\nthree",2\r\n'


@given(st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE), min_size=1, max_size=20))
def test_each_line_is_a_row_also_for_a_parser_that_escapes(texts: list[str]) -> None:
    """Athena ends a row at any line break, and takes its escape character out of cells."""
    frame = pd.DataFrame({"detail": texts, "n": range(len(texts))})
    lines = "".join(csv_text(frame, ("detail", "n"))).split("\r\n")
    assert lines.pop() == ""
    assert not any("\n" in line or "\r" in line for line in lines)
    cells = [row for line in lines for row in csv.reader([line], escapechar=ATHENA_ESCAPE, strict=True)]
    assert cells == [["detail", "n"], *([neutral(text), str(n)] for n, text in enumerate(texts))]


def test_what_could_not_be_read_is_an_empty_cell_and_leading_zeros_stay() -> None:
    run = organization(functions=60)
    functions = run.functions.assign(memory_mb=-1)
    rows = parsed(functions_table(functions, run.accounts, "aws"), FUNCTIONS)
    assert {row["memory_mb"] for row in rows} == {""}
    assert all(re.fullmatch(r"\d{12}", row["account_id"]) for row in rows)
    assert {row["env_readable"] for row in rows} == {"true"}
    assert {row["memory_utilization_pct"] for row in rows} == {""}


def test_each_function_stands_beside_its_own_account() -> None:
    run = organization(functions=300, hostile=True)
    accounts = run.accounts.set_index("account_id")
    for row in parsed(functions_table(run.functions, run.accounts, "aws-us-gov"), FUNCTIONS):
        assert row["account_name"] == neutral(accounts.loc[row["account_id"], "account_name"])
        assert row["ou_path"] == neutral(accounts.loc[row["account_id"], "ou_path"])
        assert row["function_arn"].startswith(
            f"arn:aws-us-gov:lambda:{row['region']}:{row['account_id']}:function:"
        )


def test_an_account_that_nobody_listed_has_no_name() -> None:
    run = organization(functions=50)
    rows = parsed(functions_table(run.functions, run.accounts.iloc[:1], "aws"), FUNCTIONS)
    assert {row["account_name"] for row in rows if row["account_id"] != run.accounts.account_id[0]} == {""}


def test_no_rows_are_a_header_alone() -> None:
    assert "".join(csv_text(pd.DataFrame(columns=list(UNITS)), UNITS)) == ",".join(UNITS) + "\r\n"


def test_a_large_file_is_zipped_and_the_same_rows_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"a": ["x" * 50] * 200})
    plain = write_csv(frame, ("a",), tmp_path, "small").read_bytes()
    monkeypatch.setattr(csv_files, "GZIP_ABOVE", 1000)
    first, second = (write_csv(frame, ("a",), tmp_path, name) for name in ("one", "two"))
    assert first.name == "one.csv.gz"
    assert gzip.decompress(first.read_bytes()) == plain
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv.gz", "small.csv", "two.csv.gz"]


def test_a_lone_surrogate_does_not_stop_the_file(tmp_path: Path) -> None:
    path = write_csv(pd.DataFrame({"a": ["\ud800"]}), ("a",), tmp_path, "odd")
    assert path.read_text(encoding="utf-8") == "a\n\\ud800\n"
