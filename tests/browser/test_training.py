"""The training page: runs come, move and end without a reload; one is started, watched, cancelled and explained."""

import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from ratchet.v1 import training_pb2 as pb
from tests.browser import training_samples as samples
from tests.browser.consoles import Console
from tests.browser.planted import Planted, stamp
from tests.browser.planted_training import PlantedTraining
from tests.browser.watched import Watch


@pytest.fixture
async def training(planted: Planted) -> AsyncIterator[PlantedTraining]:
    """Each test plants its own."""
    planted.training.clear()
    yield planted.training
    planted.training.clear()


def run(training_id: str) -> pb.Training:
    return next(each for each in samples.runs(time.time()) if each.training_id == training_id)


async def test_the_list_says_what_waits_and_follows_each_run(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    training.waiting = 412
    await page.goto(f"{planted_console.url}/training")
    await expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
    await expect(page.get_by_text("412 of 1,000 new ratings")).to_be_visible()
    await expect(page.get_by_role("meter", name="Waiting for the next run")).to_have_attribute("aria-valuenow", "41")
    running = run(samples.RUNNING)
    training.plant(running)
    row = page.get_by_role("listitem").filter(has_text="roberta-base")
    await expect(row).to_contain_text("Training · 42 %")
    await row.evaluate("each => { window.row = each }")
    running.progress, running.stage = 0.9, "evaluation"
    training.plant(running)
    training.waiting = 1000
    await expect(row).to_contain_text("Evaluating · 90 %")
    await expect(page.get_by_text("There are enough")).to_be_visible()
    await expect(page.get_by_text("1,000 new ratings, 1,000 are enough")).to_be_visible()
    training.plant(run(samples.BETTER))
    ended = page.get_by_role("listitem").filter(has_text="reward-000002")
    for words in ("Better", "71.2 % right, in service 67.9 %", "by Lan", "1 h 24 min", "Not reproducible"):
        await expect(ended).to_contain_text(words)
    assert await page.evaluate("window.row.isConnected"), "a line that somebody may be on stays the same element"
    texts = await page.locator(".run-row").all_inner_texts()
    assert ["roberta-base" in text for text in texts] == [True, False], "newest first"


async def test_older_runs_come_on_demand_and_each_once(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    for number in range(45):
        training.plant(pb.Training(training_id=f"run-{number}", create_time=stamp(time.time() - 60 * number)))
    await page.goto(f"{planted_console.url}/training")
    rows = page.locator(".run-row")
    for count in (20, 40, 45):
        await expect(rows).to_have_count(count)
        if count < 45:
            await page.get_by_role("button", name="Show older ones").click()
    await expect(page.get_by_role("button", name="Show older ones")).to_have_count(0)
    assert await rows.nth(44).get_attribute("href") == "/training?run=run-44"


async def test_a_run_is_asked_for_with_the_settings_that_were_named_and_its_page_opens(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/training")
    await page.get_by_role("button", name="Start training").click()
    dialog = page.get_by_role("dialog", name="Start a training run?")
    await dialog.get_by_text("Settings for experts").click()
    await dialog.get_by_label("Base model").fill("roberta-base")
    await dialog.get_by_label("Learning rate").fill("viele")
    start = dialog.get_by_role("button", name="Start training")
    await start.click()
    await expect(dialog.get_by_role("alert")).to_have_text("Learning rate: this is no number.")
    await dialog.get_by_label("Learning rate").fill("3e-5")
    await dialog.get_by_label("Seeds").fill("99")
    await start.click()
    await expect(dialog.get_by_role("alert")).to_contain_text("config.seeds: must be at most 10")
    assert training.started == []
    await dialog.get_by_label("Seeds").fill("3")
    await start.click()
    await page.wait_for_url("**/training?run=*")
    (request,) = training.started
    assert request.config["base"] == "roberta-base"
    assert dict(request.config["train"]) == {"learning_rate": 3e-5}
    assert request.config["seeds"] == 3
    await expect(page.get_by_text("Waits for a trainer")).to_be_visible()


async def test_without_a_word_the_trainers_own_settings_hold(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/training")
    await page.get_by_role("button", name="Start training").click()
    await expect(page.get_by_role("dialog").get_by_role("button", name="Start training")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert training.started == []
    await page.get_by_role("button", name="Start training").click()
    await page.get_by_role("dialog").get_by_role("button", name="Start training").click()
    await page.wait_for_url("**/training?run=*")
    assert [list(request.config) for request in training.started] == [[]]


async def test_curves_grow_and_begin_anew_with_another_attempt(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    running, points = run(samples.RUNNING), samples.points(60)
    training.plant(running, *points[:20])
    await page.goto(f"{planted_console.url}/training?run={samples.RUNNING}")
    chart = page.get_by_role("region", name="Loss", exact=True).locator(".chart")
    await expect(chart).to_have_attribute("aria-label", f"Loss: Loss {points[19].values['loss']:.3f}")
    await expect(page.get_by_role("region", name="Validation pairs in the right order")).to_contain_text("No data")
    running.progress = 0.6
    training.plant(running, *points[20:40])
    await expect(chart).to_have_attribute("aria-label", f"Loss: Loss {points[39].values['loss']:.3f}")
    right = page.get_by_role("region", name="Validation pairs in the right order").locator(".chart")
    await expect(right).to_have_attribute("aria-label", "Validation pairs in the right order: Right 62.0%")
    await expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "60")
    await page.get_by_role("button", name="Table: Learning rate by step").click()
    table = page.get_by_role("table", name="Learning rate by step")
    await expect(table.get_by_role("row", name="31", exact=False).first).to_contain_text("×10⁻⁶")
    training.plant(running, *points[:5], restarted=True)
    await expect(table.get_by_role("row")).to_have_count(6)


async def test_what_came_out_is_shown_as_soon_as_the_run_ends(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    running = run(samples.RUNNING)
    training.plant(running, *samples.points(5))
    await page.goto(f"{planted_console.url}/training?run={samples.RUNNING}")
    await expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    await page.evaluate("window.unbroken = true")
    found, html = samples.report()
    found["verdict"]["clauses"][3]["passed"] = False
    training.reports[samples.RUNNING] = found, html
    ended = run(samples.BETTER)
    ended.training_id = samples.RUNNING
    training.plant(ended)
    why = page.get_by_role("region", name="Why")
    await expect(why).to_contain_text("It ranks better than reward-000001.")
    await expect(why.get_by_role("listitem")).to_have_count(4)
    await expect(why.get_by_role("listitem").nth(0)).to_contain_text("Passed:")
    await expect(why.get_by_role("listitem").nth(2)).to_contain_text("Could not be asked:")
    await expect(why.get_by_role("listitem").nth(3)).to_contain_text("Not passed:")
    tile = page.locator(".stat", has_text="Against the one in service")
    await expect(tile).to_contain_text("+3.3")
    await expect(tile).to_contain_text("+0.8 to +5.9")
    compared = page.get_by_role("region", name="Pairs in the right order", exact=True)
    await expect(compared.get_by_role("meter", name="The longer one wins")).to_have_attribute("aria-valuenow", "55")
    data = page.get_by_role("region", name="What went into it")
    await expect(data).to_contain_text("5,120 ratings, 1,204 of them new")
    await data.get_by_text("639 rows were left out: why").click()
    await expect(data.get_by_role("row", name="bot")).to_contain_text("212")
    await page.get_by_role("region", name="All settings").get_by_text("All settings").click()
    await expect(page.get_by_role("row", name="train.learning_rate")).to_contain_text("2e-05")
    await expect(page.get_by_role("row", name="train.batch_size")).to_contain_text("16")
    await expect(page.get_by_role("button", name="Cancel the run")).to_have_count(0)
    assert await page.evaluate("window.unbroken")


async def test_too_little_data_is_said_once_and_what_is_unknown_is_a_dash(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    sentence = "There is too little data to tell anything: 12 validation pairs of 3 users."
    little = run(samples.BETTER)
    little.verdict, little.release, little.reasons[:] = pb.TRAINING_VERDICT_TOO_LITTLE_DATA, "", [sentence]
    for name in [name for name in little.metrics if "similar" in name]:
        del little.metrics[name]
    found, html = samples.report()
    found["verdict"] = {"summary": sentence, "clauses": [{"passed": False, "sentence": sentence}]}
    training.reports[samples.BETTER] = found, html
    training.plant(little)
    await page.goto(f"{planted_console.url}/training?run={samples.BETTER}")
    await expect(page.get_by_role("region", name="Why").get_by_text(sentence)).to_have_count(1)
    tile = page.locator(".stat", has_text="of similar length")
    await expect(tile.locator(".stat-value")).to_have_text("–")
    await expect(tile).to_contain_text("too few such pairs")


async def test_the_report_is_shown_and_nothing_in_it_runs_or_reaches_the_console(
    page: Page, watch: Watch, training: PlantedTraining, planted_console: Console
) -> None:
    training.plant(run(samples.BETTER))
    training.reports[samples.BETTER] = samples.report()
    address = f"{planted_console.url}/training/report?run={samples.BETTER}"
    answer = await page.request.get(address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert (await (await page.request.get(f"{address}&form=json")).json())["version"] == 1
    await page.goto(f"{planted_console.url}/training?run={samples.BETTER}")
    await page.get_by_role("button", name="Show it here").click()
    frame = page.frame_locator("iframe[title=Report]")
    await expect(frame.get_by_role("heading", name="Reward model report")).to_be_visible()
    await expect(frame.locator("#x")).to_have_text("Tốt hơn")
    assert await page.locator("iframe").get_attribute("sandbox") == ""
    (blocked,) = watch.faults
    assert "Blocked script execution" in blocked
    watch.faults.clear()
    await page.get_by_role("button", name="Show it here").click()
    await expect(page.locator("iframe")).to_have_count(0)
    missing = await page.request.get(f"{planted_console.url}/training/report?run={samples.FAILED}")
    assert (missing.status, await missing.text()) == (404, "That did not work: This run has no report.")


async def test_a_run_is_cancelled_after_a_question(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    training.plant(run(samples.RUNNING))
    await page.goto(f"{planted_console.url}/training?run={samples.RUNNING}")
    await page.get_by_role("button", name="Cancel the run").click()
    dialog = page.get_by_role("dialog", name="Cancel this run?")
    await dialog.get_by_role("button", name="Let it go on").click()
    await expect(dialog).to_be_hidden()
    assert not training.runs[samples.RUNNING].cancelling
    await page.get_by_role("button", name="Cancel the run").click()
    await dialog.get_by_role("button", name="Cancel the run").click()
    await expect(page.get_by_text("It was asked to stop")).to_be_visible()
    await expect(page.get_by_text("Stopping", exact=True)).to_be_visible()
    cancelled = run(samples.RUNNING)
    cancelled.state = pb.TRAINING_STATE_CANCELLED
    training.plant(cancelled)
    await expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()


async def test_what_went_wrong_and_what_was_there_before_are_said(
    page: Page, training: PlantedTraining, planted_console: Console
) -> None:
    for each in (samples.FAILED, samples.DUPLICATE, samples.WORSE):
        training.plant(run(each))
    await page.goto(f"{planted_console.url}/training?run={samples.FAILED}")
    await expect(page.get_by_role("alert")).to_contain_text("deberta-v3-smal' can't be had")
    await page.goto(f"{planted_console.url}/training?run={samples.DUPLICATE}")
    await page.get_by_role("link", name="an earlier run").click()
    await page.wait_for_url(f"**/training?run={samples.WORSE}")
    await expect(page.get_by_role("region", name="Why")).to_contain_text("0.4 points behind")
    await expect(page.get_by_role("region", name="Why")).to_contain_text("Its ratings stay for the next run.")
    await page.goto(f"{planted_console.url}/training?run=%3Cb%3Enone%3C/b%3E")
    await expect(page.get_by_role("heading", name="That did not work")).to_be_visible()


async def test_a_server_that_goes_away_and_comes_back_is_followed_again(
    page: Page, planted: Planted, training: PlantedTraining, planted_console: Console
) -> None:
    running = run(samples.RUNNING)
    training.plant(running, *samples.points(5))
    await page.goto(f"{planted_console.url}/training?run={samples.RUNNING}")
    await expect(page.get_by_text("42 %")).to_be_visible()
    await planted.stop()
    await expect(page.get_by_text("The server is away; reconnecting.")).to_be_visible()
    running.progress = 0.8
    training.plant(running)
    await planted.start()
    await expect(page.get_by_text("80 %")).to_be_visible()
    await expect(page.get_by_text("The server is away; reconnecting.")).to_have_count(0)


async def test_with_a_real_server_a_run_waits_is_cancelled_and_stays_in_the_list(page: Page, url: str) -> None:
    await page.goto(f"{url}/training")
    await page.get_by_role("button", name="Start training").click()
    dialog = page.get_by_role("dialog", name="Start a training run?")
    await dialog.get_by_text("Settings for experts").click()
    await dialog.get_by_label("Seeds").fill("1.5")
    await dialog.get_by_role("button", name="Start training").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("config.seeds: must be a whole number")
    await dialog.get_by_label("Seeds").fill("2")
    await dialog.get_by_role("button", name="Start training").click()
    await page.wait_for_url("**/training?run=*")
    await page.get_by_role("button", name="Cancel the run").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    await expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    await page.get_by_role("link", name="All runs").click()
    await expect(page.get_by_role("listitem").filter(has_text="Cancelled")).to_contain_text("by somebody")
    await expect(page.get_by_text("of 1,000 new ratings")).to_be_visible()
    await page.goto(f"{url}/review")
    await expect(page.get_by_role("heading", name="Nothing to judge")).to_be_visible()
