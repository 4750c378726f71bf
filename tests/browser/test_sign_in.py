"""Signing in and out of a console whose server wants keys: in one tab, in two, and by one person after another."""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from playwright.async_api import Page, expect

from ratchet.v1 import feedback_pb2
from tests.browser.answering import Answering, refusal_of, refuse, reply
from tests.browser.consoles import Console, console
from tests.conftest import new_home

KEY = "ratchet_1_secret"
QUESTION = "How long is the warranty?"


class OnePersons(Answering):
    """Its key is that of `owner`, where there is one, and reads no log."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.log_closed, self.owner = KEY, True, ""

    async def ListFeedback(
        self, request: feedback_pb2.ListFeedbackRequest, context: Any
    ) -> feedback_pb2.ListFeedbackResponse:
        await self._let_in(context)
        if self.owner and request.user_id != self.owner:
            await refuse(context, refusal_of(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"))
        return await super().ListFeedback(request, context)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[OnePersons]:
    found = OnePersons()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(scope="module")
def guarded(server: OnePersons) -> Iterator[Console]:
    """A console that asks for keys."""
    home = new_home()
    with console(server.address, home, "--keys", "on") as found:
        yield found
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def answering(server: OnePersons) -> OnePersons:
    """The server, with nothing said yet."""
    server.forget()
    server.answers, server.waiting, server.owner = [reply("Yes.", "No.")], False, ""
    server.log_closed = True
    return server


async def enter(page: Page, name: str = "") -> None:
    """Fills in the form that is on the screen, and sends it."""
    await page.get_by_label("API key").fill(KEY)
    await page.get_by_label("Your name (optional)").fill(name)
    await page.get_by_role("button", name="Sign in").click()


async def sign_in(page: Page, url: str, name: str = "") -> None:
    """Goes to an address that asks for a key first, and signs in."""
    await page.goto(url)
    await enter(page, name)
    await expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)


async def sign_out(page: Page) -> None:
    await page.get_by_role("button", name="Preferences").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def ask(page: Page) -> None:
    await page.get_by_label("Your question").fill(QUESTION)
    await page.keyboard.press("Enter")


async def test_signing_out_in_one_tab_leaves_no_page_in_another(
    page: Page, guarded: Console, answering: OnePersons
) -> None:
    """Neither one with an answer, nor one whose server offers nothing it shows."""
    await sign_in(page, f"{guarded.url}/?c=mine", "Ann")
    await ask(page)
    await expect(page.locator(".answer .rating")).to_be_visible()
    elsewhere, page_of_signing_out = await page.context.new_page(), await page.context.new_page()
    await elsewhere.goto(f"{guarded.url}/conversations")
    await expect(elsewhere.locator(".who-name")).to_have_text("Ann")
    await page_of_signing_out.goto(guarded.url)
    await sign_out(page_of_signing_out)
    for each in (page, elsewhere):
        await expect(each.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_text(QUESTION)).to_have_count(0)


async def test_a_page_becomes_that_of_who_signs_in_in_another_tab(
    page: Page, guarded: Console, answering: OnePersons
) -> None:
    """Trying a key that is refused changes nothing; the same key in another name is another visitor."""
    await sign_in(page, f"{guarded.url}/?c=mine", "Ann")
    await ask(page)
    await expect(page.locator(".answer .rating")).to_be_visible()
    other = await page.context.new_page()
    await other.goto(f"{guarded.url}/sign-in")
    answering.owner = "Ben"
    await enter(other, "Cid")
    await expect(other.get_by_text("This key is another person's.")).to_be_visible()
    await page.wait_for_timeout(2500)  # longer than pages take to look
    await expect(page.locator(".answer .rating")).to_be_visible()
    await enter(other, "Ben")
    await expect(page.locator(".who-name")).to_have_text("Ben")
    await expect(page.get_by_label("Your question")).to_be_visible()
    await expect(page.locator(".answer")).to_have_count(0)
    assert [each.user_id for each in answering.asked] == ["Ann"]


@pytest.mark.parametrize("log_closed", [True, False])
async def test_who_comes_next_with_the_same_key_gets_neither_name_nor_replies_nor_the_open_question(
    page: Page, guarded: Console, answering: OnePersons, log_closed: bool
) -> None:
    answering.log_closed = log_closed
    await sign_in(page, f"{guarded.url}/?c=mine", "Ann")
    await ask(page)
    await expect(page.locator(".answer .rating")).to_be_visible()
    answering.waiting = True
    await ask(page)
    await expect(page.get_by_text("2 drafted · 2 scored")).to_be_visible()
    await sign_out(page)
    await expect(page.get_by_label("Your name (optional)")).to_have_value("")
    await sign_in(page, f"{guarded.url}/?c=mine", "Ben")
    await expect(page.locator(".who-name")).to_have_text("Ben")
    await expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    await expect(page.locator(".answer")).to_have_count(0)
    assert {each.user_id for each in answering.asked} == {"Ann"}
    answering.waiting = False


async def test_a_key_of_one_person_asks_for_that_name(page: Page, guarded: Console, answering: OnePersons) -> None:
    answering.owner = "Ann"
    await page.goto(f"{guarded.url}/sign-in")
    await enter(page)
    await expect(page.get_by_text("This key is for one person only.")).to_be_visible()
    await enter(page, "Ben")
    await expect(page.get_by_text("This key is another person's.")).to_be_visible()
    await page.goto(guarded.url)
    await expect(page).to_have_url(re.compile("/sign-in"))
    await enter(page, " Ann ")
    await expect(page.locator(".who-name")).to_have_text("Ann")
