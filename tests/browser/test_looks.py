"""Every page in both languages, light and dark, on a desk and a phone: pictures to look at, and what they must keep."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser import checks, rollout_samples, samples, training_samples
from tests.browser.conftest import DESKTOP, PATIENCE, PHONE
from tests.browser.consoles import Console
from tests.browser.planted import Planted
from tests.browser.watched import POLLING, Watch, settled

PICTURES = Path(__file__).parents[2] / ".cache" / "screenshots"
LOCALES = {"en": "en-US", "vi": "vi-VN"}
COLOURS = 60
"""A page with words has hundreds: each letter's edge has its own."""


@pytest.fixture(scope="module", autouse=True)
async def figures(planted: Planted) -> AsyncIterator[None]:
    """Something to see on each page."""
    now = time.time()
    await planted.analytics.plant(samples.windows(now))
    planted.alerts.rules = samples.rules()
    ids = [planted.alerts.plant(alert) for alert in samples.alerts(now)]
    plant_training(planted, now)
    rollout_samples.plant(planted.releases, planted.rollouts, now)
    planted.experiments.found = {rollout_samples.EXPERIMENT: rollout_samples.experiment(now)}
    yield
    planted.training.clear()
    planted.releases.clear()
    planted.rollouts.clear()
    planted.experiments.found.clear()
    for each in ids:
        del planted.alerts.alerts[each]


def plant_training(planted: Planted, now: float) -> None:
    planted.training.waiting = 412
    for run in training_samples.runs(now):
        planted.training.plant(run, *training_samples.points())
    planted.training.reports[training_samples.BETTER] = training_samples.report()
    planted.training.items = {item.item_id: item for item in training_samples.items()}


@pytest.fixture(params=LOCALES)
async def visitor(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[BrowserContext]:
    """Somebody whose browser prefers one of the languages."""
    async with await browser.new_context(locale=LOCALES[request.param], reduced_motion="reduce") as found:
        found.set_default_timeout(PATIENCE)
        yield found


async def look(page: Page, name: str, watch: Watch) -> None:
    """Takes the pictures, and asks of each what must hold."""
    language = await page.evaluate("document.documentElement.lang")
    await page.mouse.move(0, 0)
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            await page.set_viewport_size(viewport)
            coloured = "theme => document.body.classList.contains(`body--${theme}`)"
            await page.wait_for_function(coloured, arg=theme, polling=POLLING)
            await settled(page)
            path = PICTURES / f"{name}-{language[:2]}-{theme}-{size}.png"
            picture = await page.screenshot(path=path)
            assert await checks.too_wide(page) == [], path
            assert await checks.faint(page) == [], path
            assert await checks.colours(page, picture) > COLOURS, path
    assert await checks.unnamed(page) == []
    assert await checks.disorder(page) == []
    assert watch.faults == []
    print(f"pictures of {name}: {PICTURES}/{name}-*.png")


async def test_live(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/live")
    await page.locator(".chart svg").first.wait_for()
    await look(page, "live", watch)


async def test_alerts(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/alerts")
    await page.locator(".alert-card").first.wait_for()
    await page.locator(".rules").wait_for()
    await look(page, "alerts", watch)


async def test_training(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/training")
    await page.locator(".run-row").nth(4).wait_for()
    await look(page, "training", watch)


async def test_a_training_run(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/training?run={training_samples.BETTER}")
    await page.locator(".chart svg").first.wait_for()
    await page.locator(".run-verdict").wait_for()
    await look(page, "training-run", watch)


async def test_a_training_run_under_way(context: BrowserContext, planted_console: Console) -> None:
    page, watch = await context.new_page(), Watch(context)
    await page.goto(f"{planted_console.url}/training?run={training_samples.RUNNING}")
    await page.locator(".chart svg").first.wait_for()
    await page.locator(".story-facts").wait_for()
    await look(page, "training-running", watch)


async def test_review(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/review")
    await page.locator(".review-card").wait_for()
    await look(page, "review", watch)


async def test_releases(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases")
    await page.locator(".run-row").nth(5).wait_for()
    await page.locator(".unpublished li").first.wait_for()
    await look(page, "releases", watch)


async def test_a_release(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases?release=reward-000003")
    await page.locator(".lineage").wait_for()
    await look(page, "release", watch)


async def test_a_retired_release(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases?release={rollout_samples.RETIRED}")
    await page.locator(".lineage").wait_for()
    await look(page, "release-retired", watch)


async def test_retiring_a_release(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases?release=reward-000001")
    await page.locator(".run-card .btn-ghost").click()
    await page.locator("dialog[open]").wait_for()
    await look(page, "release-retire", watch)


async def test_rollouts(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/rollouts")
    await page.locator(".run-row").nth(4).wait_for()
    await look(page, "rollouts", watch)


@pytest.mark.parametrize(
    ("name", "rollout"),
    [
        ("rollout", rollout_samples.CANARY),
        ("rollout-paused", rollout_samples.PAUSED),
        ("rollout-back", rollout_samples.BACK),
    ],
)
async def test_a_rollout(visitor: BrowserContext, planted_console: Console, name: str, rollout: str) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/rollouts?rollout={rollout}")
    await page.locator(".measure").first.wait_for()
    await look(page, name, watch)


@pytest.mark.parametrize("what", ["rollout", "release"])
async def test_nothing_of_that_name(visitor: BrowserContext, planted_console: Console, what: str) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/{what}s?{what}=garbage")
    await page.locator(".state-title").wait_for()
    await look(page, f"{what}-missing", watch)


async def test_starting_a_rollout(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases?release=reward-000001")
    await page.locator(".run-card .btn-primary").click()
    await page.locator("dialog[open] .select").wait_for()
    await look(page, "rollout-start", watch)
    await page.locator("dialog[open] summary").click()
    await look(page, "rollout-plan", watch)


async def test_deciding_on_a_rollout(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/rollouts?rollout={rollout_samples.CANARY}")
    await page.locator(".rollout-buttons .btn-primary").click()
    await page.locator("dialog[open] textarea").wait_for()
    await look(page, "rollout-promote", watch)


async def test_experiments(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/experiments")
    await page.locator(".measure").first.wait_for()
    await look(page, "experiments", watch)


async def test_publishing(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/releases")
    await page.locator(".run-row").first.wait_for()
    await page.locator(".bar-actions .btn-primary").click()
    await page.locator("dialog[open] input").wait_for()
    await look(page, "publish", watch)


async def test_starting_an_experiment(visitor: BrowserContext, planted_console: Console) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{planted_console.url}/experiments")
    await page.locator(".measure").first.wait_for()
    await page.locator(".bar-actions .btn-primary").click()
    await page.locator("dialog[open] select").wait_for()
    await look(page, "experiment-new", watch)


QUESTIONS = {"en": "How long is the warranty?", "vi": "Bảo hành bao lâu?"}


async def test_ask(visitor: BrowserContext, url: str) -> None:
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(url)
    await settled(page)
    await look(page, "ask-empty", watch)
    await page.locator("textarea").fill(QUESTIONS[await page.evaluate("document.documentElement.lang.slice(0, 2)")])
    await page.keyboard.press("Enter")
    await page.locator(".answer .rating").first.wait_for()
    await look(page, "ask", watch)
