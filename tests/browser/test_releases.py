"""The page of releases: what serves, what each came from, and what the replicas have of it."""

import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from ratchet.v1 import release_pb2 as pb
from tests.browser import rollout_samples as samples
from tests.browser import training_samples
from tests.browser.conftest import PHONE
from tests.browser.consoles import Console
from tests.browser.planted import Planted, stamp
from tests.browser.planted_rollouts import PlantedReleases


@pytest.fixture
async def releases(planted: Planted) -> AsyncIterator[PlantedReleases]:
    """Each test plants its own."""
    planted.releases.clear()
    yield planted.releases
    planted.releases.clear()


async def test_the_list_says_what_serves_and_what_is_refused(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/releases")
    await expect(page.get_by_role("heading", name="No release yet")).to_be_visible()
    releases.plant(*samples.releases(time.time()))
    row = page.get_by_role("listitem").filter(has_text="reward-000003")
    for words in ("Rolling out: 50 %", "made of reward-000002", "published by training", "ready on 2 of 2 replicas"):
        await expect(row).to_contain_text(words)
    refused = page.get_by_role("listitem").filter(has_text="policy-000002")
    await expect(refused).to_contain_text(samples.REFUSAL)
    await expect(refused).to_contain_text("refused by 1 of 2 replicas")
    await expect(page.get_by_role("listitem").filter(has_text="named by the settings")).to_have_count(2)
    rows = page.locator(".run-row")
    await expect(rows).to_have_count(5)
    await page.get_by_role("radio", name="Policy").check()
    await expect(rows).to_have_count(2)
    await page.get_by_role("radio", name="All").check()
    await expect(rows).to_have_count(5)


async def test_older_releases_come_on_demand(page: Page, releases: PlantedReleases, planted_console: Console) -> None:
    for number in range(45):
        releases.plant(pb.Release(release=f"reward-{number:06}", publish_time=stamp(time.time())))
    await page.goto(f"{planted_console.url}/releases")
    rows = page.locator(".run-row")
    for count in (20, 40, 45):
        await expect(rows).to_have_count(count)
        if count < 45:
            await page.get_by_role("button", name="Show older ones").click()


async def test_a_release_tells_its_lineage_its_threshold_and_its_figures(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    releases.plant(*samples.releases(time.time()))
    await page.goto(f"{planted_console.url}/releases?release=reward-000003")
    names = page.get_by_role("list", name="3 releases, the oldest first").locator(".node-name")
    await expect(names).to_have_text(["ratchet-starter-reward", "reward-000001", "reward-000002", "reward-000003"])
    origin = page.get_by_role("region", name="Data and code")
    await expect(origin).to_contain_text("onnx-int8-cpu, tensorrt-fp16-sm90")
    await expect(origin.get_by_text("3f3f3f3f3f3f")).to_have_attribute("title", "3f" * 32)
    run = f"/training?run={training_samples.BETTER}"
    await expect(origin.get_by_role("link", name="See the run")).to_have_attribute("href", run)
    passing = page.get_by_role("region", name="What passes")
    await expect(passing).to_contain_text("0.583")
    await expect(passing).to_contain_text("as many of 812 replies")
    await expect(passing).to_contain_text("temperature 1.310")
    found = page.get_by_role("region", name="What its evaluation found").first
    await expect(found).to_contain_text("71.2 %")
    await expect(found).to_contain_text("69.1 to 73.3")
    await found.get_by_text("All 19 figures").click()
    await expect(found.get_by_role("rowheader", name="tfidf_pairwise_accuracy")).to_be_visible()
    parity = page.get_by_role("region", name="How near it is to the checkpoint").first
    for words in ("1.5 × 10⁻⁶", "int8.regret", "0.9964"):
        await expect(parity).to_contain_text(words)
    await expect(page.get_by_role("link", name="Go to its rollout")).to_have_attribute(
        "href", f"/rollouts?rollout={samples.CANARY}"
    )
    await page.get_by_role("link", name="reward-000002").click()
    await expect(page.get_by_text("In service since")).to_be_visible()
    await expect(page.get_by_role("button", name="Roll out")).to_have_count(0)


async def test_on_a_phone_no_figure_of_a_release_is_cut(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    release = next(samples.releases(time.time()))
    release.parity["winners_that_agree_in_order_and_regret"] = "the same order, and regret below the limit"
    releases.plant(release)
    await page.set_viewport_size(PHONE)
    await page.goto(f"{planted_console.url}/releases?release={release.release}")
    table = page.get_by_role("region", name="How near it is to the checkpoint").last
    await expect(table).to_contain_text("below the limit")
    assert await table.evaluate("each => each.scrollWidth <= each.clientWidth")


async def test_replicas_are_followed(page: Page, releases: PlantedReleases, planted_console: Console) -> None:
    found = {each.release: each for each in samples.releases(time.time())}
    release = found["policy-000002"]
    releases.plant(release)
    await page.goto(f"{planted_console.url}/releases?release=policy-000002")
    replicas = page.get_by_role("region", name="On the Triton replicas")
    refused = replicas.get_by_role("listitem").filter(has_text="triton-1.internal:8001")
    await expect(refused).to_contain_text("Refused")
    await expect(refused).to_contain_text(samples.REFUSAL)
    await expect(page.get_by_role("region", name="What passes")).to_have_count(0)  # a policy scores nothing
    release.replicas[1].state, release.replicas[1].refusal = pb.REPLICA_MODEL_STATE_READY, ""
    releases.plant(release)
    await expect(refused).to_contain_text("Ready")
    await expect(refused).not_to_contain_text(samples.REFUSAL)
    del release.replicas[:]
    release.rollout_id = ""
    releases.plant(release)
    await expect(replicas).to_contain_text("No replica has it.")
    await expect(page.get_by_role("button", name="Roll out")).to_be_visible()


async def test_a_release_of_no_more_than_a_name_is_shown(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    bare = pb.Release(release="reward-000009", kind=pb.RELEASE_KIND_REWARD, parent="reward-000008")
    releases.plant(bare)
    await page.goto(f"{planted_console.url}/releases?release=reward-000009")
    await expect(page.locator(".lineage")).to_contain_text("Never published here")
    await expect(page.get_by_role("region", name="What passes")).to_contain_text("It has none.")
    await expect(page.get_by_role("region", name="What its evaluation found")).to_contain_text("Nothing was recorded")
    await page.goto(f"{planted_console.url}/releases?release=%3Cb%3E")
    missing = page.get_by_role("alert")
    await expect(missing.get_by_role("heading", name="There is no such release")).to_be_visible()
    await missing.get_by_role("link", name="All releases").click()
    await page.wait_for_url("**/releases")


async def test_a_release_is_retired_after_a_yes_and_then_rolls_out_no_more(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    releases.plant(*samples.releases(time.time()))
    releases.refusal = "The settings name reward-000001 (RATCHET_REWARD)."
    await page.goto(f"{planted_console.url}/releases?release=reward-000001")
    await page.get_by_role("button", name="Retire").click()
    dialog = page.get_by_role("dialog", name="Retire this release?")
    await expect(dialog).to_contain_text("reward-000001")
    await dialog.get_by_role("button", name="Retire").click()
    await expect(dialog.get_by_role("alert")).to_contain_text(releases.refusal)
    await dialog.get_by_role("button", name="Keep it").click()
    await expect(dialog).to_be_hidden()
    assert not releases.releases["reward-000001"].HasField("retire_time")
    releases.refusal = ""
    await page.get_by_role("button", name="Retire").click()
    await dialog.get_by_role("button", name="Retire").click()
    await expect(page.get_by_text("Retired since")).to_be_visible()
    await expect(dialog).to_be_hidden()
    for name in ("Retire", "Roll out"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    await page.goto(f"{planted_console.url}/releases")
    await expect(page.get_by_role("listitem").filter(has_text="reward-000001").last).to_contain_text("Retired")


async def test_what_serves_or_rolls_out_is_not_offered_to_be_retired(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    releases.plant(*samples.releases(time.time()))
    for name in ("reward-000002", "reward-000003"):
        await page.goto(f"{planted_console.url}/releases?release={name}")
        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await expect(page.get_by_role("button", name="Retire")).to_have_count(0)


async def test_what_training_made_in_vain_is_told_while_it_is_newer_than_what_serves(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    now = time.time()
    releases.plant(*samples.releases(now))
    releases.refused.extend(samples.refused(now))
    releases.refused[1].reason = "<b>tokenizer.json</b> was altered."
    await page.goto(f"{planted_console.url}/releases")
    notice = page.get_by_role("region", name="Training made something newer that can't be published")
    await expect(notice.get_by_role("listitem")).to_have_count(3)
    first = notice.get_by_role("listitem").first
    await expect(first).to_contain_text("reward-000008 is not on this machine")
    await expect(first).to_contain_text("/srv/ratchet/training/releases/reward-000008")
    await expect(first.get_by_role("link")).to_have_attribute("href", f"/training?run={training_samples.BETTER}")
    await expect(notice).to_contain_text("<b>tokenizer.json</b> was altered.")
    await expect(notice).to_contain_text("And 1 more: `ratchet releases refused`")
    await first.get_by_role("button", name="Publish").click()
    dialog = page.get_by_role("dialog", name="Publish a release")
    await expect(dialog.get_by_label("Directory")).to_have_value("/srv/ratchet/training/releases/reward-000008")
    await page.keyboard.press("Escape")
    del releases.refused[:4]
    await expect(notice).to_have_count(0)


async def test_a_directory_is_published_and_what_is_wrong_with_it_is_said(
    page: Page, releases: PlantedReleases, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/releases")
    await page.get_by_role("button", name="Publish").click()
    dialog = page.get_by_role("dialog", name="Publish a release")
    publish, alert = dialog.get_by_role("button", name="Publish"), dialog.get_by_role("alert")
    await publish.click()
    await expect(alert).to_contain_text("beginning with /")
    await dialog.get_by_label("Directory").fill("models/reward-000009")
    await publish.click()
    await expect(alert).to_contain_text("beginning with /")
    releases.refusal = "encoder.onnx was altered."
    await dialog.get_by_label("Directory").fill("/srv/models/reward-000009")
    releases.publishing.clear()
    await publish.click()
    await expect(publish).to_be_disabled()
    await expect(alert).to_have_count(0)
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_disabled()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    releases.publishing.set()
    await expect(alert).to_contain_text(releases.refusal)
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_enabled()
    releases.refusal = ""
    await publish.click()
    await expect(page).to_have_url(f"{planted_console.url}/releases?release=reward-000009")
    await expect(page.get_by_role("heading", name="reward-000009")).to_be_visible()
