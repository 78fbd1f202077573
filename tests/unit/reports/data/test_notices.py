"""What a report points at beside coverage, in the files and on the page."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.columns import FUNCTIONS
from reports.data.coverage import measure, measure_effective
from reports.data.functions_table import functions_table
from reports.data.notices import blocked_soon, utilization_unread
from reports.data.run_result import RunResult
from reports.render.csv import csv_text
from reports.render.text import percent
from reports.run_files import write_run
from scanner.inventory.alias_traffic import SERVED
from scanner.risk.runtimes import lifecycle
from storage.folder import FolderStore
from tests.unit.reports.frames import organization, serving

ROWS = st.tuples(st.sampled_from(SERVED), st.booleans(), st.booleans())


def first_functions(count: int) -> RunResult:
    run = organization(functions=60)
    return replace(run, functions=run.functions.head(count))


def written(folder: Path, run: RunResult) -> tuple[str, dict[str, Any], list[dict[str, str]]]:
    """Write a run, and give its page, its summary and the rows of functions.csv."""
    write_run(FolderStore(folder), run)
    latest = folder / "latest"
    table = (latest / "functions.csv").read_text(encoding="utf-8")
    return (
        (latest / "report.html").read_text(encoding="utf-8"),
        json.loads((latest / "summary.json").read_text(encoding="utf-8")),
        list(csv.DictReader(io.StringIO(table, newline=""))),
    )


@given(st.lists(ROWS, min_size=1, max_size=30))
def test_unknown_and_unprotected_never_count_as_protected(rows: list[tuple[str, bool, bool]]) -> None:
    run = first_functions(len(rows))
    served, latest, protected = zip(*rows, strict=True)
    run = replace(
        run,
        functions=run.functions.assign(
            protection=pd.Categorical(["protected" if one else "unprotected" for one in protected])
        ),
    )
    run = serving(run, served=pd.Categorical(served, categories=list(SERVED)), serves_latest=list(latest))
    found = measure_effective(run.functions, measure(run.functions, run.units))
    assert found is not None
    good = [name in ("latest_only", "served_protected") and (ours or not open_) for name, open_, ours in rows]
    assert found.where_traffic_goes.covered == sum(good)
    assert found.on_latest.covered == sum(protected)
    assert found.where_traffic_goes.total == len(rows)
    assert found.unknown <= served.count("unknown")
    traffic = found.where_traffic_goes
    assert traffic.worst_pct is not None
    assert traffic.best_pct is not None
    for known in (0, found.unknown):  # none of the unknown carries it, or all do, in what was read
        truth = 100 * (traffic.covered + known) / len(rows)
        assert traffic.worst_pct <= truth + 0.01
        assert traffic.best_pct >= truth - 0.01
    assert found.where_traffic_goes.covered + found.unknown + found.left_behind <= len(rows)


def test_a_run_without_utilization_reports_nothing_of_it(tmp_path: Path) -> None:
    page, summary, rows = written(tmp_path, organization(functions=40))
    assert summary["effective_coverage"] is None
    assert 'id="effective"' not in page
    assert 'href="#effective"' not in page
    for name in ("effective_protection", "served", "aliases", "snap_start", "provisioned_concurrency"):
        assert {row[name] for row in rows} == {""}


def test_a_function_left_behind_its_alias_is_reported_everywhere(tmp_path: Path) -> None:
    run = organization(functions=40)
    covered = (run.functions["protection"] == "protected").to_numpy()
    first = int(np.flatnonzero(covered)[0])
    served, aliases = ["latest_only"] * 40, [""] * 40
    provisioned = np.zeros(40, dtype="int32")
    served[first], aliases[first], provisioned[first] = "served_unprotected", "live=3:unprotected", 7
    snap_start = ["None"] * 40
    snap_start[first] = "PublishedVersions"
    run = serving(
        run,
        served=pd.Categorical(served, categories=list(SERVED)),
        aliases=pd.Categorical(aliases),
        snap_start=pd.Categorical(snap_start),
        provisioned_concurrency=provisioned,
    )
    page, summary, rows = written(tmp_path, run)
    effective = summary["effective_coverage"]
    assert effective["on_latest"]["covered"] == covered.sum()
    assert effective["where_traffic_goes"]["covered"] == covered.sum() - 1
    assert (effective["left_behind"], effective["unknown"]) == (1, 0)
    assert (effective["snap_start"], effective["provisioned_concurrency"]) == (1, 1)
    assert "Protected on $LATEST, and not where traffic goes: 1" in page
    assert "live=3 unprotected" in page
    row = next(row for row in rows if row["served"] == "served_unprotected")
    assert (row["protection"], row["effective_protection"]) == ("protected", "unprotected")
    assert (row["aliases"], row["provisioned_concurrency"]) == ("live=3:unprotected", "7")
    assert row["snap_start"] == "PublishedVersions"


def test_an_alias_that_a_spreadsheet_would_take_for_a_formula_is_written_as_text() -> None:
    run = first_functions(1)
    run = serving(run, aliases=pd.Categorical(["-2=1:protected;-x=1:protected"]))
    table = functions_table(run.functions, run.accounts, "aws")
    row = next(csv.DictReader(io.StringIO("".join(csv_text(table, FUNCTIONS)), newline="")))
    assert row["aliases"] == "'-2=1:protected;'-x=1:protected"


@pytest.mark.parametrize("outcome", ["access_denied", "throttled", "timed_out", "region_disabled", "error"])
def test_facts_that_could_not_be_read_are_counted_and_shown(tmp_path: Path, outcome: str) -> None:
    run = serving(organization(functions=40, unread=0))
    functions = run.functions.assign(
        timeout_utilization_outcome=pd.Categorical([outcome] * 3 + ["measured"] * 30 + ["not_asked"] * 7),
        memory_utilization_outcome=pd.Categorical(["unmeasured"] * 40),
        served=pd.Categorical(["unknown"] * 5 + ["latest_only"] * 35, categories=list(SERVED)),
        serves_latest=[False] * 5 + [True] * 35,
        served_outcome=pd.Categorical([outcome] * 5 + ["read"] * 35),
        provisioned_concurrency=np.array([-1] * 5 + [0] * 35, dtype="int32"),
    )
    page, summary, rows = written(tmp_path, replace(run, functions=functions))
    assert summary["utilization_unread"] == {"timeout_utilization": {outcome: 3}}
    assert summary["effective_coverage"]["by_outcome"] == {"read": 35, outcome: 5}
    assert summary["effective_coverage"]["unknown"] == 5
    traffic = summary["effective_coverage"]["where_traffic_goes"]
    assert traffic["best_pct"] == pytest.approx(100 * (traffic["covered"] + 5) / 40)
    assert f"{percent(traffic['pct'])} ({percent(traffic['pct'])} to {percent(traffic['best_pct'])})" in page
    assert "longest duration" in page
    assert "versions and aliases" in page
    assert "memory used" not in page
    assert [row["timeout_utilization_outcome"] for row in rows].count(outcome) == 3
    assert [row["effective_protection"] for row in rows[:5]] == ["unknown"] * 5
    assert [row["provisioned_concurrency"] for row in rows[:5]] == [""] * 5


def test_where_all_could_be_read_nothing_is_reported(tmp_path: Path) -> None:
    page, summary, _ = written(tmp_path, organization(functions=40))
    assert summary["utilization_unread"] == {}
    assert "could not be asked for" not in page
    assert utilization_unread(pd.DataFrame({"function_name": []})) == {}


def test_runtimes_that_are_blocked_soon_are_on_the_page_with_their_day(tmp_path: Path) -> None:
    life = lifecycle("python3.11")
    assert life is not None
    assert life.update_block is not None
    eve = datetime.fromordinal(life.update_block.toordinal() - 20).replace(tzinfo=UTC)
    run = organization(functions=60, started=eve)
    soon = np.where(run.functions["runtime"] == "python3.11", "runtime_blocked_soon", "")
    page, _, rows = written(
        tmp_path, replace(run, functions=run.functions.assign(warnings=pd.Categorical(soon)))
    )
    assert f"{life.update_block} (in 20 days)" in page
    assert "Runtimes that are blocked within 60 days: 1" in page
    assert {row["runtime"] for row in rows if row["warnings"]} == {"python3.11"}
    table = functions_table(run.functions.assign(warnings=pd.Categorical(soon)), run.accounts, "aws")
    (found,) = blocked_soon(table, eve.date()).to_dict("records")
    assert found["functions"] == (run.functions["runtime"] == "python3.11").sum()
    assert found["days"] == 20


def test_tags_that_could_not_be_read_are_nobodys_decision(tmp_path: Path) -> None:
    run = organization(functions=40, unread=0)
    assert written(tmp_path / "all", run)[1]["tags_unread"] == {"functions": 0, "units": 0}
    unit = ["account_id", "region"]
    first = run.functions[unit].astype("str").apply(tuple, axis=1) == tuple(run.functions[unit].iloc[0])
    page, summary, _ = written(
        tmp_path / "one", replace(run, functions=run.functions.assign(tags_read=(~first).to_numpy()))
    )
    assert summary["tags_unread"] == {"functions": int(first.sum()), "units": 1}
    assert (
        "could not be read.</strong> Those that are not covered count below as left out by decision" in page
    )
    assert '<tr><th scope="row">tags</th>' in page
    assert summary["coverage"]["of_coverable"]["undecided"] <= first.sum()
