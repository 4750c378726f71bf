"""The pages of the log in a browser, over a real log of a tenant that the test writes."""

import shutil
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from ratchet.v1 import conversation_pb2_grpc
from server.rpc.conversations import ConversationService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.storage.conversations import Conversations
from server.types import Check, Citation, Evidence, Finding, ToolOutcome, ToolRun
from tests.browser.consoles import Console, console
from tests.browser.test_looks import look, visitor  # noqa: F401  # `visitor` is a fixture
from tests.browser.watched import Watch
from tests.conftest import new_home
from tests.logged import OfTenant, entry_at, give_feedback, log
from tests.turns import a_candidate

BEGAN = datetime.now(UTC) - timedelta(hours=2)
HOSTILE = "<img src=x onerror=\"document.title='taken'\"> [pixel](http://192.0.2.1/p.png) ![p](http://192.0.2.1/q.png)"
PAGE = 30


@dataclass
class Book:
    """A log behind a console at `url`."""

    pool: asyncpg.Pool
    tenant: str
    url: str
    ids: dict[str, str]
    server: grpc.aio.Server

    async def write(self, name: str, minutes: float, **changes: Any) -> uuid.UUID:
        moment = BEGAN + timedelta(minutes=minutes)
        entry = entry_at(moment, uuid.uuid4().int % 2**60, tenant_id=self.tenant, **changes)
        (made,) = await log(self.pool, entry)
        self.ids[name] = str(made)
        return made


@pytest.fixture(scope="module")
async def served(pool: asyncpg.Pool, browser: Browser) -> AsyncIterator[tuple[str, str, grpc.aio.Server]]:
    """Tenant, address and the server itself."""
    tenant = f"tenant-{uuid.uuid4()}"
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=64)), OfTenant(tenant)])
    service = ConversationService(Conversations(pool), Defaults())
    conversation_pb2_grpc.add_ConversationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield tenant, f"127.0.0.1:{port}", server
    await server.stop(0)


@pytest.fixture(scope="module")
def its_console(served: tuple[str, str, grpc.aio.Server]) -> Iterator[Console]:
    home = new_home()
    with console(served[1], home) as found:
        # The first page of all makes the console read what pages need: no visitor's patience should pay for it.
        urllib.request.urlopen(f"{found.url}/conversations", timeout=60).close()
        yield found
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
async def book(served: tuple[str, str, grpc.aio.Server], its_console: Console, pool: asyncpg.Pool) -> Book:
    """More replies than a page holds, a few of which have something to tell."""
    found = Book(pool, served[0], its_console.url, {}, served[2])
    for number in range(PAGE + 4):
        await found.write(f"plain-{number}", number, query=f"Question {number}", user_id="bob", session_id="b1")
    page = Evidence("docs", "doc-1", "Bảo hành", "Hai năm kể từ ngày mua.", "https://shop.example/warranty", 0.91)
    run = ToolRun("docs", ToolOutcome.FOUND, 0.8, 0.012, "1 passage", (page,))
    checked = (Finding(Check.REWARD, True, 0.5), Finding(Check.SAFETY, False, 0.1, "It insults the reader."))
    whole = a_candidate(0, "Bảo hành **hai năm**.", 0.91)
    rejected = a_candidate(1, HOSTILE, 0.2)
    object.__setattr__(rejected, "findings", checked)
    rich = await found.write(
        "rich",
        50,
        query="Bảo hành bao lâu?",
        context="Khách VIP",
        text="Bảo hành **hai năm**.",
        score=0.91,
        tool_runs=(run,),
        candidates=(whole, rejected),
        citations=(Citation(1, page, 0.8),),
    )
    await give_feedback(
        pool, found.tenant, rich, rating_overall=2, reaction_type="thumbs_down", text_feedback="Chưa rõ", revision=2
    )
    await give_feedback(pool, found.tenant, rich, kind="safety_report", safety_category="misleading", withdrawn=True)
    await found.write("hostile", 51, query=HOSTILE, text=HOSTILE)
    return found


def items(page: Page) -> Locator:
    return page.locator(".log-item")


async def test_words_are_searched_by_keyboard_and_a_reply_is_opened_and_left_again(page: Page, book: Book) -> None:
    """Enter in the field searches, the address keeps it, Enter on a line opens it, Back leads back."""
    await page.goto(f"{book.url}/conversations")
    await expect(items(page)).to_have_count(PAGE)
    await page.get_by_role("searchbox").fill("BẢO HÀNH")
    await page.keyboard.press("Enter")
    await expect(items(page)).to_have_count(1)
    assert "text=" in page.url
    await items(page).focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    assert page.url.endswith(book.ids["rich"])
    await page.go_back()
    await expect(items(page)).to_have_count(1)


async def test_older_replies_come_page_by_page(page: Page, book: Book) -> None:
    await page.goto(f"{book.url}/conversations?user=bob")
    await expect(items(page)).to_have_count(PAGE)
    await page.get_by_role("button", name="More").click()
    await expect(items(page)).to_have_count(PAGE + 4)
    await expect(page.get_by_text("That is all.")).to_be_visible()
    texts = await page.locator(".log-query").all_inner_texts()
    assert texts == [f"Question {number}" for number in range(PAGE + 3, -1, -1)]


async def test_filters_are_chosen_shown_and_dropped(page: Page, book: Book) -> None:
    await page.goto(f"{book.url}/conversations")
    await page.get_by_text("Filters", exact=True).click()
    await page.get_by_role("combobox", name="Rating").select_option("1-2")
    await page.get_by_role("textbox", name="Release").fill("policy-000001")
    await page.locator(".log-filters").get_by_role("button", name="Search").click()
    await expect(items(page)).to_have_count(1)
    assert "rating=1-2" in page.url
    assert "release=policy-000001" in page.url
    await page.get_by_role("link", name="Rating: Bad, 1 or 2 stars: remove this filter").click()
    await expect(items(page)).to_have_count(PAGE)
    await page.get_by_role("link", name="Clear all").click()
    await expect(page.locator(".log-given")).to_have_count(0)


@pytest.mark.parametrize(
    ("address", "count"),
    [
        ("rating=1-2", 1),
        ("rating=1-2&release=policy-000001", 1),
        ("flag=safety_reported", 0),
        ("flag=commented&reaction=thumbs_down&time=24h", 1),
        ("score=0.9-1", 1),
        ("user=bob&session=b1&from_day=2001-01-01", PAGE),
        ("rating=9&flag=nonsense&time=never&score=x&until_day=soon", PAGE),
    ],
)
async def test_an_address_says_what_is_shown_and_nonsense_in_it_does_no_harm(
    page: Page, book: Book, address: str, count: int
) -> None:
    await page.goto(f"{book.url}/conversations?{address}")
    await expect(items(page) if count else page.get_by_text("No reply fits")).to_have_count(count or 1)


async def test_one_reply_is_told_whole(page: Page, book: Book) -> None:
    await page.goto(f"{book.url}/conversations/{book.ids['rich']}")
    story = page.locator(".story")
    for text in (
        *("Bảo hành bao lâu?", "policy-000001", "champion, 100% of the traffic", "0.910", "Candidate 2"),
        *("It insults the reader.", "Chưa rõ", "revision 2", "Taken back", "Misleading", "probability 100%"),
    ):
        await expect(story.get_by_text(text).first).to_be_visible()
    await story.get_by_text("Context that the caller gave").click()
    await expect(story.get_by_text("Khách VIP")).to_be_visible()
    await story.get_by_text("Earlier in the session (1)").click()
    await expect(story.get_by_text("Xin chào")).to_be_visible()
    await story.locator("summary", has_text="docs").click()
    await expect(story.get_by_text("Hai năm kể từ ngày mua.").last).to_be_visible()
    await expect(story.locator(".story-bars tr")).to_have_count(1)
    await story.get_by_role("link", name="ann").click()
    await expect(items(page)).to_have_count(2)


async def test_what_people_and_models_wrote_is_shown_and_does_nothing(page: Page, book: Book, watch: Watch) -> None:
    for path in ("conversations", f"conversations/{book.ids['hostile']}", f"conversations/{book.ids['rich']}"):
        await page.goto(f"{book.url}/{path}")
        await expect(page.get_by_text("<img src=x").first).to_be_visible()
        assert "taken" not in await page.title()
    assert watch.faults == []


@pytest.mark.parametrize("name", ["019a0000-0000-7000-8000-000000000000", "nonsense", "%3Cb%3E"])
async def test_a_reply_that_is_not_there_leads_back_to_the_list(page: Page, book: Book, name: str) -> None:
    await page.goto(f"{book.url}/conversations/{name}")
    await expect(page.get_by_role("heading", name="There is no such reply")).to_be_visible()
    await page.locator(".state-actions").get_by_role("link").click()
    await expect(items(page)).to_have_count(PAGE)


async def test_new_replies_are_announced_and_nothing_moves_until_they_are_asked_for(page: Page, book: Book) -> None:
    await page.goto(f"{book.url}/conversations?user=zoe")
    await expect(page.get_by_text("No reply fits")).to_be_visible()
    await log(
        book.pool,
        entry_at(datetime.now(UTC), tenant_id=book.tenant, user_id="zoe", session_id="z", query="Brand new"),
    )
    await expect(page.get_by_text("There are new replies")).to_be_visible()
    await expect(items(page)).to_have_count(0)
    await page.get_by_role("button", name="Show them").click()
    await expect(items(page)).to_have_count(1)
    await expect(page.get_by_text("There are new replies")).to_have_count(0)


async def test_pictures(visitor: BrowserContext, book: Book) -> None:  # noqa: F811
    page, watch = await visitor.new_page(), Watch(visitor)
    await page.goto(f"{book.url}/conversations?score=0.4-1&user=ann")
    await items(page).first.wait_for()
    await look(page, "conversations", watch)
    await page.goto(f"{book.url}/conversations/{book.ids['rich']}")
    await page.locator(".story-bars").wait_for()
    await look(page, "conversation", watch)


async def test_a_server_that_is_away_is_a_sentence_and_a_way_on(page: Page, book: Book) -> None:
    """The last test of this module: it ends the server."""
    await page.goto(f"{book.url}/conversations")
    await expect(items(page)).to_have_count(PAGE)
    await book.server.stop(0)
    await page.get_by_role("button", name="More").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(items(page)).to_have_count(PAGE)
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
