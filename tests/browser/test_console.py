"""What holds on every page: language and appearance stay, the keyboard reaches everything, a server may come and go."""

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser import checks, rollout_samples, samples
from tests.browser.consoles import Console
from tests.browser.planted import Planted
from tests.browser.samples import HOUR, MINUTE


async def test_language_and_appearance_are_remembered(
    page: Page, context: BrowserContext, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/live")
    await page.get_by_role("button", name="Preferences").click()
    await page.get_by_role("radio", name="Dark").check()
    await expect(page.locator("body.body--dark")).to_be_visible()
    await page.get_by_role("radio", name="Tiếng Việt").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Trực tiếp")
    again = await context.new_page()
    await again.goto(f"{planted_console.url}/alerts")
    await expect(again.get_by_role("heading", level=1)).to_have_text("Cảnh báo")
    await expect(again.locator("html")).to_have_attribute("lang", "vi")
    await expect(again.locator("body.body--dark")).to_be_visible()


async def walk(page: Page) -> list[str]:
    """Goes through the page by Tab, from its first control to its last; gives them in that order."""
    reached: list[str] = []
    await page.evaluate("document.querySelector('.skip-link').focus({focusVisible: true})")
    for _ in range(80):
        name, seen = await checks.focused(page)
        if not name:
            break
        assert seen, f"nobody sees that {name} has the keyboard"
        reached.append(name)
        await page.keyboard.press("Tab")
    assert await checks.unreached(page) == []
    return reached


PAGES = {
    "live": ".chart svg",
    "alerts": ".alert-card",
    "releases": ".run-row",
    "releases?release=reward-000001": ".lineage",
    "rollouts": ".run-row",
    f"rollouts?rollout={rollout_samples.PAUSED}": ".report",
    "experiments": ".measure",
}
"""What is there once a page is."""


@pytest.mark.parametrize("path", PAGES)
async def test_the_keyboard_reaches_every_control_and_shows_where_it_is(
    page: Page, planted: Planted, planted_console: Console, path: str
) -> None:
    await planted.analytics.plant({HOUR: samples.figures(1.8e9, HOUR, MINUTE)})
    planted.alerts.alerts.clear()
    planted.alerts.plant(samples.alert("rating_low", "policy-000002", 1.8e9, (3.1, 3.5, 84), "Ratings are low."))
    rollout_samples.plant(planted.releases, planted.rollouts, 1.8e9)
    await page.goto(f"{planted_console.url}/{path}")
    await page.locator(PAGES[path]).first.wait_for()
    assert len(await walk(page)) > 5
    planted.releases.releases.clear()
    planted.rollouts.clear()


async def test_the_keyboard_reaches_every_control_of_an_answer_and_of_the_log(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_label("Your question").fill("How long is the warranty?")
    await page.keyboard.press("Enter")
    await page.locator(".answer .rating").first.wait_for()
    await walk(page)
    await page.goto(f"{url}/conversations")
    await page.locator(".log-item").first.wait_for()
    await walk(page)


async def test_an_alert_is_acknowledged_by_keyboard_alone(
    page: Page, planted: Planted, planted_console: Console
) -> None:
    planted.alerts.alerts.clear()
    planted.alerts.plant(samples.alert("rating_low", "policy-000002", 1.8e9, (3.1, 3.5, 84), "Ratings are low."))
    await page.goto(f"{planted_console.url}/alerts")
    await page.get_by_role("button", name="Acknowledge: Low rating").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Minh")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("article")).to_contain_text("Acknowledged by Minh")
    await expect(page.get_by_role("article")).to_be_focused()


async def test_the_skip_link_leads_to_the_content(page: Page, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/alerts")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("main#main")).to_be_focused()


async def test_a_page_lives_through_the_servers_absence(page: Page, planted: Planted, planted_console: Console) -> None:
    await planted.analytics.plant({HOUR: samples.figures(1.8e9, HOUR, MINUTE)})
    planted.alerts.alerts.clear()
    await page.goto(f"{planted_console.url}/live")
    rating = page.locator(".stat", has_text="Average rating").locator(".stat-value")
    await expect(rating).to_have_text("3.98 ★")
    await planted.stop()
    try:
        await expect(page.get_by_text("Reconnecting").first).to_be_visible()
        await expect(page.get_by_text("The server is away.")).to_be_visible()
        await expect(rating).to_have_text("3.98 ★")
        fresh = await page.context.new_page()
        await fresh.goto(f"{planted_console.url}/alerts")
        await expect(fresh.get_by_text("The server does not answer right now.").first).to_be_visible()
    finally:
        await planted.start()
    await expect(page.locator(".live-on")).to_be_visible()
    await expect(page.get_by_text("The server is away.")).to_be_hidden()
    await expect(fresh.get_by_role("heading", name="All quiet")).to_be_visible()
    await expect(fresh.locator(".state-trouble")).to_have_count(0)
