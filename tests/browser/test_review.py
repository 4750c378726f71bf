"""The review page: replies are judged by click and by key, left for later and taken back; nothing is judged twice."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.browser import training_samples as samples
from tests.browser.conftest import PHONE
from tests.browser.consoles import Console
from tests.browser.planted import Planted
from tests.browser.planted_training import PlantedTraining

KETTLE, COOKER, ORDER = (item.query for item in samples.items())


@pytest.fixture
async def queue(planted: Planted) -> AsyncIterator[PlantedTraining]:
    """Three replies."""
    planted.training.clear()
    planted.training.items = {item.item_id: item for item in samples.items()}
    yield planted.training
    planted.training.clear()


def given(queue: PlantedTraining) -> list[tuple[str, int, str]]:
    """Queries, stars and notes of all judgements, in order."""
    return [(queue.items[each.item_id].query, each.label, each.note) for each in queue.judged]


async def test_a_reply_is_shown_with_all_that_a_judgement_can_rest_on(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/review")
    card = page.get_by_role("article", name="Reply to judge")
    await expect(card).to_contain_text(KETTLE)
    await expect(card.locator("strong")).to_have_text("30 days")
    await expect(card.get_by_role("region", name="What the answer could rest on")).to_contain_text(
        "when they are unused"
    )
    await expect(card.get_by_role("link", name="The whole reply")).to_have_attribute(
        "href", "/conversations/0199f000-0000-7000-8000-000000000201"
    )
    await expect(page.get_by_text("3 open")).to_be_visible()


async def test_what_others_said_is_told_once_a_reply_is_judged_so_that_it_leads_nobody(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/review")
    room = page.locator(".review")
    for query in (KETTLE, COOKER):
        await expect(page.locator(".review-query")).to_have_text(query)
        card = page.get_by_role("article", name="Reply to judge")
        for told in ("The model", "People", "Disputed", "High score", "Nobody"):
            await expect(card).not_to_contain_text(told)
        await page.keyboard.press("4")
    await expect(room).to_contain_text("The model 4.6 ★ · People 2.0 ★ · Disputed")
    await expect(room).to_contain_text("The model 4.9 ★ · Nobody has rated it. · High score")


async def test_on_a_phone_nothing_empty_stands_above_the_reply(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    await page.set_viewport_size(PHONE)
    await page.goto(f"{planted_console.url}/review")
    await page.locator(".review-card").wait_for()
    above = "document.querySelector('.review-card').getBoundingClientRect().top"
    below = "document.querySelector('.review').getBoundingClientRect().top"
    assert await page.evaluate(f"{above} - {below}") <= 1
    await page.get_by_role("button", name="4 stars").click()
    await expect(page.get_by_text("Judged: 4 ★")).to_be_visible()


async def test_keys_judge_leave_for_later_and_take_back(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/review")
    query = page.locator(".review-query")
    await expect(query).to_have_text(KETTLE)
    await page.keyboard.press("n")
    await expect(query).to_have_text(COOKER)
    await page.keyboard.press("5")
    await expect(query).to_have_text(ORDER)
    await expect(page.get_by_text("Judged: 5 ★")).to_be_visible()
    await expect(page.get_by_text("2 open")).to_be_visible()
    await page.keyboard.press("1")
    await expect(query).to_have_text(KETTLE)
    await page.keyboard.press("u")
    await expect(query).to_have_text(ORDER)
    await expect(page.get_by_text("Taken back")).to_be_visible()
    await page.keyboard.press("2")
    await expect(query).to_have_text(KETTLE)
    await page.keyboard.press("3")
    await expect(page.get_by_role("heading", name="All judged, thank you!")).to_be_visible()
    assert given(queue) == [(COOKER, 5, ""), (ORDER, 1, ""), (ORDER, 0, ""), (ORDER, 2, ""), (KETTLE, 3, "")]
    await page.keyboard.press("4")
    await page.get_by_role("button", name=f"Take back: {COOKER}").click()
    await expect(query).to_have_text(COOKER)
    assert given(queue)[-1] == (COOKER, 0, ""), "with nothing on the page a key judges nothing"


async def test_a_note_goes_with_a_click_and_its_letters_are_no_commands(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/review")
    note = page.get_by_label("Note (may stay empty)")
    await note.click()
    await page.keyboard.type("nun 1 <b>không</b>")
    await page.get_by_role("button", name="2 stars: Poor").click()
    await expect(page.locator(".review-query")).to_have_text(COOKER)
    assert given(queue) == [(KETTLE, 2, "nun 1 <b>không</b>")]
    await expect(note).to_have_value("")
    await page.keyboard.press("Control+5")
    await page.keyboard.press("4")
    await expect(page.locator(".review-query")).to_have_text(ORDER)
    assert given(queue)[1:] == [(COOKER, 4, "")], "after a click keys go on working"


async def test_a_reply_that_is_gone_is_told_and_passed_over(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    queue.lost.add(next(iter(queue.items)))
    await page.goto(f"{planted_console.url}/review")
    await expect(page.locator(".review-query")).to_have_text(KETTLE)
    await page.keyboard.press("4")
    await expect(page.locator(".review-query")).to_have_text(COOKER)
    await expect(page.locator(".review-said")).to_have_text("That did not work: There is no item of this id.")
    assert given(queue) == []


async def test_more_than_a_page_is_judged_in_one_go_and_an_empty_queue_says_where_it_fills(
    page: Page, queue: PlantedTraining, planted_console: Console
) -> None:
    first = next(iter(queue.items.values()))
    queue.items = {}
    await page.goto(f"{planted_console.url}/review")
    await expect(page.get_by_role("heading", name="Nothing to judge")).to_be_visible()
    await expect(page.get_by_role("link", name="See the training runs")).to_have_attribute("href", "/training")
    for number in range(23):
        item = type(first).FromString(first.SerializeToString())
        item.item_id, item.query = f"item-{number}", f"Question {number}"
        queue.items[item.item_id] = item
    await page.reload()
    for number in range(23):
        await expect(page.locator(".review-query")).to_have_text(f"Question {number}")
        await page.keyboard.press("3")
    await expect(page.get_by_role("heading", name="All judged, thank you!")).to_be_visible()
    assert [each.item_id for each in queue.judged] == [f"item-{number}" for number in range(23)]


async def test_only_one_runs_replies_where_the_address_says_so_and_trouble_can_be_tried_again(
    page: Page, planted: Planted, queue: PlantedTraining, planted_console: Console
) -> None:
    last = list(queue.items.values())[-1]
    last.training_id = samples.WORSE
    await page.goto(f"{planted_console.url}/review?run={samples.WORSE}")
    await expect(page.locator(".review-query")).to_have_text(ORDER)
    await planted.stop()
    await page.keyboard.press("3")
    await expect(page.locator(".review-said")).to_contain_text("That was not saved")
    await expect(page.locator(".away-inside")).to_be_visible()
    await planted.start()
    await expect(page.locator(".away-inside")).to_be_hidden()
    await page.keyboard.press("3")
    await expect(page.get_by_role("heading", name="All judged, thank you!")).to_be_visible()
    assert given(queue) == [(ORDER, 3, "")]
