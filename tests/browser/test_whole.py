"""From a call to what people see of it: a whole Ratchet, its figures and its alerts, on pages that nobody reloads."""

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from playwright.async_api import Page, expect

from ratchet.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
)
from triton_models.manifest import MANIFEST

USER = "whole"


@dataclass(frozen=True)
class Calls:
    """What a backend service does."""

    channel: grpc.aio.Channel

    async def ask(self, query: str) -> inference_pb2.GenerateResponse:
        stub = inference_pb2_grpc.InferenceServiceStub(self.channel)
        return await stub.Generate(inference_pb2.GenerateRequest(query=query, user_id=USER), timeout=60)

    async def rate(self, response_id: str, stars: int) -> None:
        request = feedback_pb2.SubmitFeedbackRequest(response_id=response_id, user_id=USER, rating_overall=stars)
        await feedback_pb2_grpc.FeedbackServiceStub(self.channel).SubmitFeedback(request, timeout=30)

    async def report(self, response_id: str) -> None:
        report = feedback_pb2.SafetyReport(category=feedback_pb2.SAFETY_CATEGORY_DANGEROUS, detail="Do not try this.")
        request = feedback_pb2.SubmitFeedbackRequest(response_id=response_id, user_id=USER, safety_report=report)
        await feedback_pb2_grpc.FeedbackServiceStub(self.channel).SubmitFeedback(request, timeout=30)

    async def publish(self, directory: Path) -> None:
        request = release_pb2.PublishReleaseRequest(directory=str(directory))
        await release_pb2_grpc.ReleaseServiceStub(self.channel).PublishRelease(request, timeout=60)


@pytest.fixture
async def calls(address: str) -> AsyncIterator[Calls]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Calls(channel)


async def test_a_reply_and_a_rating_show_on_the_live_page(page: Page, url: str, calls: Calls) -> None:
    first = await calls.ask("How long is the warranty?")
    await page.goto(f"{url}/live")
    replies = page.locator(".stat", has_text="Requests per minute").locator(".stat-note")
    await expect(replies).to_contain_text("replies")
    before = int((await replies.inner_text()).split()[0])
    rating = page.locator(".stat", has_text="Average rating").locator(".stat-note")
    rated = int((await rating.inner_text()).split()[0])
    await calls.ask("Where is my order?")
    await calls.rate(first.response_id, 4)
    await expect(replies).to_contain_text(f"{before + 1} replies")
    await expect(rating).to_contain_text(f"{rated + 1} ratings")
    await expect(page.get_by_role("img", name="Reward scores by release")).to_be_visible()


async def test_a_safety_report_alerts_is_taken_on_and_stays_so(page: Page, url: str, calls: Calls) -> None:
    answer = await calls.ask("Can I open the battery?")
    await page.goto(f"{url}/alerts")
    await expect(page.get_by_role("heading", name="Rules")).to_be_visible()
    await calls.report(answer.response_id)
    card = page.get_by_role("article").filter(has_text="Safety report")
    await expect(card).to_contain_text("Critical")
    await expect(card).to_contain_text("dangerous")  # an earlier test's report may fire already: wait for this one
    await expect(page.locator(".nav-badge")).to_contain_text("1")
    await card.get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog", name="Acknowledge this alert")
    await dialog.get_by_label("Your name").fill("Lan")
    await dialog.get_by_label("Note").fill("Read it: harmless.")
    await dialog.get_by_role("button", name="Acknowledge").click()
    past = page.locator(".history-line").filter(has_text="Safety report")
    for _ in range(2):
        await expect(past).to_contain_text("Acknowledged by Lan")
        await expect(past).to_contain_text("Read it: harmless.")
        await expect(page.get_by_role("article")).to_have_count(0)
        await page.reload()


async def test_a_release_is_rolled_out_and_back_by_a_person(page: Page, url: str, calls: Calls, tmp_path: Path) -> None:
    await page.goto(f"{url}/experiments")
    await expect(page.get_by_role("heading", name="Nothing is compared now")).to_be_visible()
    await page.goto(f"{url}/rollouts?rollout=0199f000-0000-7000-8000-000000000101")
    await expect(page.get_by_role("alert")).to_contain_text("There is no such rollout")
    await page.goto(f"{url}/releases")
    await expect(page.get_by_role("listitem").filter(has_text="In service")).to_have_count(2)
    await calls.publish(another_reward(tmp_path))
    await page.get_by_role("link", name="reward-000099").click()
    await expect(page.get_by_role("region", name="What passes").locator("strong")).to_have_text("0.600")
    await page.get_by_role("button", name="Roll out").click()
    dialog = page.get_by_role("dialog", name="Start a rollout")
    await dialog.get_by_label("Unseen first (shadow)").uncheck()
    await dialog.get_by_text("Plan for experts").click()
    await dialog.get_by_label("Stages").fill("10, 300")
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("plan.stages[1].share")
    await dialog.get_by_label("Stages").fill("20, 100")
    await dialog.get_by_label("Reason").fill("To see it.")
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_text("Canary 20 %", exact=True)).to_be_visible(timeout=60_000)
    await expect(page.get_by_role("region", name="What happened")).to_contain_text("To see it.")
    await answer(page, "Pause", "Wait.")
    await expect(page.get_by_text("By a person")).to_be_visible()
    await answer(page, "Resume")
    await answer(page, "Promote", "Everybody now.")
    await expect(page.get_by_text("Canary 100 %", exact=True)).to_be_visible()
    await page.goto(f"{url}/experiments")
    card = page.get_by_role("region", name="reward-000099, reward-000001")
    await expect(card).to_contain_text("95 %")
    await card.get_by_role("link", name="See the rollout").click()
    await answer(page, "Roll back", "Enough.")
    await expect(page.locator(".step-back")).to_contain_text("100 %")
    await expect(page.get_by_role("region", name="What happened").get_by_text("Enough.")).to_be_visible()


async def answer(page: Page, name: str, reason: str = "") -> None:
    """Presses a command's button, gives a reason and agrees."""
    await page.get_by_role("button", name=name, exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(reason)
    await dialog.get_by_role("button", name=name, exact=True).click()
    await expect(dialog).to_be_hidden()


def another_reward(folder: Path) -> Path:
    """The starter's reward release under another name."""
    made = folder / "reward-000099"
    shutil.copytree(Path(__file__).parents[2] / "starter" / "reward-000001", made)
    written = json.loads((made / MANIFEST).read_text()) | {"id": made.name, "parent": "reward-000001"}
    (made / MANIFEST).write_text(json.dumps(written))
    return made
