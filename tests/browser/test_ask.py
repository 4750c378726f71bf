"""Asking and rating, as people do it, against a whole Ratchet; and, where a server must say or count something certain,
against one that a test tells what to say."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from ratchet.v1 import feedback_pb2
from ratchet.v1 import inference_pb2 as pb
from tests.browser.answering import Answering, refusal_of, reply
from tests.browser.consoles import Console, console
from tests.browser.watched import Watch
from tests.conftest import new_home

QUESTION = "How long is the warranty?"
HOSTILE = """**Bold** <img src="http://192.0.2.1/x.png" onerror="document.title='taken'">
<script>document.title='taken'</script>

![pixel](http://192.0.2.1/pixel.png) [click](javascript:document.title='taken') [fine](https://example.com/a)

```python
print("<b>")
```"""


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Answering]:
    found = Answering()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def answering(server: Answering) -> Answering:
    """The server, with nothing said yet."""
    server.forget()
    server.answers, server.waiting, server.refusal, server.slow = [reply("Yes.", "No.")], False, None, 0.0
    server.key, server.log_closed = "", False
    return server


@pytest.fixture(scope="module")
def its_console(server: Answering) -> Iterator[Console]:
    home = new_home()
    with console(server.address, home) as found:
        yield found
    shutil.rmtree(home, ignore_errors=True)


async def ask(page: Page, query: str = QUESTION) -> Locator:
    """Asks, and gives the answer once it is there."""
    before = await page.locator(".answer .rating").count()
    await page.get_by_label("Your question").fill(query)
    await page.keyboard.press("Enter")
    answer = page.locator(".answer").nth(before)
    await answer.locator(".rating").wait_for()
    return answer


async def be(page: Page, url: str, name: str) -> None:
    """Opens the page as somebody with a name: a user of its own, with a limit of its own."""
    await page.goto(url)
    await page.get_by_role("button", name="Preferences").click()
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".who-name")).to_have_text(name)


def pressed(answer: Locator, name: str) -> Locator:
    return answer.get_by_role("button", name=name, exact=True, pressed=True)


async def test_ask_rate_change_the_vote_reload_and_see_it_remembered(page: Page, url: str) -> None:
    await be(page, url, "Reader")
    answer = await ask(page)
    await answer.get_by_role("button", name="Good answer").click()
    await expect(answer.get_by_text("Saved")).to_be_visible()
    await answer.get_by_role("group", name="Stars").first.get_by_role("button", name="2 of 5 stars").click()
    await answer.get_by_role("button", name="Bad answer").click()
    await expect(pressed(answer, "Bad answer")).to_be_visible()
    said = await answer.locator(".answer-text").inner_text()
    await page.reload()
    again = page.locator(".answer").first
    await expect(pressed(again, "Bad answer")).to_be_visible()
    await expect(pressed(again, "Good answer")).to_have_count(0)
    await expect(again.locator(".rating-row .star.lit")).to_have_count(2)
    assert await again.locator(".answer-text").inner_text() == said
    await again.get_by_role("button", name="Take back my rating").click()
    await expect(pressed(again, "Bad answer")).to_have_count(0)
    await page.reload()
    await expect(page.locator(".answer .star.lit")).to_have_count(0)
    await expect(pressed(page.locator(".answer").first, "Bad answer")).to_have_count(0)


async def test_comment_dimension_report_and_another_candidate_are_remembered(page: Page, url: str) -> None:
    await be(page, url, "Critic")
    for _ in range(5):
        answer = await ask(page, "Can I exchange my backpack for another size?")
        await answer.locator(".chosen > summary").click()
        await answer.locator(".candidates").wait_for()
        if await answer.locator(".better").count():
            break
    await answer.get_by_role("button", name="Comment").click()
    await answer.get_by_role("textbox", name="Comment").fill("Rõ ràng, cảm ơn!")
    await answer.get_by_role("button", name="Save comment").click()
    await expect(answer.get_by_role("button", name="Delete comment")).to_be_visible()
    await answer.get_by_role("button", name="More detail").click()
    await answer.get_by_role("group", name="Clarity").get_by_role("button", name="5 of 5 stars").click()
    await expect(answer.locator(".dimensions .star.lit")).to_have_count(5)
    await answer.get_by_role("button", name="Report a safety problem").click()
    await answer.get_by_label("What is wrong?").select_option(label="Something else")
    await answer.get_by_role("button", name="Send report").click()
    await expect(answer.get_by_text("You reported a safety problem.")).to_be_visible()
    await answer.locator(".better").first.click()
    await expect(answer.locator(".better-said").filter(visible=True)).to_have_count(1)
    await page.reload()
    again = page.locator(".answer").last
    await again.locator(".chosen > summary").click()
    await expect(again.locator(".better-said").filter(visible=True)).to_have_count(1)
    await again.get_by_role("button", name="Comment").click()
    await expect(again.get_by_role("textbox", name="Comment")).to_have_value("Rõ ràng, cảm ơn!")
    await again.get_by_role("button", name="More detail").click()
    await expect(again.locator(".dimensions .star.lit")).to_have_count(5)
    await again.get_by_role("button", name="Report a safety problem").click()
    await expect(again.get_by_role("button", name="Take the report back")).to_be_visible()


async def test_a_vote_clicked_twice_is_sent_once(page: Page, its_console: Console, answering: Answering) -> None:
    answering.slow = 0.2
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.get_by_role("button", name="Good answer").dblclick()
    await expect(pressed(answer, "Good answer")).to_be_visible()
    await answer.get_by_role("button", name="Bad answer").click()
    await expect(pressed(answer, "Bad answer")).to_be_visible()
    reactions = [each.reaction_type for each in answering.rated]
    assert reactions == [feedback_pb2.REACTION_TYPE_THUMBS_UP, feedback_pb2.REACTION_TYPE_THUMBS_DOWN]


async def test_a_vote_counts_that_another_tab_has_changed_since(
    page: Page, context: BrowserContext, its_console: Console, answering: Answering
) -> None:
    """A tab that still shows four stars gives four when they are clicked: it can't know what was said elsewhere."""

    async def give(answer: Locator, stars: int) -> None:
        await answer.get_by_role("button", name=f"{stars} of 5 stars").first.click()
        await expect(answer.get_by_text("Saved")).to_be_visible()

    await page.goto(its_console.url)
    first = await ask(page)
    await give(first, 4)
    other = await context.new_page()
    await other.goto(page.url)
    second = other.locator(".answer")
    await expect(second.locator(".rating-row .star.lit")).to_have_count(4)
    await give(first, 1)
    await expect(first.locator(".rating-row .star.lit")).to_have_count(1)
    await give(second, 4)
    assert [each.rating_overall for each in answering.rated] == [4, 1, 4]
    await page.reload()
    await expect(page.locator(".rating-row .star.lit")).to_have_count(4)


async def test_which_candidate_is_better_can_be_changed_taken_back_and_said_again(
    page: Page, its_console: Console, answering: Answering
) -> None:
    answering.answers = [reply("Yes.", "No.", "Perhaps.")]
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.locator(".chosen > summary").click()
    said = answer.locator(".better-said").filter(visible=True)
    for number in (2, 3):
        await answer.get_by_role("button", name=f"Candidate {number} is better than the answer", exact=True).click()
        back = answer.get_by_role("button", name=f"Take back that candidate {number} is better than the answer")
        await expect(back).to_be_visible()
        await expect(said).to_have_count(1)
    await back.click()
    await expect(said).to_have_count(0)
    await expect(answer.get_by_text("Taken back.")).to_be_visible()
    await answer.get_by_role("button", name="Candidate 3 is better than the answer", exact=True).click()
    await expect(said).to_have_count(1)
    assert [each.chosen_index for each in answering.preferred] == [1, 2, 2]
    assert len(answering.withdrawn) == 1


async def test_too_much_feedback_is_told_kindly_and_the_same_vote_can_be_sent_again(
    page: Page, its_console: Console, answering: Answering
) -> None:
    answering.refusal = refusal_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=42)
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.get_by_role("button", name="4 of 5 stars").first.click()
    await expect(answer.get_by_text(re.compile("thank you! .* in 42 s"))).to_be_visible()
    await expect(answer.locator(".star.lit")).to_have_count(0)
    answering.refusal = None
    await answer.get_by_role("button", name="Try again").click()
    await expect(answer.locator(".rating-row .star.lit")).to_have_count(4)
    assert len({each.request_id for each in answering.rated}) == 1, "it is the same vote"


async def test_late_feedback_is_told_in_words(page: Page, its_console: Console, answering: Answering) -> None:
    answering.refusal = refusal_of(grpc.StatusCode.FAILED_PRECONDITION, "FEEDBACK_TOO_LATE")
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.get_by_role("button", name="Good answer").click()
    await expect(answer.get_by_text("This answer is too old to be rated.")).to_be_visible()


async def test_hostile_answers_and_evidence_do_nothing(page: Page, its_console: Console, answering: Answering) -> None:
    """Nothing runs, nothing is fetched (the page's watch would tell), links give nothing away."""
    evidence = pb.Evidence(tool="web", title="<b>Title</b>", text=HOSTILE, uri="javascript:document.title='taken'")
    answering.answers = [reply(HOSTILE, citations=[pb.Citation(number=1, evidence=evidence, support=0.5)])]
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.locator(".source summary").click()
    await answer.locator(".chosen > summary").click()
    await answer.locator(".candidate-text").wait_for()
    assert await answer.locator("img, script, iframe").count() == 0
    links = await answer.locator("a").evaluate_all("all => all.map(a => [a.href, a.rel, a.target])")
    assert {tuple(each) for each in links} == {
        ("http://192.0.2.1/pixel.png", "noopener noreferrer nofollow ugc", "_blank"),
        ("https://example.com/a", "noopener noreferrer nofollow ugc", "_blank"),
    }
    assert await page.title() == "Ask · Ratchet"
    assert "<script>" in await answer.locator(".passage").inner_text()


async def test_a_refusal_and_what_was_different_are_told(
    page: Page, its_console: Console, answering: Answering
) -> None:
    told = pb.Degradation(reason=pb.DEGRADATION_REASON_TOOL_UNAVAILABLE, detail="The web search was late.")
    refused = pb.GenerateResponse(
        response="I can't help with that.", refused=True, refusal_reasons=["It is unsafe."], degradations=[told]
    )
    answering.answers = [refused]
    await page.goto(its_console.url)
    answer = await ask(page)
    await expect(answer.get_by_text("No good enough answer")).to_be_visible()
    await expect(answer.get_by_text("The web search was late.")).to_be_visible()
    await answer.get_by_text("Why", exact=True).click()
    await expect(answer.get_by_text("It is unsafe.")).to_be_visible()


async def test_everything_works_by_keyboard_alone(page: Page, its_console: Console, answering: Answering) -> None:
    """Tab, Enter and Space only: skip the navigation, ask, rate, say which is better."""

    async def tab_to(name: str) -> None:
        for _ in range(60):
            await page.keyboard.press("Tab")
            focused = "(el => el.getAttribute('aria-label') || el.textContent)(document.activeElement)"
            if (await page.evaluate(focused)).startswith(name):
                outlined = "getComputedStyle(document.activeElement).outlineStyle"
                assert await page.evaluate(outlined) == "solid", f"no focus to be seen on {name}"
                return
        raise AssertionError(f"{name} can't be reached")

    await page.goto(its_console.url)
    await page.locator("#question").wait_for()
    await page.evaluate("document.activeElement.blur()")
    await tab_to("Skip to content")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.get_by_label("Your question").focus()
    await page.keyboard.type("First line")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second line")
    assert answering.asked == []
    await page.keyboard.press("Enter")
    await page.locator(".rating").wait_for()
    assert answering.asked[0].query == "First line\nsecond line"
    await page.evaluate("document.getElementById('main').focus()")
    await tab_to("Good answer")
    await page.keyboard.press("Space")
    await expect(pressed(page.locator(".answer"), "Good answer")).to_be_focused()
    await tab_to("How it was chosen")
    await page.keyboard.press("Enter")
    await page.locator(".better").wait_for()
    await tab_to("Candidate 2 is better")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("You said this one is better")).to_be_visible()
    assert (answering.preferred[0].chosen_index, answering.preferred[0].rejected_index) == (1, 0)


async def test_a_long_question_is_asked_whole_and_one_too_long_stays_in_the_box(
    page: Page, its_console: Console, answering: Answering
) -> None:
    """What the server can't take is refused by the byte, and never cut."""
    await page.goto(its_console.url)
    box = page.get_by_label("Your question")
    for text in ("ế" * 21_846, "x" * 2_000_000):
        await box.fill(text)
        await box.press("Enter")
        await expect(page.get_by_text("This question is longer than 64 KiB")).to_be_visible()
        assert await box.input_value() == text
        await page.reload()
    assert answering.asked == []
    await ask(page, "x" * 65_536)
    assert [len(each.query) for each in answering.asked] == [65_536]
    await expect(box).to_have_value("")


async def test_what_is_typed_right_after_enter_stays(page: Page, its_console: Console, answering: Answering) -> None:
    """Typed before the console could know of the question that was sent."""
    await page.goto(its_console.url)
    box = page.get_by_label("Your question")
    await box.fill(QUESTION)
    await box.evaluate(
        "box => { box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));"
        "box.value += 'And then?'; }"
    )
    await page.locator(".answer .rating").wait_for()
    await expect(box).to_have_value("And then?")
    assert [each.query for each in answering.asked] == [QUESTION]


async def test_stopping_cancels_the_call(page: Page, its_console: Console, answering: Answering) -> None:
    answering.waiting, before = True, answering.cancelled
    await page.goto(its_console.url)
    await page.get_by_label("Your question").fill(QUESTION)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text("2 drafted · 2 scored")).to_be_visible()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_text("Stopped.")).to_be_visible()
    async with asyncio.timeout(5):
        while answering.cancelled == before:
            await asyncio.sleep(0.02)
    answering.waiting = False
    await page.get_by_role("button", name="Ask again").click()
    await page.locator(".rating").wait_for()
    assert len(await page.locator(".asked").all()) == 1


async def test_a_page_left_while_an_answer_is_made_comes_back_to_it(
    page: Page, its_console: Console, answering: Answering
) -> None:
    answering.waiting = True
    await page.goto(its_console.url)
    await page.get_by_label("Your question").fill(QUESTION)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("2 drafted · 2 scored")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("2 drafted · 2 scored")).to_be_visible()
    answering.waiting = False
    await expect(page.locator(".rating")).to_have_count(1)
    assert len({each.request_id for each in answering.asked}) == 1, "the same question, not another one"


async def test_a_server_that_goes_away_is_said_and_what_was_asked_goes_on_when_it_is_back(
    page: Page, its_console: Console, answering: Answering
) -> None:
    await page.goto(its_console.url)
    answer = await ask(page)
    await answering.stop()
    try:
        await expect(page.get_by_text("The server is away.")).to_be_visible()
        await answer.get_by_role("button", name="Good answer").click()
        await expect(answer.get_by_text("The server does not answer right now.")).to_be_visible()
        await page.get_by_label("Your question").fill("And then?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".failed")).to_be_visible()
    finally:
        await answering.start()
    await expect(page.locator(".answer .rating")).to_have_count(2)
    await expect(page.get_by_text("The server is away.")).to_be_hidden()
    await answer.get_by_role("button", name="Try again").click()
    await expect(pressed(answer, "Good answer")).to_be_visible()


async def test_conversations_of_another_user_or_session_are_not_shown(
    page: Page, its_console: Console, answering: Answering
) -> None:
    await be(page, its_console.url, "Ann")
    await ask(page)
    address = page.url
    await page.get_by_role("button", name="Preferences").click()
    await page.get_by_label("Your name").fill("Ben")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".who-name")).to_have_text("Ben")
    await page.goto(address)
    await expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert await page.locator(".answer").count() == 0


async def test_who_may_not_read_the_log_still_comes_back_to_answers_and_votes(
    page: Page, its_console: Console, answering: Answering
) -> None:
    answering.log_closed = True
    await page.goto(its_console.url)
    answer = await ask(page)
    await answer.get_by_role("button", name="Good answer").click()
    await expect(pressed(answer, "Good answer")).to_be_visible()
    await page.reload()
    await expect(pressed(page.locator(".answer"), "Good answer")).to_be_visible()


async def test_language_and_theme_are_kept(page: Page, its_console: Console, answering: Answering) -> None:
    await page.goto(its_console.url)
    await page.get_by_role("button", name="Preferences").click()
    await page.get_by_label("Dark").check()
    await expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    await page.get_by_label("Tiếng Việt").check()
    await expect(page.get_by_role("heading", name="Bạn muốn hỏi điều gì?")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "vi"
    await expect(page.locator("body")).to_have_class(re.compile("body--dark"))


async def test_two_people_on_one_console_are_two(
    page: Page, context: BrowserContext, its_console: Console, answering: Answering
) -> None:
    await be(page, its_console.url, "Ann")
    assert context.browser is not None
    async with await context.browser.new_context(locale="en-US") as other:
        theirs = await other.new_page()
        await theirs.goto(its_console.url)
        await expect(theirs.locator(".who-name")).to_have_text("Anonymous")


async def test_an_address_that_leads_nowhere_says_so(page: Page, its_console: Console, watch: Watch) -> None:
    answer = await page.goto(f"{its_console.url}/nowhere")
    assert answer is not None
    assert answer.status == 404
    await expect(page.get_by_role("heading", name="There is no such page").last).to_be_visible()
    watch.faults.clear()  # the browser itself complains of the status


async def test_with_keys_a_visitor_signs_in_and_the_key_stays_with_the_console(
    page: Page, answering: Answering, watch: Watch
) -> None:
    """A wrong key is refused; the right one is sent with each call, and is in no page, address or cookie. What its
    visitor was told is gone for whoever signs in after them."""
    home, answering.key = new_home(), "ratchet_1_secret"
    with console(answering.address, home, "--keys", "on", RATCHET_API_KEY="ratchet_1_secret") as guarded:
        await page.goto(f"{guarded.url}/?c=mine", timeout=60_000)  # it may still be starting
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.get_by_label("API key").fill("ratchet_2_wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("The server does not know this key")).to_be_visible()
        await page.get_by_label("API key").fill(answering.key)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/?c=mine")
        await ask(page)
        kept = await page.content() + page.url + str(await page.context.cookies())
        kept += await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        assert "secret" not in kept.replace("ratchet_secret", "")
        await page.get_by_role("button", name="Preferences").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.goto(guarded.url)
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        answering.key, answering.log_closed = "ratchet_3_another", True  # who comes next in this tab sees nothing
        await page.goto(f"{guarded.url}/?c=mine")
        await page.get_by_label("API key").fill(answering.key)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/?c=mine")
        await expect(page.get_by_label("Your question")).to_be_visible()
        await expect(page.locator(".answer")).to_have_count(0)
    watch.away = True
    await page.goto("about:blank")
    shutil.rmtree(home, ignore_errors=True)


def test_no_server_of_this_test_run_takes_the_consoles_usual_port() -> None:
    """Servers of tests have no console unless they ask for one, so that two of them never want one port."""
    text = Path(__file__).parents[1].joinpath("e2e", "serving.py").read_text()
    assert '"--console", "off"' in text
