"""stacksets/athena.yaml reads the files that runs write: their columns, their places, their cells."""

import re
from typing import Any

import pytest

from reports.data import columns
from reports.render.csv import ATHENA_ESCAPE
from reports.run_files import TABLES
from tools.templates import render

COLUMNS = {
    "functions": columns.FUNCTIONS,
    "accounts": columns.ACCOUNTS,
    "units": columns.UNITS,
    "changes": columns.CHANGES,
}


def tables(**parameters: str) -> dict[str, dict[str, Any]]:
    stack = render("athena.yaml", ReportBucket="reports", **parameters)
    inputs = [r["Properties"]["TableInput"] for r in stack.values() if r["Type"] == "AWS::Glue::Table"]
    return {table["Name"]: table for table in inputs}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_tables_columns_are_the_files_in_the_same_order(name: str) -> None:
    columns = tables()[name]["StorageDescriptor"]["Columns"]
    assert tuple(column["Name"] for column in columns) == COLUMNS[name]
    assert {column["Type"] for column in columns} == {"string"}


@pytest.mark.parametrize("prefix", ["", "coverage/", "a/b/"])
def test_every_table_looks_where_runs_write(prefix: str) -> None:
    assert set(tables(Prefix=prefix)) == set(COLUMNS)
    for name, table in tables(Prefix=prefix).items():
        place = f"s3://reports/{prefix}{TABLES}/{name}/"
        assert table["StorageDescriptor"]["Location"] == place
        assert table["Parameters"]["storage.location.template"] == place + "dt=${dt}/"
        assert table["PartitionKeys"] == [{"Name": "dt", "Type": "string"}]
        assert table["Parameters"]["projection.dt.range"] == "2026-01-01,NOW"


def test_cells_are_read_as_they_are_written() -> None:
    for table in tables().values():
        serde = table["StorageDescriptor"]["SerdeInfo"]
        assert serde["SerializationLibrary"].endswith(".OpenCSVSerde")
        assert serde["Parameters"] == {"separatorChar": ",", "quoteChar": '"', "escapeChar": ATHENA_ESCAPE}
        assert table["Parameters"]["skip.header.line.count"] == "1"


def test_the_queries_name_no_column_that_is_not_there() -> None:
    stack = render("athena.yaml", ReportBucket="reports")
    view = stack["TypedFunctions"]["Properties"]["QueryString"]
    names = set(re.findall(r"\w+", view.partition("run_id,")[2].partition("FROM")[0]))
    assert names - {"try_cast", "AS", "integer", "bigint", "boolean", "double"} == set(columns.FUNCTIONS)
    coverage = stack["CoverageByDay"]["Properties"]["QueryString"]
    cast = set(re.findall(r"try_cast\((\w+) AS", coverage))
    assert cast | {"ou_path"} <= set(columns.ACCOUNTS)


@pytest.mark.parametrize("prefix", ["coverage", "/coverage/", "/"])
def test_a_prefix_that_runs_do_not_write_under_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="empty, or a prefix that ends with a slash"):
        tables(Prefix=prefix)
