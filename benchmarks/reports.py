"""The cost of a run's files in time, memory and size, compared with plain pandas in the same run.

    python -m benchmarks.reports                    # 100,000 and 1,000,000 functions
    python -m benchmarks.reports --functions 50000  # one size

Each contender runs in a process of its own, so that its memory is its own; making the organization is not timed.
With Chromium and ChromeDriver installed, the pages are opened too.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service

from reports.data.run_result import RunResult
from reports.run_files import write_run
from storage.folder import FolderStore
from tests.unit.reports.frames import organization

SIZES = (100_000, 1_000_000)
FUNCTIONS_AN_ACCOUNT = 100
# The plain page has a row in the document for each function; beyond this a browser takes too long.
PLAIN_PAGE_LIMIT = 100_000
PATIENCE_SEC = 45


def ours(run: RunResult, folder: Path) -> None:
    """Write all files of a run."""
    write_run(FolderStore(folder), run)


def plain(run: RunResult, folder: Path) -> None:
    """Write the functions as pandas does: to_csv, and to_html where a browser can open it."""
    run.functions.to_csv(folder / "functions.csv", index=False)
    if len(run.functions) <= PLAIN_PAGE_LIMIT:
        run.functions.to_html(folder / "report.html", index=False)


CONTENDERS: dict[str, Callable[[RunResult, Path], None]] = {"ours": ours, "plain pandas": plain}


def child(name: str, functions: int, folder: str) -> None:
    """Run one contender; print its seconds and its peak memory, and that of the frames alone."""
    run = organization(max(24, functions // FUNCTIONS_AN_ACCOUNT), functions, mode="apply")
    before = peak_mb()
    begun, cpu = time.perf_counter(), time.process_time()
    CONTENDERS[name](run, Path(folder))
    times = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    print(json.dumps(times | {"peak_mb": peak_mb(), "frames_mb": before}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(name: str, functions: int) -> None:
    """Start a contender and print a line of figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.reports", "--child", name, str(functions), folder]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        files = {path.name: path for path in Path(folder).rglob("*") if path.is_file()}
        page = files.get("report.html")
        table = files.get("functions.csv", files.get("functions.csv.gz"))
        print(
            f"{functions:>9,}  {name:<12}  {figures['seconds']:7.1f} s ({figures['cpu']:.1f} CPU)  {figures['peak_mb']:7.0f} MB"
            f" ({figures['frames_mb']:.0f} MB before)  {_size(page):>9} page  {_size(table):>9} {table and table.name}"
            f"  {_opened(page)}",
            flush=True,
        )


def _size(path: Path | None) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB" if path else "no"


def _opened(page: Path | None) -> str:
    """Return the seconds until Chromium shows the page and its tables respond."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if page is None or browser is None or driver is None:
        return ""
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=Service(driver)) as chrome:
        chrome.set_page_load_timeout(PATIENCE_SEC)
        chrome.get("about:blank")
        begun = time.perf_counter()
        try:
            chrome.get(page.resolve().as_uri())
        except TimeoutException:
            return f"not there after {PATIENCE_SEC} s in Chromium"
        packed = "document.querySelectorAll('table[data-packed]').length"
        while not chrome.execute_script(f"return document.querySelectorAll('.ready').length === {packed}"):
            time.sleep(0.01)
        rows = chrome.execute_script("return document.querySelectorAll('tr').length")
        return f"{time.perf_counter() - begun:.2f} s in Chromium, {rows:,} rows in the document"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--functions", type=int, nargs="+", default=SIZES)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], int(asked.child[1]), asked.child[2])
        return
    for functions in asked.functions:
        for name in CONTENDERS:
            measured(name, functions)


if __name__ == "__main__":
    main()
