"""The weekly page in a real browser: two printed pages at most, and nothing that runs."""

import base64
import dataclasses
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium import webdriver

from reports.run_files import write_run
from reports.weekly import write_weekly
from scanner.organization.optouts import OptOut
from storage.folder import FolderStore
from tests.browser.conftest import requests_of
from tests.unit.reports.frames import HOSTILE, organization, serving

pytestmark = pytest.mark.browser
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week that is not over, in which everything that can be listed has more than is shown: lost, unreachable, lapsing,
    gaps, broken runs.
    """
    folder = tmp_path_factory.mktemp("week")
    store = FolderStore(folder)
    first = organization(60, 2000, hostile=True, unread=0, started=MONDAY)
    functions = first.functions.copy()
    was = functions.index[functions["verdict"] == "protected"][:60]
    functions.loc[was, ["verdict", "protection"]] = ["eligible", "partial"]
    optouts = [
        OptOut(
            account="*",
            functions=("long-name-of-a-function-*",) * 4,
            reason=text,
            owner="o@example.com",
            expires=day,
        )
        for text, day in zip(
            (text.replace("\ud800", "") for text in HOSTILE if text),
            (MONDAY.date() + timedelta(days) for days in range(30)),
            strict=False,
        )
    ]
    last = organization(60, 2000, hostile=True, unread=12, started=MONDAY + timedelta(hours=90))
    for run in (first, dataclasses.replace(last, functions=functions, optouts=optouts)):
        write_run(store, serving(run))
    for number in range(9):
        store.write(f"runs/2026/11/25/20261125T03423{number}Z-1a2b3c/summary.json", b"{", "application/json")
    write_weekly(store, "2026-W48", MONDAY + timedelta(days=6, hours=1))
    return folder / "weekly/2026-W48/report.html"


def test_it_prints_on_two_pages_at_most(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    for width, height in ((8.27, 11.69), (8.5, 11.0)):
        paper = {
            "paperWidth": width,
            "paperHeight": height,
            "printBackground": True,
            "preferCSSPageSize": False,
        }
        pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 2


def test_nothing_runs_nothing_is_refused_and_nothing_leaves(browser: webdriver.Chrome, page: Path) -> None:
    requests_of(browser)
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.execute_script("return window.pwned") is None
    assert browser.get_log("browser") == []
    assert [url for url in requests_of(browser) if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_width_scrolls_sideways(browser: webdriver.Chrome, page: Path, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
