"""The page in a real browser: upload, drop, paste, box, filters, keyboard, and nothing outside."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from retrieval.web.app import create_app
from retrieval.web.image_database import ImageDatabase
from tests.web.conftest import first_photo, running

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium or chromedriver is not installed"
)

PREFIX = "/cars"

# Puts a file into an event as a drop or a paste of the user would.
GIVE_FILE = """
const [kind, done] = arguments;
fetch("/cars/images/3?size=large").then((answer) => answer.blob()).then((blob) => {
  const data = new DataTransfer();
  data.items.add(new File([blob], "x.jpg", { type: "image/jpeg" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
  done();
});
"""


@pytest.fixture(scope="module")
def address(database: ImageDatabase) -> Iterator[str]:
    """Address of the page, below a prefix as a proxy may have: nothing may leave it."""
    with running(create_app(database, root_path=PREFIX)) as port:
        yield f"http://127.0.0.1:{port}{PREFIX}"


@pytest.fixture(scope="module")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    flags = ["--headless=new", "--no-sandbox", "--no-first-run", f"--user-data-dir={profile}"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-default-apps"]
    for flag in (*flags, "--disable-background-networking"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    driver.set_window_size(1200, 900)
    yield driver
    driver.quit()


@pytest.fixture
def browser(_browser: "webdriver.Chrome", address: str) -> Iterator["webdriver.Chrome"]:
    """A browser that must have kept to the server, without a complaint, when the test ends."""
    _browser.get_log("browser")
    _browser.get_log("performance")
    _browser.get(address)
    yield _browser
    assert _browser.get_log("browser") == []
    sent = [
        line["message"]
        for line in _browser.get_log("performance")
        if '"Network.requestWillBeSent"' in line["message"]
    ]
    assert sent
    assert not [text for text in sent if f'"url":"{address}' not in text]


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def answers(browser: "webdriver.Chrome") -> list[str]:
    links = "return [...document.querySelectorAll('#results .tile > a')].map((a) => a.href)"
    return [link.split("id=")[1] for link in browser.execute_script(links)]


def is_idle(browser: "webdriver.Chrome") -> bool:
    return browser.execute_script(
        "return document.readyState === 'complete'"
        " && document.querySelector('#results')?.getAttribute('aria-busy') === 'false'"
    )


def test_a_chosen_photo_is_searched_with_at_once(
    browser: "webdriver.Chrome", _served: Path
) -> None:
    photo = first_photo(_served, 3)
    browser.find_element("id", "photo").send_keys(str(photo))
    wait(lambda: "photo=" in browser.current_url and is_idle(browser))
    assert answers(browser)[0] == "3"
    loaded = browser.execute_script(
        "return Promise.all([...document.images].map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert min(loaded) > 0
    browser.back()
    wait(lambda: "photo=" not in browser.current_url and browser.find_elements("id", "photo"))
    wait(lambda: not browser.find_element("id", "photo").get_property("value"))
    browser.find_element("id", "photo").send_keys(str(photo))  # the same again
    wait(lambda: "photo=" in browser.current_url and is_idle(browser))


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_that_is_dropped_or_pasted(browser: "webdriver.Chrome", kind: str) -> None:
    browser.execute_async_script(GIVE_FILE, kind)
    wait(lambda: "photo=" in browser.current_url and is_idle(browser))
    assert answers(browser)[0] == "3"


def test_a_dragged_box_is_searched_with(browser: "webdriver.Chrome", address: str) -> None:
    browser.get(f"{address}/search?id=3")
    frame = browser.find_element("css selector", ".frame")
    size = frame.size
    begin = (-size["width"] // 4, -size["height"] // 4)
    drag = ActionChains(browser).move_to_element_with_offset(frame, *begin).click_and_hold()
    drag.move_by_offset(size["width"] // 2, size["height"] // 2).release().perform()
    wait(lambda: "box=" in browser.current_url and is_idle(browser))
    query = parse_qs(urlsplit(browser.current_url).query)
    box = [float(part) for part in query["box"][0].split(",")]
    assert box == pytest.approx([18, 12, 54, 36], abs=1.5)  # of 72 x 48 pixels
    shown = browser.find_element("css selector", ".box")
    assert shown.is_displayed()
    assert shown.size["width"] == pytest.approx(size["width"] / 2, abs=8)
    boxed = browser.current_url, answers(browser)
    browser.get(boxed[0])  # the address gives the same
    assert answers(browser) == boxed[1]
    browser.find_element("css selector", "[data-clear=box]").click()
    wait(lambda: "box=" not in browser.current_url and is_idle(browser))


def test_filters_update_the_answers_in_place(browser: "webdriver.Chrome", address: str) -> None:
    browser.get(f"{address}/search?id=3")
    browser.execute_script("window.isSame = true")
    before = answers(browser)
    Select(browser.find_element("id", "make")).select_by_index(1)
    wait(lambda: "make=" in browser.current_url and is_idle(browser))
    assert answers(browser) != before
    field = browser.find_element("id", "k")
    field.clear()
    field.send_keys("3" + Keys.TAB)
    wait(lambda: "k=3" in browser.current_url and is_idle(browser))
    assert len(answers(browser)) == 3
    assert browser.execute_script("return window.isSame")  # no page was loaded anew
    assert Select(browser.find_element("id", "model")).first_selected_option.text == "any"
    assert "model=" not in browser.current_url  # the menus choose nothing by themselves
    Select(browser.find_element("id", "model")).select_by_index(1)
    chosen = browser.find_element("id", "model").get_attribute("value")
    wait(lambda: "model=" in browser.current_url and is_idle(browser))
    assert browser.find_element("id", "model").get_attribute("value") == chosen


def test_a_click_searches_with_the_answer(browser: "webdriver.Chrome", address: str) -> None:
    browser.get(f"{address}/search?id=3")
    second = answers(browser)[1]
    browser.find_elements("css selector", "#results .tile > a")[1].click()
    wait(lambda: browser.current_url.endswith(f"id={second}") and is_idle(browser))
    assert second not in answers(browser)


def test_the_keyboard_reaches_everything(browser: "webdriver.Chrome", address: str) -> None:
    browser.get(f"{address}/search?id=3")
    order = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        order.append(
            browser.execute_script(
                "const a = document.activeElement;"
                "return a.id || a.getAttribute('href') || a.textContent.trim()"
            )
        )
    for before, after in (
        ("#main", f"{PREFIX}/"),
        ("box", "make"),
        ("make", "model"),
        ("year", "k"),
    ):
        assert order.index(before) < order.index(after)
    first = f"{PREFIX}/search?id={answers(browser)[0]}"
    assert order.index("at_least") < order.index(first)
    visible = browser.execute_script(
        "return getComputedStyle(document.activeElement).outlineStyle !== 'none'"
    )
    assert visible
    link = browser.find_element("css selector", f'#results a[href="{first}"]')
    link.send_keys(Keys.ENTER)
    wait(lambda: browser.current_url.endswith(first) and is_idle(browser))


@pytest.mark.parametrize("width", [1200, 500])
@pytest.mark.parametrize("path", ["/", "/search?id=3", "/browse", "/why?id=3&answer=5"])
def test_nothing_is_wider_than_the_window(
    browser: "webdriver.Chrome", address: str, path: str, width: int
) -> None:
    browser.set_window_size(width, 900)
    browser.get(address + path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.set_window_size(1200, 900)
