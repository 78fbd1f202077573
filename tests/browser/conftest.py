"""A real Chromium, without a network of its own, and pages to open in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from reports.data.run_result import RunResult
from reports.run_files import write_run
from scanner.inventory.alias_traffic import SERVED
from storage.folder import FolderStore
from tests.machine import program
from tests.unit.reports.frames import HOSTILE, organization, serving, without_functions

# The last ones keep Chromium from calling its vendor, which a closed network would refuse many times a second.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A usual run's page, a hostile one, and those of runs that read no function."""
    runs = {
        "usual": organization(mode="apply"),
        "hostile": hostile(),
        "empty": without_functions(blind=False),
        "blind": without_functions(blind=True),
    }
    made = {}
    for name, run in runs.items():
        folder = tmp_path_factory.mktemp(name)
        write_run(FolderStore(folder), run)
        made[name] = folder / "latest" / "report.html"
    return made


def hostile() -> RunResult:
    """Return a run in which every text that an account owner can choose is hostile."""
    run = organization(hostile=True, mode="apply")
    count = len(run.functions)
    return serving(
        run,
        served=pd.Categorical(["served_unprotected"] * count, categories=list(SERVED)),
        aliases=pd.Categorical([f"{HOSTILE[row % len(HOSTILE)]}=1:unprotected" for row in range(count)]),
    )


def requests_of(browser: webdriver.Chrome) -> list[str]:
    """Return every address that a page asked for since the last call.

    What Chromium's own pages ask for is none of it: the tab that it starts with loads its parts when it finds the time,
    and a page of ours can neither open a chrome:// page nor be its document.
    """
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and not message["params"]["documentURL"].startswith("chrome://")
    ]
