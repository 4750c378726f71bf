"""The browser tests' own instruments: what they must catch."""

import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser import chromium
from tests.browser.watched import Watch, is_here


async def test_a_fault_of_a_page_is_caught(context: BrowserContext) -> None:
    watch, page = Watch(context), await context.new_page()
    await page.set_content(
        "<script>console.error('spilt'); setTimeout(() => { throw new Error('broken') });"
        "fetch('http://192.0.2.1/font.woff').catch(() => 0)</script>"
    )
    await page.wait_for_timeout(200)
    assert any("console error: spilt" in fault for fault in watch.faults)
    assert any("page error: " in fault and "broken" in fault for fault in watch.faults)
    assert "left this machine: http://192.0.2.1/font.woff" in watch.faults


async def test_a_page_without_fault_passes(page: Page, watch: Watch) -> None:
    await page.set_content("<h1>Fine</h1>")
    assert watch.faults == []


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/live", True),
        ("ws://localhost:8080/socket", True),
        ("http://[::1]:8080/", True),
        ("data:image/png;base64,xx", True),
        ("https://cdn.example.com/x.js", False),
        ("http://127.0.0.1.example.com/", False),
        ("https://fonts.example.com/?a=127.0.0.1", False),
    ],
)
def test_what_is_on_this_machine(url: str, here: bool) -> None:
    assert is_here(url) is here


def test_where_no_browser_is_the_tests_say_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(chromium.VARIABLE, "/nowhere/chromium")
    assert chromium.found() is None
    assert "apt-get install chromium" in chromium.MISSING
    assert chromium.VARIABLE in chromium.MISSING
