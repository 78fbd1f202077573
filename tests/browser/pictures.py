"""Takes the pictures in docs/pictures from the files of a demo run.

auto-defender demo --output demo-out
python -m tests.browser.pictures demo-out docs/pictures
"""

import base64
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from reports.weekly import write_weekly
from storage.folder import FolderStore
from tests.browser.conftest import FLAGS

WIDTH, HEIGHT, PHONE = 1200, 1500, 390


def main(demo: Path, pictures: Path) -> None:
    """Write the week of the demo's runs, then photograph both pages."""
    now = datetime.now(UTC)
    year, week, _ = now.isocalendar()
    name = f"{year}-W{week:02}"
    write_weekly(FolderStore(demo), name, now)
    pictures.mkdir(parents=True, exist_ok=True)
    report, weekly = demo / "latest/report.html", demo / f"weekly/{name}/report.html"
    with tempfile.TemporaryDirectory() as profile, browser(profile) as chrome:
        photograph(chrome, report, pictures / "report.png", WIDTH, "light")
        photograph(chrome, report, pictures / "report-dark.png", WIDTH, "dark")
        photograph(chrome, report, pictures / "report-phone.png", PHONE, "light")
        photograph(chrome, weekly, pictures / "weekly.png", WIDTH, "light")


def browser(profile: str) -> webdriver.Chrome:
    """Start headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def photograph(chrome: webdriver.Chrome, page: Path, target: Path, width: int, scheme: str) -> None:
    """Save the top of a page as a PNG."""
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width == PHONE}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})
    chrome.get(page.resolve().as_uri())
    picture = chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    target.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
