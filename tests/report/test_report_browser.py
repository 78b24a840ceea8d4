"""The pages in a real browser: nothing is fetched, nothing complains, columns sort."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from process_data import audit, report

webdriver = pytest.importorskip("selenium.webdriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium or chromedriver is not installed"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    quiet = ("networking", "timer-throttling")
    flags = ["--headless=new", "--no-sandbox", "--no-first-run", f"--user-data-dir={profile}"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-default-apps"]
    for flag in (*flags, *(f"--disable-background-{name}" for name in quiet)):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser: "webdriver.Chrome", path: Path, width: int) -> None:
    """Open a page, and check what every page must be: quiet, whole and alone."""
    browser.get_log("performance")
    browser.set_window_size(width, 900)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "const images = [...document.images];"
        "images.forEach((image) => { image.loading = 'eager'; });"
        "return Promise.all(images.map((image) => image.decode().then(() => image.naturalWidth)));"
    )
    assert loaded and min(loaded) > 0
    requests = [
        line["message"]
        for line in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in line["message"]
    ]
    assert requests
    outside = [text for text in requests if not re.search('"url":"(file|data):', text)]
    assert not outside
    # Wide tables scroll on their own; the page does not.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def column(browser: "webdriver.Chrome", number: int) -> list[str]:
    return browser.execute_script(
        "const rows = document.querySelector('table.sortable').tBodies[0].rows;"
        f"return [...rows].map((row) => row.cells[{number}].textContent);"
    )


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_opens(browser: "webdriver.Chrome", pipeline: Path, width: int) -> None:
    show(browser, report.run(pipeline, rows=2, k=4), width)


@pytest.mark.parametrize("width", [1280, 500])
def test_the_audit_opens(browser: "webdriver.Chrome", pipeline: Path, width: int) -> None:
    audit.run(pipeline, distance=20, similarity=0.5)
    show(browser, pipeline / "audit.html", width)


def test_a_click_on_a_head_sorts(browser: "webdriver.Chrome", pipeline: Path) -> None:
    browser.get(report.run(pipeline, rows=1, k=1).as_uri())
    heads = browser.find_elements("css selector", "table.sortable:first-of-type th button")
    titles = [head.text.strip() for head in heads]
    for title, key in (("class", float), ("AP@5", float), ("name", str.casefold)):
        number = titles.index(title)
        before = column(browser, number)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", heads[number])
        heads[number].click()
        assert column(browser, number) == sorted(before, key=key)
        heads[number].click()
        assert column(browser, number) == sorted(before, key=key)[::-1]
    assert len(set(column(browser, titles.index("class")))) > 2
    sorted_by = browser.find_elements("css selector", "table.sortable th[aria-sort]")
    assert [head.text.strip() for head in sorted_by] == ["name"]
