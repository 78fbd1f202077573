"""report.html in a real browser: what runs, what leaves, what a person can do with it."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser.conftest import requests_of
from tests.unit.reports.frames import HOSTILE, organization

pytestmark = pytest.mark.browser

ROWS = "#functions-table tbody tr"


def opened(browser: webdriver.Chrome, page: Path) -> None:
    requests_of(browser)
    browser.get_log("browser")
    browser.get(page.resolve().as_uri())
    wait(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "section.ready")) == 2)


def wait(browser: webdriver.Chrome, condition: Any) -> None:
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: condition())


def info(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.CSS_SELECTOR, "#functions .dt-info").text


@pytest.mark.parametrize("kind", ["usual", "hostile", "empty", "blind"])
def test_nothing_foreign_runs_nothing_is_refused_and_nothing_leaves(
    browser: webdriver.Chrome, pages: dict[str, Path], kind: str
) -> None:
    opened(browser, pages[kind])
    for letters in ("script", "img", "=", "\u202e"):  # search with what is hostile, too
        search = browser.find_element(By.CSS_SELECTOR, "#functions input[type=search]")
        search.clear()
        search.send_keys(letters)
        time.sleep(0.3)
    assert browser.execute_script("return window.pwned") is None
    assert browser.get_log("browser") == []  # a policy violation or a script's error would be here
    asked = [url for url in requests_of(browser) if not url.startswith("data:")]
    assert asked == [pages[kind].resolve().as_uri()]


def test_hostile_names_are_shown_as_text_and_break_no_layout(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    opened(browser, pages["hostile"])
    text = browser.execute_script("return document.body.textContent")
    for name in HOSTILE[:5]:
        assert name in text
    assert browser.find_elements(By.CSS_SELECTOR, "img, iframe, object, embed, b b") == []
    scripts = browser.execute_script("return [...document.scripts].map(s => s.type)")
    assert scripts == ["application/gzip", "application/gzip", "module"]
    assert fits(browser)


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("kind", ["usual", "hostile", "blind"])
def test_no_width_scrolls_sideways(
    browser: webdriver.Chrome, pages: dict[str, Path], kind: str, width: int
) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, pages[kind])
        assert fits(browser)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def fits(browser: webdriver.Chrome) -> bool:
    return bool(browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"))


def test_the_accounts_are_whole_on_a_usual_screen_and_on_paper(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    """Whoever prints the page gets its last column, the share that is covered, too."""
    opened(browser, pages["usual"])
    box = ".dt-layout-table:has(#accounts-table)"
    cut = "const box = document.querySelector(arguments[0]); return box.scrollWidth - box.clientWidth"
    assert browser.execute_script(cut, box) <= 0
    paper = {"width": 695, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 within its margins
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.execute_script(cut, box) <= 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_functions_can_be_searched_picked_and_sorted(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    opened(browser, pages["usual"])
    run = organization(mode="apply")
    assert info(browser) == "1 to 25 of 500"
    assert len(browser.find_elements(By.CSS_SELECTOR, ROWS)) == 25
    reason = browser.find_element(By.CSS_SELECTOR, '#functions-table-picks select[data-column="reasons"]')
    Select(reason).select_by_value("memory")
    expected = sum("memory" in reasons.split(";") for reasons in run.functions["reasons"])
    wait(browser, lambda: info(browser).startswith(f"1 to {expected} of {expected}"))
    Select(reason).select_by_value("")
    name = str(run.functions["function_name"][7])
    browser.find_element(By.CSS_SELECTOR, "#functions input[type=search]").send_keys(name)
    wait(browser, lambda: info(browser).startswith("1 to 1 of 1"))
    assert browser.find_element(By.CSS_SELECTOR, f"{ROWS} td").text == name


def test_a_column_sorts_by_keyboard_and_says_so(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["usual"])
    head = browser.find_element(By.CSS_SELECTOR, "#functions-table thead th.c-function_name")
    button = head.find_element(By.CSS_SELECTOR, "[tabindex='0'], [role=button]")
    button.send_keys(Keys.ENTER)
    wait(browser, lambda: head.get_attribute("aria-sort") == "ascending")
    names = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"{ROWS} td:first-child")]
    assert names == sorted(organization().functions["function_name"])[:25]
    button.send_keys(Keys.ENTER)
    wait(browser, lambda: head.get_attribute("aria-sort") == "descending")


def test_a_reason_leads_to_its_functions(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["usual"])
    link = browser.find_element(By.CSS_SELECTOR, 'a[data-value="timeout"]')
    browser.execute_script("arguments[0].click()", link)
    expected = sum("timeout" in reasons.split(";") for reasons in organization().functions["reasons"])
    wait(browser, lambda: info(browser).startswith(f"1 to {expected} of {expected}"))


def test_dark_and_light_both_have_contrast(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text."""
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        opened(browser, pages["usual"])
        for element in ("body", ".meta", ".range", ".alert", "nav a", "thead th", ".badge", ".state.failed"):
            assert contrast(browser, element) >= 4.5, (scheme, element)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(browser: webdriver.Chrome, selector: str) -> float:
    colors: list[list[float]] = browser.execute_script(
        """
        const element = document.querySelector(arguments[0]);
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        let behind = element;
        while (rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
        return [rgb(getComputedStyle(element).color), rgb(getComputedStyle(behind).backgroundColor)];
        """,
        selector,
    )
    lighter, darker = sorted((luminance(color[:3]) for color in colors), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: list[float]) -> float:
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_screen_reader_finds_its_way(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["usual"])
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    unnamed = browser.execute_script(
        """
        const named = (e) => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
          || e.closest('label') || (e.id && document.querySelector(`label[for="${e.id}"]`)) || e.querySelector('title');
        return [...document.querySelectorAll('select, input, svg[role=img], section, [role=region]')]
          .filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));
        """
    )
    assert unnamed == []
    without_scope = browser.execute_script(
        "return [...document.querySelectorAll('.scroll th:not([scope])')].length"
    )
    assert without_scope == 0
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the numbers"


def test_it_prints_without_its_controls(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["usual"])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for selector in ("nav", ".dt-search", ".dt-paging", ".picks"):
            assert not browser.find_element(By.CSS_SELECTOR, selector).is_displayed()
        assert browser.find_element(By.CSS_SELECTOR, ".hero .figure").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_the_numbers_are_there_and_the_csv_is_named(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages["usual"].resolve().as_uri())
        assert browser.find_element(By.CSS_SELECTOR, ".hero .figure").text.endswith("%")
        assert (
            "functions.csv has every row"
            in browser.find_element(By.CSS_SELECTOR, "#functions .fallback").text
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
