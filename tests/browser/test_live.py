"""The live page: what it shows of the server's figures, and that it follows them."""

import time

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser import samples
from tests.browser.consoles import Console
from tests.browser.planted import Planted
from tests.browser.samples import HOUR, MINUTE


@pytest.fixture(autouse=True)
async def no_figures(planted: Planted) -> None:
    """Each test plants its own."""
    planted.analytics.asked.clear()
    await planted.analytics.plant({})


def tile(page: Page, name: str) -> Locator:
    return page.locator(".stat", has_text=name).locator(".stat-value")


async def test_figures_appear_and_change_without_a_reload(
    page: Page, planted: Planted, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/live")
    await expect(page.get_by_text("Nothing to show yet")).to_be_visible()
    await page.evaluate("window.unbroken = true")
    now = time.time()
    await planted.analytics.plant({HOUR: samples.figures(now, HOUR, MINUTE)})
    await expect(tile(page, "Average rating")).to_have_text("3.98 ★")
    await expect(tile(page, "Requests per minute")).to_have_text("12.4")
    changed = samples.figures(now, HOUR, MINUTE)
    changed.total.rating.CopyFrom(type(changed.total.rating)(sum=500, count=250, mean=2.0))
    await planted.analytics.plant({HOUR: changed})
    await expect(tile(page, "Average rating")).to_have_text("2.00 ★")
    assert await page.evaluate("window.unbroken")


async def test_a_chart_can_be_read_as_a_table(page: Page, planted: Planted, planted_console: Console) -> None:
    await planted.analytics.plant({HOUR: samples.figures(time.time(), HOUR, MINUTE)})
    await page.goto(f"{planted_console.url}/live")
    await page.get_by_role("button", name="Table: Distribution of ratings").click()
    table = page.get_by_role("table", name="Distribution of ratings")
    await expect(table.get_by_role("row", name="5 ★").get_by_role("cell")).to_have_text("101")
    chart = page.get_by_role("img", name="Distribution of ratings: 1 ★ 14")
    await expect(chart).to_be_visible()


async def test_window_and_release_are_asked_for_and_kept_in_the_address(
    page: Page, planted: Planted, planted_console: Console
) -> None:
    await planted.analytics.plant(samples.windows(time.time()))
    await page.goto(f"{planted_console.url}/live")
    await page.get_by_label("24 h").check()
    await expect(tile(page, "Requests per minute")).to_have_text("12.4")
    await page.get_by_label("Policy release").select_option("policy-000002")
    await page.wait_for_url("**/live?window=24h&release=policy-000002")
    await page.reload()
    await expect(page.get_by_label("24 h")).to_be_checked()
    await expect(page.get_by_label("Policy release")).to_have_value("policy-000002")
    await expect(tile(page, "Average rating")).to_be_visible()
    asked = planted.analytics.asked[-1]
    assert (asked.window.seconds, asked.release) == (24 * HOUR, "policy-000002")


async def test_an_address_from_elsewhere_shows_what_there_is(page: Page, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/live?window=forever&release=%3Cscript%3Ealert(1)%3C/script%3E")
    await expect(page.get_by_label("1 h", exact=True)).to_be_checked()
    await expect(page.get_by_label("Policy release")).to_have_value("<script>alert(1)</script>")
