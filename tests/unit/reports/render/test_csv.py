"""CSV files: what a spreadsheet, a parser and a script that reads columns by name rely on."""

import csv
import gzip
import io
import re
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.columns import ACCOUNTS, CHANGES, COVERAGE, FUNCTIONS, UNITS
from reports.data.functions_table import functions_table
from reports.render.csv import ATHENA_ESCAPE, csv_file, csv_text, neutral
from reports.render.text import visible
from reports.run_files import write_run
from storage.folder import FolderStore
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


def test_the_schema_document_lists_exactly_the_summarys_keys(tmp_path: Path) -> None:
    summary = write_run(FolderStore(tmp_path), organization())
    assert documented("summary.json") == tuple(summary)


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


@pytest.mark.parametrize("limit", [0, 1000, 52_000])
def test_a_large_file_is_zipped_and_the_same_rows_give_the_same_bytes(limit: int) -> None:
    frame = pd.DataFrame({"a": ["x" * 50] * 1001})
    (name, plain), *packed = (
        csv_file(frame, ("a",), "functions", gzip_above) for gzip_above in (1 << 20, limit, limit)
    )
    first, second = (b"".join(chunks) for _, chunks in packed)
    assert [name, packed[0][0]] == ["functions.csv", "functions.csv.gz"]
    assert gzip.decompress(first) == b"".join(plain)
    assert first == second


def test_a_file_of_exactly_the_limit_is_not_zipped() -> None:
    frame = pd.DataFrame({"a": ["x" * 50] * 10})
    size = len("".join(csv_text(frame, ("a",))))
    assert [csv_file(frame, ("a",), "a", limit)[0] for limit in (size, size - 1)] == ["a.csv", "a.csv.gz"]


def test_a_large_file_comes_in_blocks_of_rows_and_never_whole() -> None:
    frame = pd.DataFrame({"a": ["x" * 50] * 400_000})
    for limit in (1 << 30, 1 << 20):
        tracemalloc.start()
        _, chunks = csv_file(frame, ("a",), "a", limit)
        size = sum(map(len, chunks))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > 0
        assert peak < len(frame) * 52 * 0.75


def test_a_lone_surrogate_does_not_stop_the_file() -> None:
    _, chunks = csv_file(pd.DataFrame({"a": ["\ud800"]}), ("a",), "odd", 100)
    assert b"".join(chunks).decode() == "a\r\n\\ud800\r\n"
