"""The alerts page: an alert comes, is taken on, and goes, without anybody reloading anything."""

import time

import pytest
from playwright.async_api import Locator, Page, expect

from ratchet.v1 import alert_pb2
from tests.browser import samples
from tests.browser.consoles import Console
from tests.browser.planted import RESOLVED, Planted, stamp


@pytest.fixture(autouse=True)
def none(planted: Planted) -> None:
    """Each test plants its own."""
    planted.alerts.alerts.clear()
    planted.alerts.rules = samples.rules()


def badge(page: Page) -> Locator:
    return page.get_by_role("navigation").locator(".nav-badge")


def rating_low() -> alert_pb2.Alert:
    found = samples.alert("rating_low", "policy-000002", time.time() - 90, (3.12, 3.5, 84), "Ratings are low.")
    found.link = "/live?window=1h&release=policy-000002"
    return found


async def test_an_alert_comes_and_goes_on_its_own(page: Page, planted: Planted, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/alerts")
    await expect(page.get_by_role("heading", name="All quiet")).to_be_visible()
    await expect(badge(page)).to_have_count(0)
    alert = rating_low()
    alert.alert_id = planted.alerts.plant(alert)
    card = page.get_by_role("article")
    await expect(card).to_contain_text("Ratings are low.")
    await expect(card).to_contain_text("Value 3.12 ★, fires at 3.50 ★ · 84 samples")
    await expect(badge(page)).to_contain_text("1")
    await expect(card.get_by_role("link", name="Show the evidence")).to_have_attribute("href", alert.link)
    alert.state = RESOLVED
    alert.resolve_time.CopyFrom(stamp(time.time()))
    planted.alerts.plant(alert)
    await expect(page.get_by_role("heading", name="All quiet")).to_be_visible()
    await expect(page.locator(".history-line")).to_contain_text("Low rating")
    await expect(badge(page)).to_have_count(0)


async def test_the_badge_counts_on_every_page(page: Page, planted: Planted, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/live")
    for count in (1, 2):
        planted.alerts.plant(rating_low())
        await expect(badge(page)).to_contain_text(str(count))


async def test_who_acknowledges_and_why_stays_after_a_reload(
    page: Page, planted: Planted, planted_console: Console
) -> None:
    planted.alerts.plant(rating_low())
    await page.goto(f"{planted_console.url}/alerts")
    await page.get_by_role("button", name="Acknowledge: Low rating").click()
    dialog = page.get_by_role("dialog", name="Acknowledge this alert")
    await dialog.get_by_label("Your name").fill("Lan")
    await dialog.get_by_label("Note").fill("Đang xem <b>lại</b> bản mới")
    await dialog.get_by_role("button", name="Acknowledge").click()
    card = page.get_by_role("article")
    for _ in range(2):
        await expect(card).to_contain_text("Acknowledged by Lan")
        await expect(card).to_contain_text("Đang xem <b>lại</b> bản mới")
        await expect(card.get_by_role("button")).to_have_count(0)
        await page.reload()


async def test_an_alert_that_is_gone_meanwhile_is_told_in_the_dialog(
    page: Page, planted: Planted, planted_console: Console
) -> None:
    planted.alerts.plant(rating_low())
    await page.goto(f"{planted_console.url}/alerts")
    await page.get_by_role("button", name="Acknowledge: Low rating").click()
    planted.alerts.alerts.clear()
    dialog = page.get_by_role("dialog", name="Acknowledge this alert")
    await dialog.get_by_role("button", name="Acknowledge").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("there is no such alert")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_rules_show_how_they_stand(page: Page, planted: Planted, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/alerts")
    await expect(page.get_by_role("row", name="Low rating")).to_contain_text("3.12 ★ (84 samples)")
    await expect(page.get_by_role("row", name="Error rate")).to_contain_text("too few samples (12)")
    planted.alerts.rules[1].value = 4.4
    await expect(page.get_by_role("row", name="Low rating")).to_contain_text("4.40 ★")
